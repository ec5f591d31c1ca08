lors mrege recipe.yaml
