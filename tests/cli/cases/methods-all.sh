# Every method has a page, and JSON.
lors methods | sed '/^method /d; /^$/,$d' | while read -r name _; do
    lors methods "$name" | grep -q '^Formula:' || echo "$name has no page"
    lors methods --json "$name" | python3 -m json.tool >/dev/null || echo "$name has no JSON"
done
lors methods --json | python3 -c \
    'import json, sys; print(*[m["name"] for m in json.load(sys.stdin)])'
