lors compare --help
