models
recipe
merge -q -o out
python3 - <<'END'
with open("out/model.safetensors", "r+b") as file:
    file.seek(-5, 2)
    byte = file.read(1)[0]
    file.seek(-5, 2)
    file.write(bytes([byte ^ 1]))
END
lors verify out
