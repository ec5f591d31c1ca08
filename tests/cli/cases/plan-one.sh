# One of a thing is not several: a model, a thread, a file; and a stage of one model.
models
cat >recipe.yaml <<'YAML'
merge_method: task_arithmetic
base_model: models/base
models: [{model: models/de, parameters: {weight: 1}}]
YAML
lors plan recipe.yaml --device cpu --threads 1 | tail -n 5
lors plan recipe.yaml --device cpu --threads 2 --max-shard-size 8k | tail -n 5
lors plan recipe.yaml -q --device cpu
lors merge recipe.yaml --device cpu -o out | head -n 1
cat >recipe.yaml <<'YAML'
name: half
merge_method: task_arithmetic
base_model: models/base
models: [{model: models/de, parameters: {weight: 0.5}}]
---
name: more
merge_method: slerp
base_model: half
models: [{model: models/fr}]
parameters: {t: 0.5}
---
merge_method: ties
base_model: models/base
models: [{model: half}, {model: more}]
parameters: {weight: 1, scope: [mlp], outside: base}
YAML
lors plan recipe.yaml --device cpu --threads 1 | tail -n 12
