#!/usr/bin/env bash
# The demonstration model from nothing: photographs of Debian packages, test sets, a small model
# family, teacher, students, ablations, and the table. Every part goes on where it was stopped.
#
#   models/demonstration/run.sh [part...]
#
# Parts, in this order when none is named: photographs sets shared students ablations table
# SEEDS="1 2 3", WORK=out/demonstration, ULTRASR_BIN=build/release/bin may be set; JOBS=2 trains two
# students at a time, each on THREADS.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
work=${WORK:-out/demonstration}
bin=${ULTRASR_BIN:-build/release/bin}
threads=${THREADS:-0}
most=${JOBS:-1}
read -r -a seeds <<<"${SEEDS:-1 2 3}"
[ -x "$bin/sdd-train" ] || { echo "no $bin/sdd-train; run ./setup.sh first" >&2; exit 1; }
mkdir -p "$work"

# About 1440 pixels on the long side: what a wallpaper shows at its full size is mostly blur
photographs() {
    command -v djpeg >/dev/null || {
        echo "djpeg is missing; apt-get install libjpeg-turbo-progs" >&2
        exit 1
    }
    local part package path name long m
    while read -r part package path; do
        case "$part" in train | test) ;; *) continue ;; esac
        name=$(echo "${path%.jpg}" | sed 's|usr/share/||; s|contents/images/||; s|[/ ]|_|g').jpg
        [ -s "$work/$part/$name" ] && continue
        if [ ! -d "$work/packages/$package" ]; then
            mkdir -p "$work/packages/$package.part"
            (cd "$work/packages/$package.part" &&
                apt-get -qq -o APT::Sandbox::User=root download "$package" </dev/null && dpkg -x ./*.deb .)
            mv "$work/packages/$package.part" "$work/packages/$package"
        fi
        mkdir -p "$work/$part" "$work/original_$part"
        # The second line of a PPM is its size
        long=$({ djpeg -fast -scale 1/8 "$work/packages/$package/$path" || true; } | head -c 40 | sed -n 2p |
            awk '{ m = ($1 > $2) ? $1 : $2; print 8 * m }')
        m=$(((8 * 1440 + long - 1) / long))
        [ "$m" -le 8 ] || m=8
        ln -sf "$(realpath "$work/packages/$package/$path")" "$work/original_$part/$name"
        djpeg -scale "$m/8" "$work/packages/$package/$path" | cjpeg -quality 97 -sample 1x1 >"$work/$part/$name.part"
        mv "$work/$part/$name.part" "$work/$part/$name"
    done <"$here/photographs.txt"
}

# Unseen photographs: degraded, and photographed by the simulated zoom camera and registered
sets() {
    "$bin/ultrasr-degrade" "$work/test" "$work/synthetic" --levels 8,12 --patch 512 --per-image 4 \
        --preset osediff --seed 5 --save gt,lr
    "$bin/ultrasr-acquire" simulate "$work/series" --scales 8,12 --count 20 --size 1536x1024 \
        --photos "$work/original_test" --seed 4
    "$bin/ultrasr-register" "$work/series" "$work/registered" --scale 8,12 --qa none
    cat >"$work/sets.json" <<END
{"sets": [{"name": "synthetic", "lr": "synthetic/lr_x8", "hr": "synthetic/gt", "scale": 8},
          {"name": "synthetic", "lr": "synthetic/lr_x12", "hr": "synthetic/gt", "scale": 12},
          {"name": "registered", "path": "registered"}]}
END
    cat >"$work/synthetic.json" <<END
{"sets": [{"name": "synthetic", "lr": "synthetic/lr_x8", "hr": "synthetic/gt", "scale": 8},
          {"name": "synthetic", "lr": "synthetic/lr_x12", "hr": "synthetic/gt", "scale": 12}]}
END
}

instead= # exec in a shell that has nothing else to do, so that a signal to it meets the training
train() { # run file, folder, settings...
    local file=$1 out=$2 sets=()
    shift 2
    for s in "$@"; do sets+=(--set "$s"); done
    $instead "$bin/sdd-train" --config "$here/$file" --threads "$threads" --set "data=$work/train" \
        --set "out=$out" "${sets[@]}"
}

shared() {
    "$bin/sdd-train" init --config "$here/family.json" --out "$work/family" --seed 1
    train shared.json "$work/shared" "base=$work/family" seed=1
}

student() { # folder, seed, settings...
    local out=$1 seed=$2
    shift 2
    train student.json "$work/$out" "base=$work/shared/base" "teacher=$work/shared/teacher" \
        "seed=$seed" "$@"
}

# Starts a student where less than JOBS are at work; `finish` waits for all, and for their faults
started=()
launch() { # as student
    if [ "$most" -le 1 ]; then
        student "$@"
        return
    fi
    while [ "$(jobs -rp | wc -l)" -ge "$most" ]; do sleep 0.5; done
    echo "$1: training; its progress: $work/$1.log"
    (instead=exec && student "$@") >"$work/$1.log" 2>&1 &
    started+=($!)
}
finish() {
    local pid fault=0
    for pid in "${started[@]}"; do wait "$pid" || fault=$?; done
    started=()
    [ "$fault" -eq 0 ] || echo "not every student came to its end; the logs in $work say why" >&2
    return "$fault"
}
# Leaves nothing at work behind, and the exit status as it is
stop() {
    local pids
    pids=$(jobs -p)
    [ -z "$pids" ] || kill $pids 2>/dev/null || true
    wait
}
trap stop EXIT

students() {
    local seed
    for seed in "${seeds[@]}"; do launch "sdd-$seed" "$seed"; done
    finish
}

# Table 3 of the paper; the encoder is the first student's where DML is not what is left out
ablations() {
    local first="encoder=$work/sdd-${seeds[0]}/encoder" seed=${seeds[0]}
    launch without-dml "$seed" stage=rsd dml.enabled=false
    launch without-rsd "$seed" stage=rsd "$first" rsd.enabled=false
    launch without-ue "$seed" stage=rsd "$first" rsd.ue=false
    launch without-ni "$seed" stage=rsd "$first" rsd.ni=false
    launch without-soft "$seed" stage=rsd "$first" loss.lambda_soft=0
    launch without-hard "$seed" stage=rsd "$first" loss.lambda_hard=0
    launch theta-detail "$seed" stage=rsd "$first" theta.source=detail
    launch theta-error "$seed" stage=rsd "$first" theta.source=error
    finish
}

score() { # set file, results, methods before the students, further options
    local methods=$3,sdd@teacher-x4 models=(--model "teacher-x4=$work/shared/teacher") run
    for run in "$work"/sdd-* "$work"/without-* "$work"/theta-*; do
        [ -s "$run/student/config.json" ] || continue
        methods+=,sdd@$(basename "$run")
        models+=(--model "$(basename "$run")=$run/student")
    done
    "$bin/ultrasr-bench" --data "$work/$1" --method "$methods" "${models[@]}" \
        --metrics psnr-y601,ssim-y601,ms-ssim,niqe --out "$work/$2" "${@:4}"
}

table() {
    score sets.json results bicubic,realesr-general-x4v3
    score synthetic.json results-no-color-fix bicubic --color-fix none
    python3 "$here/summarise.py" scores "$work" >"$work/scores.md"
    python3 "$here/summarise.py" logs "$work" >"$work/logs.md"
    echo "tables in $work/scores.md and $work/logs.md"
}

for part in "${@:-photographs}"; do
    case "$part" in
        photographs | sets | shared | students | ablations | table) "$part" ;;
        *) echo "no part $part; parts are photographs sets shared students ablations table" >&2; exit 2 ;;
    esac
done
if [ $# -eq 0 ]; then
    for part in sets shared students ablations table; do "$part"; done
fi
