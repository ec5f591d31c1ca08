models
recipe '  densty: 0.3'
merge -o out
recipe 'unknown_key: 1'
merge -o out
recipe '  - ]'
merge -o out
recipe
sed -i 's/density: 0.5/density: 1.5/' recipe.yaml
merge -o out
recipe
sed -i 's/merge_method: lors/merge_method: lros/' recipe.yaml
merge -o out
code=$?
left
exit $code
