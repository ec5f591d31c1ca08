models --fault untied
recipe
merge -o out
