#!/usr/bin/env bash
# Sets up, builds, and runs the whole road on the photographs in data/demo: a simulated camera takes
# two small zoom series of them, the series are registered to LR-HR pairs at x8 and x14, the pairs
# are restored (sdd: by the small demonstration model) and scored; prints the tables and where the
# page with the pictures is.
#
#   ./demo.sh [OPTION...]   further options of ultrasr-bench; --method, --metrics and --out replace
#                           the demo's own; with --data nothing is simulated. Paths are meant from
#                           this folder.
#
# A second run goes on where the first one stopped; --restart begins the last step again.
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
./setup.sh

# The demo's own options, each unless given
given=" "
for argument in "$@"; do
    given+="${argument%%=*} "
done
options=()
default() {  # option, value
    [[ $given == *" $1 "* ]] || options+=("$1" "$2")
}
bin=build/release/bin
if [[ $given != *" --data "* ]]; then
    "$bin/ultrasr-acquire" simulate out/demo/raw --size 2016x1344 --scales 8,14 --count 2 --seed 3 \
        --exposure 0.8 --photos data/demo/photographs
    "$bin/ultrasr-register" out/demo/raw out/demo/pairs --scale 8,14 --truth out/demo/raw/truth.json
fi
default --data out/demo/pairs
default --method bicubic,realesr-general-x4v3,realesr-animevideov3,sdd
default --metrics psnr-y601,ssim-y601,niqe
default --out out/demo/bench
exec "$bin/ultrasr-bench" "${options[@]}" "$@"
