#!/usr/bin/env bash
# run.sh - every point of the fault loops, under the address and undefined-behaviour sanitizers.
#
#   tests/faults/run.sh [STATES]     states of the disk after each operation; 150
#
# 15 to 35 minutes on two cores. Builds into build-faults/, prints a line for every part and
# variant, and writes the figures to build-faults/figures.json. Fails if any point fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
states=${1:-150} build=$PWD/build-faults failed=0
commit=$(git describe --always --abbrev=40 --dirty=+changes 2>/dev/null || echo unknown)

cmake -S . -B "$build" -DLORS_SANITIZE=address,undefined -DLORS_CUDA=OFF \
    -DLORS_BUILD_BENCHMARKS=OFF >/dev/null
cmake --build "$build" --parallel "$(nproc)" --target fault_loops >/dev/null
export LORS_CUDA_LIBRARY='' OPENBLAS_NUM_THREADS=1
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

# run PARTS: one after another; both halves take about as long.
run() {
    local part
    for part in "$@"; do
        "$build/tests/fault_loops" "$part" --states "$states" || return 1
    done
}

cd "$build"
start=$SECONDS
run memory ops kill >first.log 2>&1 &
run files power >second.log 2>&1 || failed=1
wait $! || failed=1
cat first.log second.log

# "memory new: allocations 10, faults 20" becomes {"part": "memory new", "allocations": 10, ...}.
to_json='s/^([a-z]+ [a-z-]+): (.*)$/    {"part": "\1", \2},/; t pairs; d; :pairs'
to_json+='; s/([{ ,])([a-z][a-z -]*) ([0-9]+)/\1"\2": \3/g'
{
    printf '{\n  "commit": "%s",\n  "date": "%s",\n  "command": "tests/faults/run.sh %s",\n' \
        "$commit" "$(date -u +%Y-%m-%d)" "$states"
    printf '  "seconds": %d,\n  "passed": %s,\n  "parts": [\n' "$((SECONDS - start))" \
        "$([ "$failed" -eq 0 ] && echo true || echo false)"
    cat first.log second.log | sed -nE "$to_json; p" | sed '$ s/,$//'
    printf '  ]\n}\n'
} >figures.json
echo "written to build-faults/figures.json"
exit "$failed"
