# A file too many, and one too few.
models
recipe
merge -q -o out
echo >out/more
lors verify out
echo $?
rm out/more out/vocab.json
lors verify out
