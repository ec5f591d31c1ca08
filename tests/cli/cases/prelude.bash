# prelude.bash - functions of all cases. Models are made in models/, the recipe is recipe.yaml.

# tiny OPTIONS: one model (see tests/support/tiny_models.py).
tiny() { python3 "$SOURCE/tests/support/tiny_models.py" models "$@"; }

# models [OPTIONS OF THE FINE-TUNES]: base, and its fine-tunes de and fr.
models() {
    tiny --name base --seed 1
    tiny --name de --delta-of base --seed 2 --rank 2 "$@"
    tiny --name fr --delta-of base --seed 3 --rank 2
}

# weights NAME TENSOR ...: NAME.safetensors of tensors such as w=F32:2x3:1,2,nan; the last value
# fills what is left.
weights() {
    python3 - "$@" <<'END'
import math, os, sys
sys.path.insert(0, os.environ["SOURCE"] + "/tests/support")
import tiny_models
tensors = []
for word in sys.argv[2:]:
    name, _, what = word.partition("=")
    dtype, shape, values = what.split(":")
    shape = [int(side) for side in shape.split("x") if side]
    values = [float(value) for value in values.split(",")]
    values += values[-1:] * (math.prod(shape) - len(values))
    tensors.append((name, dtype, shape, tiny_models.encode(values, dtype)))
tiny_models.write_safetensors(f"{sys.argv[1]}.safetensors", tensors)
END
}

# recipe [LINE ...]: the recipe of most cases, and more lines.
recipe() {
    cat >recipe.yaml <<'END'
merge_method: lors
base_model: models/base
models:
  - model: models/de
  - model: models/fr
parameters:
  rank: 2
  density: 0.5
  lambda: 0.5
END
    printf '%s\n' "$@" >>recipe.yaml
}

# merge OPTIONS: on the device and with the threads that every machine has.
merge() { lors merge recipe.yaml --device cpu --threads 2 "$@"; }

# zeros N_TENSORS [ROWS]: models base, de and fr of so many tensors of 4096 (or so many) rows of
# 16 KiB, all zero, which take no room on the disk, and a recipe that averages them. For merges that
# must take a while.
zeros() {
    python3 - "$1" "${2:-4096}" <<'END'
import json, os, struct, sys
n_tensors, shape = int(sys.argv[1]), [int(sys.argv[2]), 4096]
n_bytes = 4 * shape[0] * shape[1]
header = {f"layer.{i}.weight": {"dtype": "F32", "shape": shape,
                                "data_offsets": [i * n_bytes, (i + 1) * n_bytes]}
          for i in range(n_tensors)}
text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
text += b" " * (-len(text) % 8)
for name in ("base", "de", "fr"):
    os.makedirs(f"models/{name}")
    with open(f"models/{name}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + n_tensors * n_bytes)
END
    cat >recipe.yaml <<'END'
merge_method: linear
models:
  - model: models/base
    parameters: {weight: 1}
  - model: models/de
    parameters: {weight: 1}
  - model: models/fr
    parameters: {weight: 1}
END
}

# left: what lies in this folder besides what the case put there.
left() { ls -A | grep -vxE 'models|recipe.yaml|out' || true; }

# on_terminal COMMAND ...: run it with a terminal as stdout and stderr; prints what it drew, in the
# notation of Python.
on_terminal() {
    TERM=xterm python3 - "$@" <<'END'
import os, pty, sys
process, terminal = pty.fork()
if process == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
drawn = b""
while True:
    try:
        part = os.read(terminal, 4096)
    except OSError:
        break
    if not part:
        break
    drawn += part
sys.stdout.write("".join(repr(line)[2:-1] + "\n" for line in drawn.split(b"\r\n")))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
END
}
