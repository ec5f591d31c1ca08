#!/usr/bin/env bash
# measure_gpu.sh - all that only a GPU can show, in one call on a machine with one: the tests of the
# label gpu, the sanitizer where it runs, each operation beside the CPU, whole merges. Writes
# benchmarks/results/gpu-*.json with the device, the commands and the hash of the kernels' sources.
#
#   benchmarks/measure_gpu.sh [small|medium|large-v3]      (the sizes of whole merges; default: all)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
sizes=("${@:-small medium large-v3}")
results=benchmarks/results

cmake -S . -B build -DLORS_CUDA=ON >/dev/null
cmake --build build --parallel "$(nproc)"
build/lors devices
ctest --test-dir build -L gpu --output-on-failure

if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck initcheck synccheck; do
        for program in test_ops test_store test_vectors test_sums test_select; do
            echo "== $tool $program"
            (cd build/tests/work/"gpu_$program" &&
                LORS_CUDA_LIBRARY="$PWD/../../../liblors_cuda.so" LORS_TEST_DEVICE=cuda:0 \
                    LORS_EMULATED=1 compute-sanitizer --tool "$tool" --error-exitcode 1 \
                    ../../"$program")
        done
    done
else
    echo "compute-sanitizer is not installed: left out"
fi

build/benchmarks/bench_ops --json $results/gpu-ops.json
for size in ${sizes[*]}; do
    for models in 2 5; do
        for rank in 7 64; do
            python3 benchmarks/bench_run.py --size "$size" --models "$models" --rank "$rank" \
                --device cuda:0 --runs 5 -o "$results/gpu-$size-$models-r$rank.json"
        done
    done
done
