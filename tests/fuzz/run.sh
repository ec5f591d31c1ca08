#!/usr/bin/env bash
# run.sh - fuzz every target with libFuzzer for hours, not in CI.
#
#   tests/fuzz/run.sh [SECONDS_PER_TARGET] [TARGET ...]
#
# Builds with clang under the address and undefined-behaviour sanitizers into build-fuzz/, and the
# header's parser once more under the memory sanitizer. Prints executions and processor hours of
# every target and writes them to build-fuzz/figures.json. Fails if a target crashes, leaks, hangs
# or takes too much memory; what did it is kept in build-fuzz/found/ and replayed by
# build-fuzz/tests/fuzz_TARGET --input FILE. Corpora grow in build-fuzz/corpus/ from run to run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/install-deps
root=$PWD build=$PWD/build-fuzz seconds=${1:-600}
all=(st_header index recipe side_json plan whole_merge st_header_msan)
targets=("${@:2}")
[ "${#targets[@]}" -gt 0 ] || targets=("${all[@]}")

install_clang() {
    command -v clang >/dev/null && return
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends clang llvm
}


# No library lies in the header's way but xxhash, whose source is compiled in.
build_msan() {
    clang -std=c11 -D_GNU_SOURCE -DXXH_INLINE_ALL -O1 -g -fno-omit-frame-pointer -Iinclude -Isrc \
        -fsanitize=fuzzer,memory -fsanitize-memory-track-origins -fno-sanitize-recover=all \
        tests/fuzz/{target_st_header,st_json_tree,st_reference}.c tests/fuzz/fuzz_*.c \
        src/io/st_*.c src/base/*.c -lcrypto -lm -lpthread -o "$build/tests/libfuzzer_st_header_msan"
}

build_all() {
    local target
    cmake -S . -B "$build" -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DLORS_FUZZ=ON \
        -DLORS_SANITIZE=address,undefined -DLORS_CUDA=OFF -DLORS_BUILD_BENCHMARKS=OFF >/dev/null
    for target in "${targets[@]}"; do
        if [ "$target" = st_header_msan ]; then
            build_msan
        else
            cmake --build "$build" --parallel "$(nproc)" --target "fuzz_$target" \
                "libfuzzer_$target" >/dev/null
        fi
    done
}

# fuzz TARGET: one job for $seconds; a line of figures on standard output.
fuzz() {
    local target=$1 seeds=${1%_msan} corpus=$build/corpus/$1 log=$build/$1.log status=0 length=8192
    [ "$target" = whole_merge ] && length=512
    mkdir -p "$corpus" "$build/found" "$build/seeds/$seeds"
    "$build/tests/fuzz_$seeds" --split "tests/fuzz/seeds/$seeds.txt" "$build/seeds/$seeds"
    local work times cpu executions coverage
    work=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)")
    times=$(
        cd "$work"
        TIMEFORMAT='%U %S'
        export LORS_CUDA_LIBRARY='' ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1
        ASAN_OPTIONS+=:quarantine_size_mb=64
        export UBSAN_OPTIONS=print_stacktrace=1 MSAN_OPTIONS=allocator_may_return_null=1
        { time "$build/tests/libfuzzer_$target" "$corpus" "$build/seeds/$seeds" -verbosity=1 \
            -max_total_time="$seconds" -max_len=$length -rss_limit_mb=512 -malloc_limit_mb=256 \
            -timeout=5 -print_final_stats=1 -artifact_prefix="$build/found/$target-" \
            >"$log" 2>&1; } 2>&1
    ) || status=$?
    rm -rf "$work"
    cpu=$(awk '{ printf "%.4f", ($1 + $2) / 3600 }' <<<"$times")
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) ft.*/\1/p' "$log" | tail -1)
    if [ "$status" -ne 0 ]; then
        failed=1
        grep -E 'ERROR|SUMMARY|needed:|Test unit|interrupted' "$log" >&2 || true
    fi
    printf '%-16s %12s executions %9s CPU hours %7s edges  %s\n' "$target" "${executions:-0}" \
        "$cpu" "${coverage:-0}" "$([ "$status" -eq 0 ] && echo passed || echo "FAILED, see $log")"
    figures+=("    {\"target\": \"$target\", \"executions\": ${executions:-0}, \"cpu_hours\": $cpu,
     \"edges\": ${coverage:-0}, \"passed\": $([ "$status" -eq 0 ] && echo true || echo false)}")
}

write_figures() {
    local joined
    joined=$(printf '%s,\n' "${figures[@]}")
    printf '{\n  "commit": "%s",\n  "date": "%s",\n  "compiler": "%s",\n' "$commit" \
        "$(date -u +%Y-%m-%d)" "$(clang --version | head -1)" >"$build/figures.json"
    printf '  "seconds_per_target": %s,\n  "targets": [\n%s\n  ]\n}\n' "$seconds" "${joined%,}" \
        >>"$build/figures.json"
}

failed=0 figures=()
commit=$(git describe --always --abbrev=40 --dirty=+changes 2>/dev/null || echo unknown)
install_clang
build_all
for target in "${targets[@]}"; do
    fuzz "$target"
done
write_figures
echo "written to ${build#"$root"/}/figures.json"
exit "$failed"
