lors plan --help
