models --fault truncate
recipe
merge -o out
code=$?
left
exit $code
