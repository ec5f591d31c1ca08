models --fault missing
recipe
merge -o out
