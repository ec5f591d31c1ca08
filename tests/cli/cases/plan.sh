models
recipe
lors plan recipe.yaml --device cpu --threads 2
