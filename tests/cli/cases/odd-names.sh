# Names from strangers reach neither the terminal nor JSON as they are; they still work as paths.
python3 - <<'END'
import sys
sys.path.insert(0, __import__("os").environ["SOURCE"] + "/tests/support")
import tiny_models
names = ["esc\x1b[31mred", "line\nbreak", "turn\u202earound", "del\x7f", "\u00e9t\u00e9", "a" * 300]
tiny_models.write_safetensors("odd.safetensors",
                              [(name, "F32", [1], bytes(4)) for name in names])
END
lors inspect odd.safetensors
lors inspect odd.safetensors --json | python3 -c \
    'import json, sys; print([t["name"][:20] for t in json.load(sys.stdin)["tensors"]])'
folder=$'fold\xe9r\n\e[1m'
mkdir "$folder"
cp odd.safetensors "$folder/model.safetensors"
lors compare "$folder" odd.safetensors
lors compare "$folder" odd.safetensors --json | head -n 3
lors inspect "$folder/nothing"
models
recipe
merge -o "$folder/out" | head -n 1
lors verify "$folder/out" -q
