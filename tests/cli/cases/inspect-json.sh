tiny --name base --dtype bf16
lors inspect models/base --json >json
python3 -m json.tool json >/dev/null && head -n 8 json && tail -n 3 json
