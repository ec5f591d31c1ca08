tiny --name base
lors inspect models/base/model.safetensors
