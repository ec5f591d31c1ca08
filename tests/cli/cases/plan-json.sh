models
recipe
lors plan recipe.yaml --device cpu --json | python3 -m json.tool >/dev/null && echo valid
lors plan recipe.yaml --device cpu -q
