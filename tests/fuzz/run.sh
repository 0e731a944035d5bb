#!/usr/bin/env bash
# Fuzzes the readers of checkpoints, one format after the other.
#
#   tests/fuzz/run.sh SECONDS [FORMAT...]   FORMAT: safetensors, zip_pickle, legacy, torchscript, ckpt
#
# Inputs that are new go to build/fuzz/corpus/FORMAT, findings to build/fuzz/findings; the seeds in
# tests/fuzz/corpus are read and left alone. Needs clang 16 or newer with its libFuzzer; CXX chooses.
# Exit codes: 0 nothing found, 1 something found, 2 usage, 3 no clang.
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

formats=(safetensors zip_pickle legacy torchscript ckpt)
if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
seconds=$1
shift
for format in "$@"; do
    [[ " ${formats[*]} " == *" $format "* ]] || { echo "error: unknown format '$format'; known: ${formats[*]}" >&2; exit 2; }
done
[ $# -eq 0 ] || formats=("$@")

# Older ones cannot compile <source_location> of libstdc++
usable() {
    printf '%s\n' '#include <source_location>' '#include <cstdint>' '#include <cstddef>' \
        'extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t*, std::size_t) {' \
        'return std::source_location::current().line() == 0; }' |
        "$1" -std=c++20 -fsanitize=fuzzer,address -x c++ - -o /dev/null 2>/dev/null
}
compiler=
for candidate in ${CXX:+"$CXX"} clang++ clang++-{16..22}; do
    if command -v "$candidate" >/dev/null && usable "$candidate"; then
        compiler=$candidate
        break
    fi
done
if [ -z "$compiler" ]; then
    echo "error: clang 16 or newer with libFuzzer is needed; install clang-16 and libclang-rt-16-dev (or newer), or set CXX" >&2
    exit 3
fi
CXX=$compiler ./setup.sh fuzz fuzz_targets

export ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
mkdir -p build/fuzz/findings
found=0
for format in "${formats[@]}"; do
    mkdir -p "build/fuzz/corpus/$format"
    options=(-max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -max_len=16384 -print_final_stats=1
             -artifact_prefix="build/fuzz/findings/$format-")
    [ "$format" = safetensors ] || options+=(-dict=tests/fuzz/pickle.dict)
    log=build/fuzz/$format.log
    if "build/fuzz/bin/fuzz_$format" "${options[@]}" "build/fuzz/corpus/$format" "tests/fuzz/corpus/$format" >"$log" 2>&1; then
        printf '%-12s %s executions, corpus %s, nothing found\n' "$format" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" "$(ls "build/fuzz/corpus/$format" | wc -l)"
    else
        found=1
        printf '%-12s FOUND something (whole log: %s)\n' "$format" "$log"
        tail -n 40 "$log"
    fi
done
exit "$found"
