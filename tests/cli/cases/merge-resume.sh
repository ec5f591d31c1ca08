# Nothing was interrupted; then a folder without a journal; --quiet says neither.
models
recipe
lors merge recipe.yaml -o out --resume >/dev/null
mkdir .again.lors-staging
echo half >.again.lors-staging/model.safetensors
lors merge recipe.yaml -o again --resume >/dev/null
cmp out/model.safetensors again/model.safetensors
lors merge recipe.yaml -o quiet --resume -q
left
