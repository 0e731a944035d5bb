#!/usr/bin/env bash
# Installs what Ultra-SR needs and builds it; what is there already is left alone.
#
#   ./setup.sh [PRESET [TARGET...]]     PRESET: release (default), cuda, dev, asan, tsan, fuzz
#
# LIBTORCH_ROOT=DIR   use this LibTorch (a folder with include/ and lib/) instead of installing one
# ULTRASR_TORCH=cpu   LibTorch without the GPU part (1.3 GB), also where an NVIDIA GPU is found;
#              =cuda  with it (about 5 GB), also where none is found
# ULTRASR_DEPS=DIR    where LibTorch is installed, default .deps; several checkouts may share it
# CMAKE_BUILD_PARALLEL_LEVEL=N   compile N files at once, instead of what cores and memory allow
#
# Exit codes: 0 done, 1 the build failed, 2 usage, 3 something is missing, 5 no room or not writable.
set -euo pipefail
unset CDPATH
here=$PWD
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

torch_version=2.11.0
torch_cpu_parts=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)  # what libtorch_cpu.so loads
packages=(g++ cmake ninja-build ccache python3-venv libopencv-dev libtbb-dev libfmt-dev doctest-dev
          libcli11-dev nlohmann-json3-dev libpng-dev zlib1g-dev libturbojpeg0-dev libssl-dev libhdf5-dev
          libexiv2-dev libraw-dev libyaml-cpp-dev libutf8proc-dev pkg-config)

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {  # exit code, sentence
    printf 'error: %s\n' "$2" >&2
    exit "$1"
}

# logged LOG SENTENCE COMMAND...: runs it with its chatter in LOG; says what failed, with LOG's end.
logged() {
    local log=$1 sentence=$2
    shift 2
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        tail -n 20 -- "$log" | sed 's/^/    /' >&2
        fail "${failure:-3}" "$sentence (whole log: $log)"
    fi
}

preset=release
if [ $# -gt 0 ]; then
    preset=$1
    shift
fi
targets=("$@")
case $preset in
    release | cuda | dev | asan | tsan | fuzz) ;;
    -h | --help)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *) fail 2 "unknown preset '$preset'; known: release, cuda, dev, asan, tsan, fuzz." ;;
esac
logs=build/logs
mkdir -p "$logs" 2>/dev/null || fail 5 "cannot write in $PWD; give this checkout to your user."

# ---- 1. Debian or Ubuntu packages ----
install_packages() {
    local missing=() package found command as_root=()
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        fail 3 "setup.sh installs packages on Debian and Ubuntu only; here install g++ 11 or newer, CMake, \
Ninja, Python 3 with venv, and the development files of OpenCV 4, oneTBB, fmt, doctest, CLI11, \
nlohmann-json, libpng, zlib, TurboJPEG, OpenSSL, HDF5, Exiv2, LibRaw, yaml-cpp and utf8proc yourself, then use cmake --preset release."
    fi
    found=$'\n'$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true)$'\n'
    for package in "${packages[@]}"; do
        [[ $found == *$'\n'"$package installed"$'\n'* ]] || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        say "packages: all ${#packages[@]} are there"
        return
    fi

    command="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            fail 3 "packages are missing and this is not root: ask an administrator to run  $command"
        as_root=(sudo)
        [ -t 0 ] || as_root=(sudo -n)  # nobody there to type a password
        "${as_root[@]}" true 2>/dev/null ||
            fail 3 "packages are missing and sudo refuses: ask an administrator to run  $command"
    fi
    say "packages: installing ${missing[*]} (some minutes; log: $logs/apt.log)"
    local sentence="apt-get could not install the packages; mend that and run ./setup.sh again"
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600)
    : >"$logs/apt.log"
    logged "$logs/apt.log" "$sentence" "${apt[@]}" update
    logged "$logs/apt.log" "$sentence" "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
    say "packages: installed"
}

# ---- 2. LibTorch: the C++ part of the PyPI package `torch`, in a Python environment of its own ----
check_libtorch() {  # folder
    [ -e "$1/lib/libtorch_cpu.so" ] && [ -e "$1/include/ATen/ATen.h" ]
}

# pip as if nobody had set anything, except where packages come from and how they are reached.
private_pip() {  # environment, arguments...
    local python=$1/bin/python name clean=()
    shift
    for name in $(compgen -e PIP_ || true); do
        case $name in
            PIP_INDEX_URL | PIP_EXTRA_INDEX_URL | PIP_FIND_LINKS | PIP_NO_INDEX | PIP_TRUSTED_HOST) ;;
            PIP_CERT | PIP_CLIENT_CERT | PIP_PROXY | PIP_TIMEOUT | PIP_DEFAULT_TIMEOUT | PIP_RETRIES) ;;
            PIP_CONFIG_FILE | PIP_CACHE_DIR | PIP_KEYRING_PROVIDER) ;;
            *) clean+=(-u "$name") ;;
        esac
    done
    env "${clean[@]}" -u PYTHONPATH -u PYTHONHOME -u VIRTUAL_ENV PYTHONNOUSERSITE=1 \
        PIP_USER=0 PIP_NO_DEPS=0 PIP_REQUIRE_HASHES=0 PIP_DISABLE_PIP_VERSION_CHECK=1 \
        "$python" -m pip install --no-input --progress-bar off --only-binary :all: "$@"
}

# Sets LIBTORCH_ROOT when the environment holds a complete LibTorch of the wanted kind.
find_installed() {  # environment, kind: cpu, cuda or empty for any
    local stamp candidate
    stamp=$(cat "$1/ultrasr-complete" 2>/dev/null) || return 1
    case $stamp in
        "torch $torch_version cuda") ;;  # holds the CPU part too
        "torch $torch_version cpu") [ "$2" != cuda ] || return 1 ;;
        *) return 1 ;;
    esac
    find_root "$1" || return 1
    say "LibTorch: $torch_version (${stamp##* }) is there, $LIBTORCH_ROOT"
}

find_root() {  # environment
    local candidate
    for candidate in "$1"/lib/python3*/site-packages/torch; do
        check_libtorch "$candidate" || continue
        LIBTORCH_ROOT=$candidate
        return 0
    done
    return 1
}

install_libtorch() {
    if [ -n "${LIBTORCH_ROOT:-}" ]; then
        [[ $LIBTORCH_ROOT == /* ]] || LIBTORCH_ROOT=$here/$LIBTORCH_ROOT
        check_libtorch "$LIBTORCH_ROOT" || fail 3 "LIBTORCH_ROOT=$LIBTORCH_ROOT lacks lib/libtorch_cpu.so or \
include/ATen/ATen.h; name the folder that has both, or unset it."
        say "LibTorch: yours, $LIBTORCH_ROOT"
        return
    fi

    local deps=${ULTRASR_DEPS:-$PWD/.deps} kind=${ULTRASR_TORCH:-} why="as ULTRASR_TORCH says"
    [[ $deps == /* ]] || deps=$here/$deps
    deps=$(realpath -m -- "$deps")
    local environment=$deps/python no_write="cannot write in $deps; set ULTRASR_DEPS to a folder you may write."
    case $kind in
        cpu | cuda | '') ;;
        *) fail 2 "unknown ULTRASR_TORCH '$kind'; known: cpu, cuda." ;;
    esac
    if find_installed "$environment" "$kind"; then
        return
    fi

    # Another checkout that shares the folder may be installing right now
    mkdir -p "$deps" 2>/dev/null || fail 5 "$no_write"
    { exec 9>"$deps/lock"; } 2>/dev/null || fail 5 "$no_write"
    if ! flock -n 9; then
        say "LibTorch: waiting for another setup that is installing it in $deps"
        flock 9
        if find_installed "$environment" "$kind"; then
            exec 9>&-
            return
        fi
    fi

    # Which kind, and the room for it: what pip unpacks and, beside it, the downloaded packages
    if [ -z "$kind" ]; then
        kind=cpu why="no NVIDIA GPU found"
        if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
            kind=cuda why="an NVIDIA GPU was found"
        fi
    fi
    local need=2 room
    [ "$kind" = cpu ] || need=9
    room=$(($(df -Pk -- "$deps" | awk 'NR == 2 {print $4}') / 1048576))
    [ "$room" -ge "$need" ] || fail 5 "LibTorch ($kind) needs $need GB in $deps and $room are free; make room, or set \
ULTRASR_DEPS to a folder on another disk."

    # Install; the stamp comes last, so that an interrupted run is never taken for a complete one
    if [ -e "$environment" ]; then
        say "LibTorch: removing what an earlier version or an interrupted setup left in $environment"
        rm -rf -- "$environment"
    fi
    local log=$deps/pip.log python=/usr/bin/python3  # the distribution's: an active one must not matter
    [ -x "$python" ] || python=python3
    say "LibTorch: installing $torch_version for $kind ($why) in $environment (log: $log)"
    : >"$log"
    logged "$log" "python3 could not make an environment in $environment; mend that and run ./setup.sh again" \
        env -u PYTHONPATH -u PYTHONHOME -u VIRTUAL_ENV PYTHONNOUSERSITE=1 "$python" -m venv "$environment"
    local wanted=("torch==$torch_version")
    [ "$kind" = cuda ] || wanted=(--no-deps "${wanted[@]}" "${torch_cpu_parts[@]}")
    logged "$log" "pip could not install LibTorch; see that its package index is reachable and run ./setup.sh again" \
        private_pip "$environment" "${wanted[@]}"
    find_root "$environment" || fail 3 "pip put no LibTorch in $environment; look for an unusual setting in \
'pip config list' (whole log: $log)."
    logged "$log" "the installed LibTorch does not load; run ./setup.sh again, or report this" \
        env -u PYTHONPATH -u PYTHONHOME "$environment/bin/python" -c \
        'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$LIBTORCH_ROOT/lib/libtorch_cpu.so"
    sync -f "$environment"
    printf 'torch %s %s\n' "$torch_version" "$kind" >"$environment/ultrasr-complete"
    exec 9>&-
    say "LibTorch: installed"
}

# ---- 3. Configure and build ----
jobs_that_fit() {  # as many as cores, and 2 GB of free memory each: LibTorch's headers need over 1 GB
    local cores free limit used
    cores=$(nproc)
    free=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
    if limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null) && [[ $limit =~ ^[0-9]{1,15}$ ]]; then
        used=$(cat /sys/fs/cgroup/memory.current 2>/dev/null || echo 0)
        limit=$(((limit - used) / 1024))
        [ "$limit" -ge "$free" ] || free=$limit
    fi
    local fit=$((free / 2097152))
    [ "$fit" -le "$cores" ] || fit=$cores
    [ "$fit" -ge 1 ] || fit=1
    echo "$fit"
}

check_compiler() {
    local compiler=${CXX:-g++}
    # shellcheck disable=SC2086  # CXX may carry options
    printf '%s\n' '#include <source_location>' 'consteval int f() { return 1; }' \
        'int main() { return f() - (std::source_location::current().line() > 0u); }' |
        $compiler -std=c++20 -x c++ -fsyntax-only - 2>/dev/null ||
        fail 3 "g++ 11 or newer is needed (C++20: source_location, consteval), and '$compiler' is \
$($compiler --version 2>/dev/null | head -n 1 || true); set CXX to a newer one."
}

cached() {  # name: a value in the preset's CMake cache
    sed -n "s|^$1:[A-Z]*=||p" "build/$preset/CMakeCache.txt" 2>/dev/null || true
}

build() {
    local folder=build/$preset log options jobs cmake
    # A copied or moved checkout brings a cache that belongs elsewhere
    if [ -e "$folder/CMakeCache.txt" ] && [ "$(cached CMAKE_HOME_DIRECTORY)" != "$PWD" ]; then
        say "build: $folder was made for another folder, starting afresh"
        rm -rf -- "${folder:?}"
    fi

    # ccache keeps its files in the home folder; where there is none, beside LibTorch
    export CCACHE_SLOPPINESS=pch_defines,time_macros
    if [ -z "${CCACHE_DIR:-}" ] && [ ! -w "${HOME:-/nonexistent}" ]; then
        export CCACHE_DIR=$PWD/.deps/ccache
    fi

    if [ ! -e "$folder/build.ninja" ] || [ CMakePresets.json -nt "$folder/build.ninja" ] ||
        [ "$(cached LIBTORCH_ROOT)" != "$LIBTORCH_ROOT" ]; then
        check_compiler
        log=$logs/configure-$preset.log
        say "build: configuring $folder (log: $log)"
        options=("-DLIBTORCH_ROOT=$LIBTORCH_ROOT" -U 'LibTorch_*')
        if command -v ccache >/dev/null; then
            options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
        fi
        : >"$log"
        failure=3 logged "$log" "cmake could not configure $folder; install what it names and run ./setup.sh again" \
            cmake --preset "$preset" "${options[@]}"
        touch "$folder/build.ninja"
    fi

    jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(jobs_that_fit)}
    log=$logs/build-$preset.log
    : >"$log"
    cmake=(cmake --build "$folder" --parallel "$jobs")
    [ ${#targets[@]} -eq 0 ] || cmake+=(--target "${targets[@]}")
    if ! "${cmake[@]}" 2>&1 </dev/null | watch_build "$log" "$jobs"; then
        tail -n 20 -- "$log" | sed 's/^/    /' >&2
        fail 1 "the build of $folder failed (whole log: $log)"
    fi
    say "build: $folder/bin is up to date"
}

watch_build() {  # log, jobs: keeps the lines, and says so once something is compiled
    local line count=
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$1"
        [[ $line =~ ^\[([0-9]+/[0-9]+)\]\ (Building|Linking) ]] || continue
        [ -n "$count" ] || say "build: compiling, $2 at once (log: $1)"
        count=${BASH_REMATCH[1]}
        [ ! -t 2 ] || printf '\r%s ' "$count" >&2
    done
    [ -z "$count" ] || [ ! -t 2 ] || printf '\r' >&2
}

install_packages
install_libtorch
build
