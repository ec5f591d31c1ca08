models
recipe
lors merge recipe.yaml -o out --device cuda:99 2>message
code=$?
sed -E 's/(error: [^:]*cuda:99).*/\1/' message # why it is missing depends on the machine
test ! -e out && exit $code
