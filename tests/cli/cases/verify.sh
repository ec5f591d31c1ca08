models
recipe
merge -q -o out
# The size depends on the text of the report beside the weights.
lors verify out | sed 's/[0-9.]* kB/SIZE/' && lors verify -q out
lors verify --json out | sed 's/"bytes": [0-9]*/"bytes": SIZE/'
