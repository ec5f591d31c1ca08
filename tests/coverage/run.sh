#!/usr/bin/env bash
# run.sh - which lines and branches of src/ do the tests run? Not in CI.
#
#   tests/coverage/run.sh
#
# 15 minutes on two cores. Builds with gcc's counters into build-coverage/, runs the tests that
# reach src/ and the fault loops of memory, files and operations at every point, and writes the
# figures to tests/coverage/figures.json. Fails if a test fails or a figure is below its goal. The
# branches that were never taken: tests/coverage/figures.py build-coverage --open io/staging
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/install-deps
install_deps
build=$PWD/build-coverage failed=0
commit=$(git describe --always --abbrev=40 --dirty=+changes 2>/dev/null || echo unknown)
export LORS_CUDA_LIBRARY='' OPENBLAS_NUM_THREADS=1

CC=gcc configure_and_build "$build" -DLORS_COVERAGE=ON -DLORS_CUDA=OFF
find "$build/src" -name '*.gcda' -delete

# No figure here depends on these, they run below, or (cuda_host) a few of them are enough.
others='lint|lint_self|mutants_fit|gpu_evidence|standin|readme|benchmarks|faults_.*|bad'
# Over the stand-in device only what whole merges do with a device is of interest.
others+="|cuda_host_.*"

# loop PART: every point of it, in a folder of its own.
loop() {
    mkdir -p "$build/loops/$1"
    (cd "$build/loops/$1" && "$build/tests/fault_loops" "$1" >log 2>&1)
}

ctest --test-dir "$build" --output-on-failure --no-tests=error --parallel "$(nproc)" \
    -E "^($others)\$" || failed=1
ctest --test-dir "$build" --output-on-failure -R '^cuda_host_test_(merge|stages|io|outputs)$' ||
    failed=1
# Some of its cases run as another user, who must be able to write the counts, too.
find "$build/src" -name '*.gcda' -exec chmod a+rw {} +
ctest --test-dir "$build" --output-on-failure -R '^(bad|faults_kill|faults_heap)$' || failed=1
loop memory &
loop files || failed=1
wait $! || failed=1
loop ops || failed=1
tail -n 3 "$build"/loops/*/log

python3 tests/coverage/figures.py "$build" --json tests/coverage/figures.json \
    --about "commit=$commit" --about "date=$(date -u +%Y-%m-%d)" \
    --about "command=tests/coverage/run.sh" --about "compiler=$(gcc --version | head -1)" ||
    failed=1
exit "$failed"
