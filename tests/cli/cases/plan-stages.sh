models
cat >recipe.yaml <<'END'
name: half
merge_method: linear
models:
  - {model: models/de, parameters: {weight: 1}}
  - {model: models/base, parameters: {weight: 1}}
---
expression: FR + 0.5 * (H - B)
models:
  - {name: FR, model: models/fr}
  - {name: H, model: half}
  - {name: B, model: models/base}
END
lors plan recipe.yaml --device cpu --threads 2 | tail -n 7
lors merge recipe.yaml --device cpu --threads 2 -o out -q --verify-all && lors verify out
python3 - <<'END'
import json
report = json.load(open("out/lors.json"))
print([(stage["name"], stage["method"], len(stage["tensors"])) for stage in report["stages"]])
print(sorted(entry["path"] for entry in report["inputs"]))
END
