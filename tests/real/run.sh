#!/bin/sh
# The real-data test, from nothing to a checked merge, in one command. A step whose result exists
# is skipped: delete the result to run it again. See README.md. Environment:
#   LORS_REAL_DIR  scratch folder (default ~/.cache/lors-real)
#   LORS           the program under test (default build/lors of this checkout)
set -eu

HERE=$(cd "$(dirname "$0")" && pwd)
export LORS_REAL_DIR="${LORS_REAL_DIR:-$HOME/.cache/lors-real}"
export PYTHONDONTWRITEBYTECODE=1
LORS=${LORS:-$HERE/../../build/lors}
DIR=$LORS_REAL_DIR
M=$DIR/models
R=$DIR/results
RANK=7
DENSITY=0.2
LAMBDA=0.5

step() { # step RESULT COMMAND...: run the command unless its result is there
    result=$1
    shift
    if [ -e "$result" ]; then
        echo "have $result"
    else
        echo "run  $*"
        nice "$@"
    fi
}
py() { # py RESULT SCRIPT ARGUMENT...
    result=$1
    script=$2
    shift 2
    step "$result" "$DIR/venv/bin/python" "$HERE/$script" "$@"
}

sh "$HERE/setup.sh"
py "$R/base.json" base_model.py
py "$DIR/speech/fr.json" speech.py
for language in fr ru; do py "$R/finetune-$language.json" finetune.py $language; done
py "$R/spectra.json" spectra.py
for model in base fr ru; do
    py "$R/transcribe-$model.json" transcribe.py "$M/$model" -o "$R/transcribe-$model.json"
done

if [ ! -x "$LORS" ]; then
    echo "no program at $LORS: build it or set LORS; the merge steps are left out" >&2
    exit 2
fi
cat > "$DIR/recipe.yaml" <<EOF
merge_method: lors
base_model: $M/base
models:
  - model: $M/ru
    parameters: {weight: 1.0}
  - model: $M/fr
    parameters: {weight: 1.0}
parameters: {rank: $RANK, density: $DENSITY, lambda: $LAMBDA}
dtype: float16
EOF
step "$M/merged/model.safetensors" "$LORS" merge "$DIR/recipe.yaml" -o "$M/merged"
py "$R/oracle.json" oracle.py "$M/base" "$M/ru" "$M/fr" --rank $RANK --density $DENSITY \
    --lambda $LAMBDA --dtype float16 --merged "$M/merged" -o "$R/oracle.json"
py "$R/transcribe-merged.json" transcribe.py "$M/merged" -o "$R/transcribe-merged.json"
step "$R/transcribe-merged-v4.json" "$DIR/venv4/bin/python" "$HERE/transcribe.py" "$M/merged" \
    -o "$R/transcribe-merged-v4.json"
echo "all results are in $R"
