# Every kind of difference; null for the NaN in JSON.
tiny --name a
tiny --name b --fault nan --fault missing=model.encoder.conv1.bias --fault extra \
    --fault shape=model.encoder.conv2.bias
lors compare models/a models/b
lors compare models/a models/b -q
echo "$?"
lors compare models/a models/b --json | sed 1,3d
lors compare models/a models/b --json >/dev/null
