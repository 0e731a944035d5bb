"""Our network metrics against pyiqa: same picture, same weight files, same machine, turn by turn.

    python3 compare_network_metrics.py BUILD/bin/network_metrics_bench FILES [--metrics lpips,dists]
                               [--size 512] [--count 3] [--threads 2] [--rounds 3]
                               [--precision bf16]

Needs pyiqa 0.1.16 and what tests/golden/make_network_metrics.py needs, whose --write-files makes
FILES. Both judge the texture picture of tests/golden/make_metrics.py, size x size, `count` times
after one warm-up, with `threads` threads; pyiqa always in float32, ours in --precision where it is
given. For fid both take a folder of eight pictures at once, with their own batches: the time is that
of one picture's decoding (pyiqa), resize and features, the score the features' sum.
MANIQA takes pyiqa half a minute a picture: it is judged once a round, without warm-up.

Each turn is a process of its own, which prints one JSON line with the median time and its peak
memory, weights included:
    {"metric", "size", "threads", "precision", "ms", "score", "peak_mib"}
Rounds alternate between the two and the best median of each counts, so that other work on the
machine hits both alike. Prints a table, and the same as JSON lines with --json.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
import warnings

METRICS = ["lpips", "lpips-vgg", "dists", "musiq", "clipiqa", "clipiqa+", "fid", "maniqa-pipal"]
FID_PICTURES = 8


def judge(args):
    """pyiqa's turn: prints its line."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "golden"))
    warnings.filterwarnings("ignore")
    import make_network_metrics as golden
    import torch
    torch.set_num_threads(args.threads)
    pixels = golden.picture("texture", args.size, args.size)
    with golden.files_in_place(args.files):
        sys.stdout = sys.stderr  # pyiqa prints what it loads
        metric = golden.make(args.judge)
    if args.judge == "fid":
        import tempfile
        from PIL import Image
        from pyiqa.archs.fid_arch import get_folder_features
        folder = tempfile.TemporaryDirectory()
        for i in range(FID_PICTURES):
            Image.fromarray(pixels[0]).save(pathlib.Path(folder.name) / f"{i}.png", compress_level=0)
        score = lambda: get_folder_features(folder.name, metric.net.model, num_workers=0,
                                            device="cpu", verbose=False)[0].sum()
    else:
        pair = [golden.tensor(p) for p in pixels]
        pair = pair[:2 if args.judge in golden.FULL_REFERENCE else 1]
        score = lambda: metric(*pair)
    slow = args.judge == "maniqa-pipal"
    times = []
    for turn in range(1 if slow else args.count + 1):
        start = time.perf_counter()
        value = float(score())
        times.append(1000 * (time.perf_counter() - start))
    if args.judge == "fid":
        times = [t / FID_PICTURES for t in times]
    sys.stdout = sys.__stdout__
    print(json.dumps({"metric": args.judge, "size": args.size, "threads": args.threads,
                      "precision": "f32", "ms": statistics.median(times if slow else times[1:]),
                      "score": value,
                      "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def turn(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    output = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=True,
                            env=environment)
    return json.loads(output.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench", type=pathlib.Path)
    parser.add_argument("files", type=pathlib.Path)
    parser.add_argument("--metrics", default=",".join(METRICS))
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--count", type=int, default=3, help="times a picture is judged a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", help="of our side; as the bench's")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--judge", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.judge:
        judge(args)
        return

    if not args.json:
        print(f"{'metric':14}{'pyiqa ms':>10}{'ours ms':>10}{'times':>7}{'pyiqa MiB':>11}"
              f"{'ours MiB':>10}{'difference':>12}")
    for name in args.metrics.split(","):
        common = ["--size", args.size, "--threads", args.threads]
        theirs_command = [sys.executable, __file__, args.bench, args.files, "--judge", name,
                          "--count", args.count, *common]
        ours_command = [args.bench, "--weights", args.files, "--metric",
                        "lpips-alex" if name == "lpips" else name, *common]
        if name == "maniqa-pipal":
            ours_command += ["--count", 1, "--warm", 0]
        else:
            ours_command += ["--count", FID_PICTURES if name == "fid" else args.count]
        if args.precision:
            ours_command += ["--precision", args.precision]
        theirs, ours = [], []
        for _ in range(args.rounds):
            theirs.append(turn(theirs_command, args.threads))
            ours.append(turn(ours_command, args.threads))
        best = [min(lines, key=lambda line: line["ms"]) for lines in (theirs, ours)]
        ratio = best[0]["ms"] / best[1]["ms"]
        difference = max(abs(a["score"] - b["score"]) for a, b in zip(theirs, ours))
        if args.json:
            print(json.dumps({"pyiqa": best[0], "ours": best[1], "times_as_fast": ratio,
                              "largest_difference": difference}), flush=True)
        else:
            print(f"{name:14}{best[0]['ms']:10.1f}{best[1]['ms']:10.1f}{ratio:7.2f}"
                  f"{best[0]['peak_mib']:11.0f}{best[1]['peak_mib']:10.0f}{difference:12.1e}",
                  flush=True)


main()
