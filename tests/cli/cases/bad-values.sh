lors merge recipe.yaml -o
lors merge recipe.yaml --output
lors merge recipe.yaml --output=
lors merge recipe.yaml --threads 0
lors merge recipe.yaml --threads=2x
lors merge recipe.yaml --seed -1
lors merge recipe.yaml --seed 18446744073709551616
lors merge recipe.yaml --max-memory 1.5Q
lors merge recipe.yaml --max-memory 0
lors merge recipe.yaml --max-memory 99999999T
lors merge recipe.yaml --dtype float99
lors merge recipe.yaml --nonfinite=ignore
lors merge recipe.yaml --force=yes
