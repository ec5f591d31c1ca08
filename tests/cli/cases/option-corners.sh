models
recipe
plan() { lors plan recipe.yaml --device cpu -q "$@" || echo "$? $*" | cut -c 1-60; }
echo "sizes:"
for size in 1. 1.x x '' 1.5b 100.123456789Mb '1.5 G' 2gib 1e9 18446744073709551.9k \
    18446744073709551.6k; do
    plan --max-memory "$size"
done
echo "numbers:"
for number in 99999999999999999999 18446744073709551615; do plan --seed $number; done
plan --threads 999999999
plan --device=
echo "words:"
long=$(printf 'long%.0s' {1..80})
plan --$long
plan --thraeds 2
plan --zzzzzzzz
plan -z
plan -
plan -- -x
plan -qq --
lors help nothing
lors help plna
lors methods zzzzzzzz
lors methods $long
lors plan
