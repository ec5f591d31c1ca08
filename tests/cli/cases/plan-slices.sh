models
cat >recipe.yaml <<'END'
merge_method: task_arithmetic
base_model: models/base
modules:
  encoder: {models: [{model: models/de}]}
  decoder:
    slices:
      - sources: [{model: models/de, layer_range: [0, 2]}]
      - sources:
          - {model: models/fr, layer_range: [1, 2]}
          - {model: models/base, layer_range: [0, 1]}
parameters: {weight: 0.5, int8_mask: true}
END
lors plan recipe.yaml --device cpu --threads 2 2>&1 | grep -v 'attn\|encoder.layers'
lors plan recipe.yaml --device cpu --threads 2 --json 2>/dev/null | grep '"from"' | sort | uniq -c
