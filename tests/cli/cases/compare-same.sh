tiny --name base
tiny --name again --shards 3
lors compare models/base models/again
lors compare models/base models/again/ --quiet
lors compare --json models/base models/again
