models --fault lfs
recipe
merge -o out
code=$?
left
exit $code
