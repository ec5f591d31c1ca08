models --fault shape
recipe
merge -o out
code=$?
left
exit $code
