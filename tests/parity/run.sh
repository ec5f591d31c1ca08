#!/usr/bin/env bash
# run.sh - the results of lors beside those of mergekit, method by method. Opt-in: it installs
# mergekit from PyPI (some GB with its dependencies) into WORK, which is kept for the next time.
#
#   tests/parity/run.sh [LORS_BINARY] [WORK]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "${1:-$here/../../build/lors}")
work=${2:-$here/../../build/parity}
if [ ! -x "$work/venv/bin/mergekit-pytorch" ]; then
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet -r "$here/../../benchmarks/peers/requirements.txt"
fi
exec "$work/venv/bin/python" "$here/mergekit_parity.py" "$binary" --work "$work"
