#!/usr/bin/env bash
# run.sh - unit tests and small whole merges under valgrind's memcheck. Not in CI.
#
#   tests/valgrind/run.sh [CTEST NAME ...]      some tests only
#
# Less than 10 minutes on two cores. Beside what the address sanitizer sees it finds decisions and
# written bytes that depend on memory nobody has set. Builds into build-valgrind/. Fails on an error
# or a leak, whoever made it: no library needs a suppression.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source scripts/install-deps
build=$PWD/build-valgrind

install_valgrind() {
    command -v valgrind >/dev/null && return
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends valgrind libc6-dbg
}

install_deps
install_valgrind
configure_and_build "$build" -DLORS_CUDA=OFF -DLORS_BUILD_BENCHMARKS=OFF >/dev/null

# Arithmetic over all numbers there are, or judged in long double, which valgrind cuts to 64 bits;
# processes that end at any point, of which each leaks.
unfit='test_dtype test_elementary test_rng test_staging'
names=("$@")
if [ "${#names[@]}" -eq 0 ]; then
    for source in tests/unit/test_*.c; do
        name=$(basename "$source" .c)
        [[ " $unfit " == *" $name "* ]] || names+=("$name")
    done
    names+=(test_limits test_odd_runs test_few_threads test_stages test_columns test_lors)
fi

# check NAME: one test, with a line of what it came to. Its folders lie in one of its own.
check() {
    local name=$1 work=$build/work/$1 start=$SECONDS verdict=passed
    mkdir -p "$work"
    # Valgrind knows no AVX-512, and runs one thread at a time: more only wait.
    (cd "$work" && LORS_CUDA_LIBRARY='' LORS_EMULATED=1 OPENBLAS_NUM_THREADS=1 \
        OPENBLAS_CORETYPE=Haswell timeout 240 valgrind --quiet --error-exitcode=99 \
        --leak-check=full --errors-for-leak-kinds=definite,indirect \
        --child-silent-after-fork=yes "$build/tests/$name" >log 2>&1) || verdict="FAILED: $work/log"
    printf '%-28s %4d s  %s\n' "$name" "$((SECONDS - start))" "$verdict"
    [ "$verdict" = passed ]
}
export -f check
export build
printf '%s\n' "${names[@]}" | xargs -P "$(nproc)" -I{} bash -c 'check {}'
