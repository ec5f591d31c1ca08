# Every kind of difference; null for the NaN in JSON, words for infinity.
tiny --name a
tiny --name b --fault nan --fault missing=model.encoder.conv1.bias --fault extra \
    --fault shape=model.encoder.conv2.bias
lors compare models/a models/b
lors compare models/a models/b -q
echo "$?"
lors compare models/a models/b --json | sed 1,3d
tiny --name c --fault inf
lors compare models/a models/c
lors compare models/a models/c --json | sed "1,/different\"/d"
lors compare models/a models/b --json >/dev/null
