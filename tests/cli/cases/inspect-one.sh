# One of a thing is not several; a tensor without dimensions; one of very many.
weights one bias=F32::7
lors inspect one.safetensors
weights long weight=F32:1x1x1x1x1x1x1x1:7
lors inspect long.safetensors
