models
recipe
merge -o out
ls out
left
