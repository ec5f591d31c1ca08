models
recipe
merge -q -o out && test -e out/model.safetensors
