lors inspect --help
