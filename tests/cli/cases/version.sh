lors --version
