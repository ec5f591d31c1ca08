models --fault header
recipe
merge -o out
code=$?
left
exit $code
