"""Our degradation against BasicSR's: the severe preset on 512 x 512 patches, turn by turn.

    python3 compare_degradation.py REFERENCE_DIR [BUILD/tests/degradation_bench] [--reference-only]
                                   [--scales 4,8] [--draws 32] [--rounds 3]

REFERENCE_DIR and the Python packages: see tests/golden/make_degradation.py. The reference runs on
one CPU thread in its two forms:
  batch 1  as OSEDiff's loader runs it: three kernels, two stages, back to 512, rounding
  batch 4  as Real-ESRGAN's trainer runs it, draws shared by the batch, made contiguous before the
           second blur (without that torch refuses on a CPU)
each with and without sharpening, over a fixed list of draws: every round, and every scale, repeats
the same ratios, kernels and modes. Times are milliseconds an image: `ms` is the median over the
draws, `mean ms` the mean (of the work, not of the rounds). Sharpening does not depend on the draws
and is timed on 16 pictures.

Our program prints one JSON line a configuration: what ("exact usm", "exact", "fast usm", "fast"),
scale, ms_per_image (a median), mean_ms, threads. It draws its own parameters from the same preset,
256 times. The ratios are of the means: a median depends on the few draws in the middle. Rounds
alternate between the two and the best of each counts, so that other work on the machine hits both.
Prints JSON lines: the reference's steps and totals (wall clock and CPU time), ours, the ratios.
"""
import argparse
import collections
import importlib
import json
import math
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time
import types

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
import skimage  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

TYPES = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
WEIGHTS = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
SIZES = [2 * v + 1 for v in range(3, 11)]
MODES = ["area", "bilinear", "bicubic"]
PATCH = 512


def load_reference(folder):
    """The three modules; torchvision's rgb_to_grayscale stands in by its formula."""
    shim = types.ModuleType("torchvision.transforms.functional_tensor")
    shim.rgb_to_grayscale = lambda img, num_output_channels=1: (
        0.2989 * img[:, 0:1] + 0.587 * img[:, 1:2] + 0.114 * img[:, 2:3])
    for name in ("torchvision", "torchvision.transforms"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules[shim.__name__] = shim
    sys.path.insert(0, str(folder))
    return [importlib.import_module(n) for n in ("degradations", "diffjpeg", "img_process_util")]


class Steps:
    """Times of named steps, in milliseconds an image."""

    def __init__(self):
        self.wall, self.cpu = collections.defaultdict(list), collections.defaultdict(list)

    def time(self, name, batch, work):
        start, busy = time.perf_counter(), time.process_time()
        result = work()
        self.cpu[name].append(1e3 * (time.process_time() - busy) / batch)
        self.wall[name].append(1e3 * (time.perf_counter() - start) / batch)
        return result


class Reference:
    """The chain of the severe preset around the reference's functions."""

    def __init__(self, folder):
        self.draw, diffjpeg, self.process = load_reference(folder)
        self.usm = self.process.USMSharp()
        self.codec = diffjpeg.DiffJPEG(differentiable=False)

    def kernel(self, sigma):
        size = random.choice(SIZES)
        if np.random.uniform() < 0.1:
            low = np.pi / 3 if size < 13 else np.pi / 5
            kernel = self.draw.circular_lowpass_kernel(np.random.uniform(low, np.pi), size)
        else:
            kernel = self.draw.random_mixed_kernels(TYPES, WEIGHTS, size, sigma, sigma,
                                                    [-math.pi, math.pi], [0.5, 4], [1, 2])
        return np.pad(kernel, (21 - size) // 2)

    def final_kernel(self):
        if np.random.uniform() < 0.8:
            return self.draw.circular_lowpass_kernel(np.random.uniform(np.pi / 3, np.pi),
                                                     random.choice(SIZES), pad_to=21)
        pulse = np.zeros((21, 21))
        pulse[10, 10] = 1
        return pulse

    def ratio(self, prob, low, high):
        direction = random.choices(["up", "down", "keep"], prob)[0]
        if direction == "up":
            return np.random.uniform(1, high)
        return np.random.uniform(low, 1) if direction == "down" else 1

    def noise(self, image, sigma, scale):
        if np.random.uniform() < 0.5:
            return self.draw.random_add_gaussian_noise_pt(image, sigma_range=sigma, clip=True,
                                                          rounds=False, gray_prob=0.4)
        return self.draw.random_add_poisson_noise_pt(image, scale_range=scale, gray_prob=0.4,
                                                     clip=True, rounds=False)

    def jpeg(self, image):
        quality = image.new_zeros(image.size(0)).uniform_(30, 95)
        return self.codec(torch.clamp(image, 0, 1), quality=quality)

    def filtered(self, image, kernel):
        """A batch leaves the codec in an order of memory that the reference's view refuses."""
        return self.process.filter2D(image if len(image) == 1 else image.contiguous(), kernel)

    def sharpen(self, steps, image):
        return steps.time("usm", len(image), lambda: self.usm(image))

    def run(self, steps, image, scale, back):
        """image: N x 3 x 512 x 512. back: to 512 again, as OSEDiff does. Returns the LR."""
        n = len(image)

        def drawn(make):
            return torch.from_numpy(np.stack([make() for _ in range(n)]).astype(np.float32))
        kernels = steps.time("kernels", n, lambda: [
            drawn(lambda: self.kernel([0.2, 3])), drawn(lambda: self.kernel([0.2, 1.5])),
            drawn(self.final_kernel)])

        # Stage 1
        x = steps.time("blur 1", n, lambda: self.process.filter2D(image, kernels[0]))
        r, mode = self.ratio([0.2, 0.7, 0.1], 0.15, 1.5), random.choice(MODES)
        x = steps.time("resize 1", n, lambda: F.interpolate(x, scale_factor=r, mode=mode))
        x = steps.time("noise 1", n, lambda: self.noise(x, [1, 30], [0.05, 3]))
        x = steps.time("jpeg 1", n, lambda: self.jpeg(x))

        # Stage 2
        if np.random.uniform() < 0.8:
            x = steps.time("blur 2", n, lambda: self.filtered(x, kernels[1]))
        else:
            steps.time("blur 2", n, lambda: None)
        r, mode = self.ratio([0.3, 0.4, 0.3], 0.3, 1.2), random.choice(MODES)
        side = int(PATCH / scale * r)
        x = steps.time("resize 2", n, lambda: F.interpolate(x, size=(side, side), mode=mode))
        x = steps.time("noise 2", n, lambda: self.noise(x, [1, 25], [0.05, 2.5]))
        first, mode = np.random.uniform() < 0.5, random.choice(MODES)
        size = (PATCH // scale, PATCH // scale)

        def final(y):
            y = F.interpolate(y, size=size, mode=mode)
            return self.filtered(y, kernels[2])
        if first:
            x = steps.time("final blur", n, lambda: final(x))
            x = steps.time("jpeg 2", n, lambda: self.jpeg(x))
        else:
            x = steps.time("jpeg 2", n, lambda: self.jpeg(x))
            x = steps.time("final blur", n, lambda: final(x))

        # OSEDiff rounds only after the way back
        if back:
            mode = random.choice(MODES)
            size = (PATCH, PATCH)
            x = steps.time("resize back", n, lambda: F.interpolate(x, size=size, mode=mode))
        return steps.time("round", n, lambda: torch.clamp((x * 255.0).round(), 0, 255) / 255.)


def pictures(count):
    """512 x 512: the astronaut in its eight positions, again and again."""
    photo = np.ascontiguousarray(skimage.data.astronaut().transpose(2, 0, 1), np.float32) / 255
    result = []
    for i in range(count):
        turned = np.rot90(photo, i % 4, (1, 2))
        result.append(torch.from_numpy((turned[:, :, ::-1] if i % 8 > 3 else turned).copy()))
    return torch.stack(result)


def seed(value):
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def summary(steps, usm):
    """Milliseconds an image: the steps and the whole, without and with sharpening."""
    result = {"steps": {k: statistics.median(v) for k, v in {**usm.wall, **steps.wall}.items()},
              "mean steps": {k: statistics.mean(v) for k, v in {**usm.wall, **steps.wall}.items()}}
    for name, average in (("ms", statistics.median), ("mean ms", statistics.mean)):
        for clock, chain, sharpen in (("", steps.wall, usm.wall), ("cpu ", steps.cpu, usm.cpu)):
            result[clock + name] = average([sum(parts) for parts in zip(*chain.values())])
            result[clock + name + " usm"] = result[clock + name] + average(sharpen["usm"])
    return result


def run_reference(reference, images, scales, draws):
    """{(batch, scale): summary}. The sharpened pictures serve all the scales."""
    results = {}
    for batch in (1, 4):
        usm = Steps()
        sharp = [reference.sharpen(usm, part) for part in images.split(batch)]
        for scale in scales:
            seed(batch)
            steps = Steps()
            for i in range(draws):
                out = reference.run(steps, sharp[i % len(sharp)], scale, back=batch == 1)
                side = PATCH if batch == 1 else PATCH // scale
                assert out.shape == (batch, 3, side, side) and torch.isfinite(out).all()
            results[batch, scale] = summary(steps, usm)
    return results


def smaller(old, new):
    """The smaller of each pair of numbers, folder by folder."""
    pairs = {k: (v, new[k]) for k, v in old.items()}
    return {k: (smaller if isinstance(v[0], dict) else min)(*v) for k, v in pairs.items()}


def rounded(values):
    return {k: rounded(v) if isinstance(v, dict) else round(v, 2) for k, v in values.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=pathlib.Path)
    parser.add_argument("bench", nargs="?", type=pathlib.Path)
    parser.add_argument("--reference-only", action="store_true")
    parser.add_argument("--scales", default="4,8")
    parser.add_argument("--draws", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    scales = [int(s) for s in args.scales.split(",")]
    ours_too = not args.reference_only
    if ours_too and (args.bench is None or not args.bench.exists()):
        print("degradation_bench is not there, so only the reference is timed: build it and give "
              "its path, or say --reference-only.", file=sys.stderr)
        ours_too = False

    torch.set_num_threads(1)
    reference, images = Reference(args.reference), pictures(16)
    with torch.inference_mode():
        seed(0)
        warm = Steps()
        reference.run(warm, reference.sharpen(warm, images[:1]), scales[0], True)  # warm up

        best, ours = {}, {}
        for _ in range(args.rounds):
            for key, result in run_reference(reference, images, scales, args.draws).items():
                best[key] = smaller(best[key], result) if key in best else result
            if ours_too:
                text = subprocess.run([args.bench.resolve(), "--json-lines"], check=True,
                                      stdout=subprocess.PIPE).stdout
                for line in map(json.loads, text.decode().splitlines()):
                    key = line["what"], int(line["scale"]), int(line["threads"])
                    if key not in ours or line["mean_ms"] < ours[key]["mean_ms"]:
                        ours[key] = line

    for (batch, scale), result in best.items():
        print(json.dumps({"what": f"BasicSR 1.4.2, batch {batch}", "scale": scale, "threads": 1,
                          "shape": [batch, 3, PATCH, PATCH], "device": "cpu", "draws": args.draws,
                          "torch": torch.__version__.split("+")[0], **rounded(result)}))
    for line in ours.values():
        print(json.dumps(line))

    # The table: both columns and the ratio, for the scales that both have
    rows = [("chain", "scale", "threads", "reference b1", "reference b4", "ours", "x b1", "x b4")]
    for (what, scale, threads), line in ours.items():
        if (1, scale) not in best:
            continue
        clock = "mean ms usm" if what.endswith("usm") else "mean ms"
        b1, b4, mine = best[1, scale][clock], best[4, scale][clock], line["mean_ms"]
        rows.append((what, str(scale), str(threads), f"{b1:.1f}", f"{b4:.1f}", f"{mine:.2f}",
                     f"{b1 / mine:.1f}", f"{b4 / mine:.1f}"))
        print(json.dumps({"what": what, "scale": scale, "threads": threads,
                          "times_as_fast_as_batch_1": b1 / mine,
                          "times_as_fast_as_batch_4": b4 / mine}))
    if not ours:
        clocks = ("ms", "ms usm", "mean ms", "mean ms usm", "cpu ms", "cpu ms usm")
        rows = [("reference", "scale", *clocks)]
        for (batch, scale), r in best.items():
            rows.append((f"batch {batch}", str(scale), *(f"{r[c]:.1f}" for c in clocks)))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.rjust(w) for cell, w in zip(row, widths)), file=sys.stderr)


if __name__ == "__main__":
    main()
