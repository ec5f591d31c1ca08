models
recipe
merge --json -o out >report.json
[ "$(cat report.json)" = "$(cat out/lors.json)" ] && echo "the same as in lors.json"
python3 -m json.tool report.json >/dev/null && echo "valid"
merge --json -q -o again | python3 -m json.tool >/dev/null && echo "valid"
