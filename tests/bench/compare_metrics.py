"""Our metrics against pyiqa: same pictures in memory, same machine, turn by turn.

    python3 compare_metrics.py BUILD/bin/metrics_bench SR HR NIQE.npz [--count 16] [--threads 2]
                               [--rounds 3] [--metrics psnr-y601,ssim-y601,niqe]

Needs pyiqa 0.1.16, torch, numpy, scipy and Pillow. SR, HR: folders whose pairs have equal names.
NIQE.npz: niqe_pris_params.npz, from which pyiqa's .mat file is made. Both use `threads` threads:
pyiqa inside a picture, ours over pictures. Prints JSON lines: for each metric pyiqa's, ours (with
the largest difference between the two in that very run) and the ratio. Rounds alternate between
the two and the best median of each counts, so that other work on the machine hits both alike.
"""
import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import tempfile
import time

import numpy as np
import pyiqa
import scipy.io
import torch
from PIL import Image

Y = dict(test_y_channel=True)
SETTINGS = {
    "psnr-y601": ("psnr", dict(color_space="ycbcr", **Y)),
    "psnr-yiq": ("psnr", dict(color_space="yiq", **Y)),
    "psnr-rgb": ("psnr", {}),
    "ssim-y601": ("ssim", dict(color_space="ycbcr", **Y)),
    "ssim-yiq": ("ssim", dict(color_space="yiq", **Y)),
    "ms-ssim": ("ms_ssim", {}),
    "niqe": ("niqe", {}),
    "niqe-y601": ("niqe", dict(color_space="ycbcr")),
}


def make(name, mat):
    pyiqa_name, options = SETTINGS[name]
    if pyiqa_name == "niqe":
        options = dict(options, pretrained_model_path=mat)
    return pyiqa.create_metric(pyiqa_name, device="cpu", **options)


def run_pyiqa(name, metric, pairs):
    """(median milliseconds a picture, scores)."""
    scores, times = {}, []
    for picture, (sr, hr) in pairs.items():
        start = time.perf_counter()
        value = metric(sr) if name.startswith("niqe") else metric(sr, hr)
        scores[picture] = float(value)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times), scores


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench")
    parser.add_argument("sr", type=pathlib.Path)
    parser.add_argument("hr", type=pathlib.Path)
    parser.add_argument("niqe")
    parser.add_argument("--count", type=int, default=16, help="pictures, the first by name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--metrics", default="psnr-y601,ssim-y601,niqe")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        params = np.load(args.niqe)
        mat = str(folder / "niqe.mat")
        scipy.io.savemat(mat, {"mu_prisparam": params["mu_pris_param"],
                               "cov_prisparam": params["cov_pris_param"]})

        # The same files for both, whole pictures in memory before the clock starts
        names = sorted(path.name for path in args.sr.glob("*.png"))[:args.count]
        pairs = {}
        for side in ("sr", "hr"):
            (folder / side).mkdir()
        for name in names:
            tensors = []
            for side, source in (("sr", args.sr), ("hr", args.hr)):
                (folder / side / name).symlink_to((source / name).resolve())
                pixels = np.asarray(Image.open(source / name).convert("RGB"), np.float32)
                tensors.append(torch.from_numpy(pixels.transpose(2, 0, 1) / np.float32(255))[None])
            pairs[name] = tensors

        for name in args.metrics.split(","):
            metric = make(name, mat)
            metric(*pairs[names[0]][:1 if name.startswith("niqe") else 2])  # warm up
            theirs, ours = [], []
            for _ in range(args.rounds):
                ms, scores = run_pyiqa(name, metric, pairs)
                theirs.append(ms)
                table = folder / "expected.csv"
                table.write_text(f"image,{name}\n"
                                 + "".join(f"{n},{v!r}\n" for n, v in scores.items()))
                output = subprocess.run(
                    [args.bench, folder / "sr", folder / "hr", "--expected", table, "--metric",
                     name, "--threads", str(args.threads)], check=True, capture_output=True)
                ours.append(json.loads(output.stdout))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            shape = [len(names), *pairs[names[0]][0].shape[1:]]
            print(json.dumps({"what": name, "by": f"pyiqa {pyiqa.__version__}", "shape": shape,
                              "device": "cpu", "threads": args.threads,
                              "milliseconds": min(theirs), "images_per_second": 1000 / min(theirs),
                              "peak_mib": peak}))
            best = min(ours, key=lambda line: line["milliseconds"])
            print(json.dumps(best))
            print(json.dumps({"what": name, "times_as_fast": min(theirs) / best["milliseconds"],
                              "largest_difference": best["largest_difference"]}), flush=True)


main()
