models
recipe
merge -q -o out
lors compare models/base out -q
echo "differs: $?"
touch out/old
merge -q -o out --force && ls out
left
