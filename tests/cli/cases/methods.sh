lors methods
