lors merge recipe.yaml --ouput out
lors merge recipe.yaml --xyzzy
lors merge recipe.yaml -z
lors --verbose
lors $'pl\e[31man'
