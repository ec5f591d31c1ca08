lors verify --help
