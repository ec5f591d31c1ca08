# The first signal stops the merge, which removes what it wrote, since its only tensor is not
# finished.
zeros 1 65536
for signal in INT TERM HUP; do
    lors merge recipe.yaml -o out --device cpu &
    until [ -n "$(left)" ] || [ -e out ]; do sleep 0.01; done # there is something to remove
    kill -$signal $!
    wait $!
    echo "$signal: exit code $?"
    left
    test ! -e out || echo "out was written"
done
