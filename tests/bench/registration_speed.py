#!/usr/bin/env python3
"""Wall time, peak memory and seconds by step of ultrasr-register on a series of 24-megapixel JPEG
scenes, with one and with two scenes in work. Prints Markdown; --save appends it to the results.

  tests/bench/registration_speed.py SERIES [--bin build/release/bin] [--threads 2] [--save]

SERIES: a folder of `ultrasr-acquire simulate`, e.g. --count 4 --seed 1 (one wide and four tele
frames a scene).
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time


def median(values):
    values = sorted(values)
    n = len(values)
    return values[n // 2] if n % 2 else (values[n // 2 - 1] + values[n // 2]) / 2


def measured(words):
    begin = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(words)} ended with status {status}")
    return time.monotonic() - begin, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("series", type=pathlib.Path)
    parser.add_argument("--bin", default="build/release/bin", type=pathlib.Path)
    parser.add_argument("--threads", default=2, type=int)
    parser.add_argument("--save", action="store_true")
    a = parser.parse_args()
    scenes = len([p for p in a.series.iterdir() if p.is_dir()])
    lines = [f"## {scenes} scenes, {a.threads} threads", "",
             "| scenes at once | QA pictures | wall s a scene | peak MiB |", "|---|---|---|---|"]
    steps = {}
    for at_once in (1, 2):
        for qa in ("all", "none"):
            out = pathlib.Path(tempfile.mkdtemp(prefix="ultrasr-speed-"))
            seconds, peak = measured([str(a.bin / "ultrasr-register"), str(a.series), str(out),
                                      "--threads", str(a.threads), "--qa", qa,
                                      "--scenes-at-once", str(at_once)])
            lines.append(f"| {at_once} | {qa} | {seconds / scenes:.2f} | {peak:.0f} |")
            if at_once == 1 and qa == "all":
                for pair in json.loads((out / "manifest.json").read_text())["pairs"]:
                    for step, value in pair["seconds"].items():
                        steps.setdefault(pair["scale"], {}).setdefault(step, []).append(value)
            shutil.rmtree(out)
    names = ["decode", "shrink", "coarse", "refine", "own_error", "warp", "sharpness",
             "photometric", "encode"]
    lines += ["", "Median seconds by step, one scene at once (PNG, HDF5 and QA are written beside "
              "the next pair):", "", "| s | " + " | ".join(names) + " |",
              "|---" * (len(names) + 1) + "|"]
    for scale, by_step in sorted(steps.items()):
        lines.append(f"| {scale} | " + " | ".join(
            f"{median(by_step[n]):.3f}" if n in by_step else "-" for n in names) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if a.save:
        path = pathlib.Path(__file__).parent / "results" / "registration_speed.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text("# Registration speed\n\n`registration_speed.py`, one wide and four tele JPEG "
                        "frames of 6048 x 4024 a scene.\n\n" + text)


if __name__ == "__main__":
    main()
