# Under its own name, and without threads of OpenBLAS; whatever the environment said of them.
zeros 1 65536
OPENBLAS_NUM_THREADS=8 lors merge recipe.yaml -qo out --device cpu &
until [ -n "$(left)" ] || [ -e out ]; do sleep 0.01; done
cat /proc/$!/comm
tr '\0' '\n' </proc/$!/environ | grep "^OPENBLAS_NUM_THREADS="
wait $!
lors verify out -q

# Started by the loader, which then is what runs.
loader=$(awk '/\/ld-linux/ { print $6; exit }' /proc/self/maps)
"$loader" "$(command -v lors)" --version | cut -d' ' -f1
"$loader" "$(command -v lors)" verify out -q
