lors merge --help
