lors merge
lors merge recipe.yaml
lors plan
lors inspect
lors compare a
lors verify
lors plan one two
lors compare a b c
