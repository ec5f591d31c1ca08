# A NaN is larger than any number; types are named where they differ; the same values as others.
weights a low=F32:2:1,2 void=F32:2:1,2 high=F32:2:1,2 none=F32:2:3,4 gone=F32:1:5
weights b low=F32:2:1,3 void=F32:2:1,nan high=F32:2:1,9 none=F32:2:nan,4 new=F16:1:5
lors compare a.safetensors b.safetensors
weights c low=F32:2:1,3 high=F32:2:1,9
lors compare a.safetensors c.safetensors | tail -n 1
weights wide x=F32:2:1,2 y=F16:1:3
weights narrow x=F16:2:1,2 y=BF16:1:3
lors compare wide.safetensors narrow.safetensors
lors compare wide.safetensors narrow.safetensors --json | tail -n +10
lors compare nothing narrow.safetensors
lors compare wide.safetensors nothing
