lors methods --help
