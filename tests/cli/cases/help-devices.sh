lors devices --help
