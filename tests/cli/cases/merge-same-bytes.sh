# The same recipe gives the same bytes, whatever the threads.
models
recipe
merge -q -o a && lors merge recipe.yaml -q -o b --device cpu --threads 1
lors compare a b
