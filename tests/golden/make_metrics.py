#!/usr/bin/env python3
"""Golden numbers of the metrics, made by running pyiqa on a CPU.

usage: make_metrics.py NIQE.npz [--pairs SR_FOLDER HR_FOLDER] [--log LOG.csv] [--out tests/golden]

Needs pyiqa 0.1.16, torch, numpy, scipy, Pillow and OpenCV (opencv-python). Writes
  metrics_realsr_pyiqa_cpu.csv     pyiqa on the pairs of the two folders, where they are given
  metrics_synthetic_pyiqa_cpu.csv  pyiqa on pictures made by the integer formulas below, which
                                   tests/metrics/pictures.h repeats
  metrics_mistakes.csv             what typical mistakes give on some of those pictures, by the
                                   small numpy versions below; without a mistake these are first
                                   checked against pyiqa, and with --log the cuda profile of NIQE
                                   against a published log of the same pairs
pyiqa reads NIQE's numbers from a .mat file; it is made from the npz in a temporary folder.
"""
import argparse
import csv
import pathlib
import sys
import tempfile

import cv2
import numpy as np
import pyiqa
import scipy.io
import scipy.ndimage
import scipy.special
import torch
from PIL import Image

# ---- Pictures, whole numbers only ----


def hash32(x, y, seed):
    """A well mixed 32-bit number for each place; unsigned arithmetic modulo 2^32."""
    m = 0xFFFFFFFF
    h = (x * 0x9E3779B1 + y * 0x85EBCA77 + seed * 0xC2B2AE3D) & m
    h ^= h >> 15
    h = (h * 0x2C1B3C6D) & m
    h ^= h >> 12
    h = (h * 0x297A2D39) & m
    return h ^ (h >> 15)


def value_noise(x, y, cell, seed):
    """0..255: a hash at the corners of square cells, bilinear between."""
    cx, cy, fx, fy = x // cell, y // cell, x % cell, y % cell
    corner = lambda dx, dy: hash32(cx + dx, cy + dy, seed) & 255
    upper = corner(0, 0) * (cell - fx) + corner(1, 0) * fx
    lower = corner(0, 1) * (cell - fx) + corner(1, 1) * fx
    return (upper * (cell - fy) + lower * fy) // (cell * cell)


def texture(x, y, channel):
    """0..255: four octaves of grey noise and a little colour."""
    grey = (8 * value_noise(x, y, 32, 1) + 5 * value_noise(x, y, 8, 2)
            + 2 * value_noise(x, y, 3, 3) + value_noise(x, y, 1, 4)) // 16
    colour = value_noise(x, y, 16, 10 + channel)
    return np.clip(grey + (colour - 128) // 4, 0, 255)


def degraded(x, y, channel):
    """The texture averaged over five places, with noise that grows to the right."""
    mean = (texture(x, y, channel) + texture(x + 1, y, channel) + texture(x, y + 1, channel)
            + texture(x + 2, y, channel) + texture(x, y + 2, channel)) // 5
    noise = hash32(x, y, 20 + channel) % 41 - 20
    return np.clip(mean + noise * (x % 256) // 256, 0, 255)


def picture(kind, width, height):
    """(sr, hr), H x W x 3 uint8."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    c = [0, 1, 2]
    hr = np.stack([texture(x, y, k) for k in c], 2)
    sr = np.stack([degraded(x, y, k) for k in c], 2)
    if kind == "texture":
        pass
    elif kind == "grey":  # one channel three times
        hr, sr = np.repeat(hr[:, :, :1], 3, 2), np.repeat(sr[:, :, :1], 3, 2)
    elif kind == "close":  # one place in eight differs by one level
        step = np.stack([hash32(x, y, 30 + k) % 8 == 0 for k in c], 2)
        sr = np.where(hr < 255, hr + step, hr)
    elif kind == "inverted":  # structure turned upside down in the lower half
        sr = np.where((y >= height // 2)[:, :, None], 255 - hr, sr)
    elif kind == "patches":  # flat, black, white and ramp areas among texture
        area = (x // 40 + 3 * (y // 56)) % 7
        for k in c:
            ramp = np.minimum(x // 2 + 10 * k, 255)
            for p in (sr, hr):
                p[:, :, k] = np.select([area == 1, area == 3, area == 5, area == 6],
                                       [117 + 9 * k, 0, 255, ramp], p[:, :, k])
    elif kind == "flat blocks":  # the left 110 columns are one colour: whole blocks of NIQE
        for k in c:
            sr[:, :110, k] = 90 + 30 * k
    elif kind == "flat":
        hr[:], sr[:] = 255, 75
    else:
        raise ValueError(kind)
    return sr.astype(np.uint8), hr.astype(np.uint8)


PICTURES = [("texture", 512, 384), ("texture", 97, 131), ("texture", 200, 193),
            ("texture", 176, 176), ("texture", 96, 96), ("texture", 161, 300),
            ("grey", 200, 193), ("close", 200, 193), ("inverted", 200, 193),
            ("patches", 512, 384), ("patches", 97, 131), ("flat blocks", 400, 200),
            ("flat", 200, 193)]

# ---- pyiqa ----

NAMES = ["psnr-y601", "psnr-yiq", "psnr-rgb", "ssim-y601", "ssim-yiq", "ms-ssim", "niqe",
         "niqe-y601"]


def pyiqa_metrics(mat):
    y = dict(test_y_channel=True)
    make = lambda name, **kw: pyiqa.create_metric(name, device="cpu", **kw)
    return {
        "psnr-y601": make("psnr", color_space="ycbcr", **y),
        "psnr-yiq": make("psnr", color_space="yiq", **y),
        "psnr-rgb": make("psnr"),
        "ssim-y601": make("ssim", color_space="ycbcr", **y),
        "ssim-yiq": make("ssim", color_space="yiq", **y),
        "ms-ssim": make("ms_ssim"),
        "niqe": make("niqe", pretrained_model_path=mat),
        "niqe-y601": make("niqe", color_space="ycbcr", pretrained_model_path=mat),
    }


def tensor(picture_):
    return torch.from_numpy(picture_.transpose(2, 0, 1).astype(np.float32) / np.float32(255))[None]


def run(metric, name, sr, hr):
    """The score, or None where the reference gives up (too small, or flat for NIQE)."""
    try:
        pair = (tensor(sr),) if name.startswith("niqe") else (tensor(sr), tensor(hr))
        return float(metric(*pair))
    except (RuntimeError, AssertionError, ValueError, IndexError, np.linalg.LinAlgError) as e:
        print(f"  {name}: no score ({type(e).__name__}: {str(e)[:80]})", file=sys.stderr)
        return None


# ---- Small versions with room for mistakes ----

f32 = np.float32


def fma(a, b, c):
    # The product of two float32 is exact in float64; rounding the sum twice is next to never seen
    return (a.astype(np.float64) * np.float64(b) + c.astype(np.float64)).astype(f32)


def luma(picture_, kind, profile="cpu"):
    divided = lambda v: v * f32(1 / 255) if profile == "cuda" else v / f32(255)
    multiply_add = fma if profile == "cuda" else lambda a, b, c: a * b + c
    r, g, b = (divided(picture_[:, :, k].astype(f32)) for k in range(3))
    w = [f32(v) for v in ((65.481, 128.553, 24.966) if kind == "y601" else (0.299, 0.587, 0.114))]
    y = multiply_add(b, w[2], multiply_add(g, w[1], r * w[0]))
    return divided(y + f32(16)) if kind == "y601" else y


def psnr(sr, hr, mistake=None):
    a, b = luma(sr, "y601"), luma(hr, "y601")
    if mistake == "full-range luma":
        a, b = luma(sr, "yiq"), luma(hr, "yiq")
    if mistake == "RGB":
        a, b = sr / 255.0, hr / 255.0
    if mistake == "border crop 4":
        a, b = a[4:-4, 4:-4], b[4:-4, 4:-4]
    if mistake == "Y rounded to 8 bit":
        a, b = np.rint(a * f32(255)) / 255.0, np.rint(b * f32(255)) / 255.0
    mse = np.mean((a.astype(np.float64) - b) ** 2)
    return 10 * np.log10(1 / (mse + (0 if mistake == "no 1e-8" else 1e-8)))


def ssim(sr, hr, mistake=None):
    kind = "yiq" if mistake == "full-range luma" else "y601"
    a, b = (luma(p, kind) * f32(255) for p in (sr, hr))
    if mistake != "Y not rounded":
        a, b = np.rint(a), np.rint(b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    g = np.exp(-np.arange(-5, 6) ** 2 / (2 * 1.5 ** 2))
    w = np.outer(g, g)
    w /= w.sum()
    if mistake != "double window":
        w = w.astype(f32).astype(np.float64)
    mean = lambda v: scipy.ndimage.correlate(v, w)[5:-5, 5:-5]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ma, mb = mean(a), mean(b)
    cs = (2 * (mean(a * b) - ma * mb) + c2) / (mean(a * a) - ma ** 2 + mean(b * b) - mb ** 2 + c2)
    if mistake != "cs not clamped at 0":
        cs = np.maximum(cs, 0)
    return np.mean((2 * ma * mb + c1) / (ma ** 2 + mb ** 2 + c1) * cs)


def aggd(v):
    v = v.ravel()
    table = (0.2 + 0.001 * np.arange(9801)).astype(f32).astype(np.float64)
    lg = scipy.special.gammaln
    ratios = np.exp(2 * lg(2 / table) - lg(1 / table) - lg(3 / table))
    with np.errstate(all="ignore"):
        left = np.sqrt(np.sum(v[v < 0] ** 2) / np.sum(v < 0))
        right = np.sqrt(np.sum(v[v > 0] ** 2) / np.sum(v > 0))
        q = left / right
        rho = np.mean(np.abs(v)) ** 2 / np.mean(v ** 2)
        r = rho * (q ** 3 + 1) * (q + 1) / (q ** 2 + 1) ** 2
    a = table[np.argmin(np.abs(ratios - r))]
    scale = np.exp(0.5 * (lg(1 / a) - lg(3 / a)))
    return a, left * scale, right * scale, np.exp(lg(2 / a) - lg(1 / a))


def reduced(g, mistake, order):
    v = (g / 255.0).astype(f32)
    height, width = v.shape
    if mistake == "area reduction":
        return 255.0 * v.reshape(height // 2, 2, width // 2, 2).mean((1, 3)).astype(np.float64)
    if mistake == "non-antialiased cubic reduction":
        small = cv2.resize(v, (width // 2, height // 2), interpolation=cv2.INTER_CUBIC)
        return 255.0 * small.astype(np.float64)
    half = [0, -0.01171875, -0.03515625, 0.11328125, 0.43359375]
    w = np.array(half + half[::-1], f32)
    for _ in range(2):  # downwards, then the same on the transposed picture
        padded = np.pad(v, ((4, 4), (0, 0)), mode="symmetric")
        t = [w[k] * padded[k:k + v.shape[0]:2] for k in range(10)]
        if order == "cuda":
            p = [t[k] + t[k + 4] for k in range(4)]
            p[0], p[1] = p[0] + t[8], p[1] + t[9]
            v = (((p[0] + p[1]) + p[2]) + p[3]).T
        else:
            total = t[0]
            for k in range(1, 10):
                total = total + t[k]
            v = total.T
    return 255.0 * v.astype(np.float64)


def niqe(sr, params, mistake=None, profile="cpu"):
    g = luma(sr, "y601" if mistake == "YCbCr studio luma" else "yiq", profile) * f32(255)
    order = "cpu" if mistake == ORDER else profile
    g = (g if mistake == "luma not rounded" else np.rint(g)).astype(np.float64)
    rows, columns = g.shape[0] // 96, g.shape[1] // 96
    g = g[:rows * 96, :columns * 96]
    i = np.arange(-3, 4)
    w = np.exp(-(i[:, None] ** 2 + i ** 2) / (2 * (7 / 6) ** 2))
    w /= w.sum()
    if mistake != "double Gaussian window":
        w = w.astype(f32).astype(np.float64)
    mode = "mirror" if mistake == "mirror padding" else "nearest"
    features = np.empty((rows * columns, 0))
    for side in (96, 48):
        mu = scipy.ndimage.correlate(g, w, mode=mode)
        sd = np.sqrt(np.abs(scipy.ndimage.correlate(g * g, w, mode=mode) - mu * mu) + 2.22e-16)
        m = (g - mu) / (sd + 1)
        one_scale = []
        for by in range(rows):
            for bx in range(columns):
                b = m[by * side:(by + 1) * side, bx * side:(bx + 1) * side]
                a, left, right, _ = aggd(b)
                f = [a, (left + right) / 2]
                for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    product = b * np.roll(b, (dy, dx), (0, 1))
                    if mistake == "products not circular":
                        product = product[dy:, max(dx, 0):side + min(dx, 0)]
                    a, left, right, factor = aggd(product)
                    f += [a, (right - left) * factor, left, right]
                one_scale.append(f)
        features = np.hstack([features, np.array(one_scale)])
        if side == 96:
            g = reduced(g, mistake, order)
    whole = features[~np.isnan(features).any(1)]
    covariance = np.cov(whole, rowvar=False) if len(whole) > 1 else np.zeros((36, 36))
    d = params["mu_pris_param"].ravel() - np.nanmean(features, 0)
    return float(np.sqrt(d @ np.linalg.pinv((params["cov_pris_param"] + covariance) / 2) @ d))


ORDER = "plain float32 summation order in the reduction"

# (metric, mistake, kind, width, height)
MISTAKES = [
    ("psnr-y601", "full-range luma", "texture", 200, 193),
    ("psnr-y601", "RGB", "texture", 200, 193),
    ("psnr-y601", "border crop 4", "texture", 97, 131),
    ("psnr-y601", "Y rounded to 8 bit", "close", 200, 193),
    ("psnr-y601", "no 1e-8", "close", 200, 193),
    ("ssim-y601", "full-range luma", "texture", 200, 193),
    ("ssim-y601", "cs not clamped at 0", "inverted", 200, 193),
    ("ssim-y601", "Y not rounded", "patches", 512, 384),
    ("ssim-y601", "double window", "flat", 200, 193),
    ("niqe", "non-antialiased cubic reduction", "texture", 512, 384),
    ("niqe", "area reduction", "texture", 512, 384),
    ("niqe", "mirror padding", "texture", 512, 384),
    ("niqe", "YCbCr studio luma", "texture", 512, 384),
    ("niqe", "luma not rounded", "texture", 512, 384),
    ("niqe", "products not circular", "texture", 512, 384),
    ("niqe", "double Gaussian window", "patches", 512, 384),
]
TOLERANCE = {"psnr-y601": 5e-5, "ssim-y601": 2e-6, "niqe": 2e-2}  # of the cpu profile


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("params")
    parser.add_argument("--pairs", nargs=2, type=pathlib.Path, metavar=("SR", "HR"))
    parser.add_argument("--log", type=pathlib.Path)
    parser.add_argument("--out", default="tests/golden", type=pathlib.Path)
    args = parser.parse_args()
    torch.set_num_threads(2)
    params = np.load(args.params)
    with tempfile.TemporaryDirectory() as folder:
        mat = str(pathlib.Path(folder) / "niqe.mat")
        scipy.io.savemat(mat, {"mu_prisparam": params["mu_pris_param"],
                               "cov_prisparam": params["cov_pris_param"]})
        metrics = pyiqa_metrics(mat)
    tools = f"pyiqa {pyiqa.__version__} on a CPU, torch {torch.__version__}, numpy {np.__version__}"
    command = "tests/golden/make_metrics.py niqe_pris_params.npz --pairs SR HR --log LOG.csv"
    word = lambda v: "" if v is None else repr(v)

    def write(name, inputs, header, rows):
        lines = [f"# {tools}", f"# command: {command}", f"# inputs: {inputs}", header]
        (args.out / name).write_text("\n".join(lines + rows) + "\n")

    # Synthetic pictures
    rows = []
    scores = {}
    for kind, width, height in PICTURES:
        sr, hr = picture(kind, width, height)
        for name in NAMES:
            scores[kind, width, height, name] = run(metrics[name], name, sr, hr)
        checksum = int(sr.astype(np.int64).sum()), int(hr.astype(np.int64).sum())
        rows.append(",".join([kind, str(width), str(height), *map(str, checksum)]
                             + [word(scores[kind, width, height, n]) for n in NAMES]))
    write("metrics_synthetic_pyiqa_cpu.csv",
          "pictures of the script's picture(kind, width, height); sums of all samples to check them",
          "kind,width,height,sr_sum,hr_sum," + ",".join(NAMES), rows)

    # Mistakes
    small = {"psnr-y601": psnr, "ssim-y601": ssim,
             "niqe": lambda sr, hr, mistake=None: niqe(sr, params, mistake)}
    rows = []
    for name, mistake, kind, width, height in MISTAKES:
        sr, hr = picture(kind, width, height)
        right, plain = scores[kind, width, height, name], small[name](sr, hr)
        if not abs(right - plain) < TOLERANCE[name]:
            sys.exit(f"{name} on {kind}: pyiqa {right}, small version {plain}")
        mistaken = small[name](sr, hr, mistake)
        print(f"{name}, {mistake}: {right:.6f}, plain {plain - right:+.2e}, "
              f"mistaken {mistaken - right:+.6f}", file=sys.stderr)
        rows.append(",".join([name, mistake, kind, str(width), str(height), word(right),
                              word(float(mistaken))]))
    # The one mistake that needs the cuda profile, which no CPU reference has
    sr, _ = picture("patches", 512, 384)
    right, mistaken = (niqe(sr, params, m, "cuda") for m in (None, ORDER))
    rows.append(f"niqe,{ORDER},patches,512,384,{right!r},{mistaken!r}")
    write("metrics_mistakes.csv", "as metrics_synthetic_pyiqa_cpu.csv; right = pyiqa (last row: the "
          "small version in the cuda profile), mistaken = the small version with that mistake",
          "metric,mistake,kind,width,height,right,mistaken", rows)

    if not args.pairs:
        return

    # Real pictures
    read = lambda path: np.asarray(Image.open(path).convert("RGB"))
    names = sorted(path.name for path in args.pairs[0].glob("*.png"))
    if args.log:
        with open(args.log) as log:
            logged = {row["image"]: float(row["niqe"]) for row in csv.DictReader(log)}
        worst = max(abs(niqe(read(args.pairs[0] / n), params, None, "cuda") - logged[n])
                    for n in names)
        print(f"niqe, cuda profile, {len(names)} pictures: {worst:.1e} from the log", file=sys.stderr)
        if worst > 1e-4:
            sys.exit("the small version of NIQE does not reproduce the log")
    rows = []
    for n in names:
        sr, hr = read(args.pairs[0] / n), read(args.pairs[1] / n)
        rows.append(",".join([n] + [word(run(metrics[m], m, sr, hr)) for m in NAMES]))
    write("metrics_realsr_pyiqa_cpu.csv",
          "the 100 pairs of the RealSR benchmark, restored by OSEDiff (published results)",
          "image," + ",".join(NAMES), rows)


if __name__ == "__main__":
    main()
