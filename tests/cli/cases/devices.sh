# The rest of the line depends on the machine.
lors devices | awk 'NR == 1 || $1 == "cpu" { print $1, $2 }'
lors devices --json | python3 -c 'import json, sys; print(*sorted(json.load(sys.stdin)[0]))'
