# Types, shards and options in any order and form.
models
recipe
lors merge --dtype=bf16 -qoout --max-shard-size 8k recipe.yaml --device=cpu -- && ls out
lors inspect out | tail -n 1
merge -qfo out --dtype f16 --seed 3 --max-memory 512MiB --nonfinite propagate --verify
lors inspect out | tail -n 1
