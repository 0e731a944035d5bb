#!/usr/bin/env bash
# Sets up, builds, and runs the main job on the photographs in data/demo: restores, scores, and
# prints the table and where the page with the pictures is.
#
#   ./demo.sh [OPTION...]   further options of ultrasr-bench; --data, --method, --metrics and --out
#                           replace the demo's own; paths are meant from this folder
#
# A second run goes on where the first one stopped; --restart begins again.
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
default --data data/demo
default --method bicubic,lanczos,realesrgan-x4plus,realesr-general-x4v3,realesr-animevideov3
default --metrics psnr-y601,ssim-y601,niqe
default --out out/demo
exec build/release/bin/ultrasr-bench "${options[@]}" "$@"
