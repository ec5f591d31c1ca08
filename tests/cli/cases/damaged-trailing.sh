models --fault trailing
recipe
merge -o out
code=$?
left
exit $code
