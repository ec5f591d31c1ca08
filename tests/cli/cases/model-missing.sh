models
recipe
rm -r models/fr
merge -o out
