# An existing output is left alone.
models
recipe
mkdir out
echo precious >out/file
merge -o out
code=$?
cat out/file
left
exit $code
