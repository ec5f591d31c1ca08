tiny --name base --shards 2 --naming openai --dtype f16
lors inspect models/base
