# What the summary says only where it happened.
weights base w=F32:4:1,2,3,60000
weights de w=F32:4:1,2,4,70000
cat >recipe.yaml <<'YAML'
merge_method: task_arithmetic
base_model: base.safetensors
models: [{model: de.safetensors, parameters: {weight: 1}}]
YAML
echo "overflow:"
merge -o out --dtype f16 --nonfinite propagate --io direct | tail -n 3
merge -fo out --dtype f16 --nonfinite zero --io buffered | tail -n 3
merge -fo out --dtype f16 --nonfinite refuse --io auto
echo "computed twice:"
merge -fo out --verify | tail -n 3
