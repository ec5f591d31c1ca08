models
recipe
merge --dry-run -o out >dry
merge -n | cmp - dry && lors plan recipe.yaml --device cpu --threads 2 | cmp - dry && echo same
ls
