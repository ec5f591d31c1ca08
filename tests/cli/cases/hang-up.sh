# A hang-up is ignored where nohup says so; other signals are not.
zeros 8
(trap '' HUP; exec lors merge recipe.yaml -qo out --device cpu) &
until [ -n "$(left)" ] || [ -e out ]; do sleep 0.01; done
kill -HUP $! 2>/dev/null
wait $!
echo "HUP: exit code $?"
lors verify out -q
