#!/usr/bin/env python3
"""Golden numbers of the degradation operator, made by running BasicSR's primitives on a CPU.

usage: make_degradation.py REFERENCE_DIR OUT_DIR [--draws 20000]

REFERENCE_DIR holds three files of BasicSR 1.4.2: degradations.py, diffjpeg.py, img_process_util.py.
Getting them, with Python 3.11, in an environment of its own:

    pip install torch==2.11.0 numpy scipy opencv-python-headless safetensors scikit-image
    pip install "setuptools<70"
    pip download --no-deps --no-binary basicsr --no-build-isolation basicsr==1.4.2
    tar xzf basicsr-1.4.2.tar.gz
    cp basicsr-1.4.2/basicsr/data/degradations.py \\
       basicsr-1.4.2/basicsr/utils/{diffjpeg,img_process_util}.py REFERENCE_DIR

None of BasicSR's own dependencies is needed. torchvision is not either: the one function that
degradations.py takes from it is given here by its published formula.

Writes, with one thread and fixed seeds,
  degradation_steps.safetensors  inputs, injected draws and results of single steps, float32
  degradation_steps.json         the steps: names and parameters as `apply-step` takes them
  degradation_draws.json         distributions of the reference's own random draws
Pictures are crops of scikit-image's astronaut (public domain) and chelsea (CC0).

A case: {name, step, params, tensors: {role: name in the file}, expected: name in the file,
tolerance, reason}, and where needed
  exclude_blocks  [[by, bx], ...] 16x16 blocks in which a coefficient lies at a tie of the rounding
  probe           one number about the expected tensor, with its own tolerance
Before a case is written, the result is compared with the twin below, which computes the same step
from its formula in double precision: the tolerances hold for an implementation that is not torch.
"""
import argparse
import collections
import contextlib
import importlib
import io
import json
import math
import os
import pathlib
import random
import sys
import types

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import scipy  # noqa: E402
import scipy.ndimage  # noqa: E402
import scipy.special  # noqa: E402
import skimage  # noqa: E402
import torch  # noqa: E402
from PIL import Image, features  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from torch.nn import functional as F  # noqa: E402

F32 = np.float32


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


# ---- Pictures ----


def crop(picture, y, x, height, width, stride=2):
    """[3,height,width] float32, k/255."""
    part = picture[y:y + height * stride:stride, x:x + width * stride:stride]
    assert part.shape == (height, width, 3), part.shape
    return (part.transpose(2, 0, 1) / F32(255)).astype(F32)


def noisy(image, sigma, seed):
    """With fractional levels, some of them outside [0,1], as inside the chain."""
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return (image + noise).astype(F32)


# ---- The twin: every step from its formula, in double precision ----


def twin_kernel(type, size, sigma_x, sigma_y, rotation, beta):
    axis = np.arange(size) - (size - 1) / 2
    x, y = np.meshgrid(axis, axis)
    if type.endswith("aniso"):
        c, s = math.cos(rotation), math.sin(rotation)
        u, v = (c * x + s * y) / sigma_x, (-s * x + c * y) / sigma_y
    else:
        u, v = x / sigma_x, y / sigma_x
    m = u * u + v * v
    if type in ("iso", "aniso"):
        k = np.exp(-m / 2)
    elif type.startswith("generalized"):
        k = np.exp(-m**beta / 2)
    else:
        k = 1 / (1 + m**beta)
    return k / k.sum()


def twin_sinc(size, omega):
    axis = np.arange(size) - (size - 1) / 2
    r = np.hypot(*np.meshgrid(axis, axis))
    with np.errstate(invalid="ignore"):
        k = omega * scipy.special.j1(omega * r) / (2 * math.pi * r)
    k[size // 2, size // 2] = omega**2 / (4 * math.pi)
    return k / k.sum()


def twin_blur(image, kernel):
    """Reflection without the edge, as often as needed (numpy's pad does that), then correlation."""
    half = kernel.shape[0] // 2
    padded = np.pad(image.astype(np.float64), ((0, 0), (half, half), (half, half)), mode="reflect")
    kernel = kernel.astype(np.float64)
    planes = [scipy.ndimage.correlate(p, kernel, mode="constant") for p in padded]
    return np.stack(planes)[:, half:-half, half:-half]


def usm_kernel():
    x = np.arange(51) - 25.0
    g = np.exp(-x * x / (2 * 8.0**2))  # sigma 8 = 0.3 ((51 - 1)/2 - 1) + 0.8
    return np.outer(g, g) / g.sum()**2


def twin_usm(image, kernel):
    """(result, distance of 255 |residual| from the threshold)."""
    image = image.astype(np.float64)
    residual = image - twin_blur(image, kernel)
    mask = 255 * abs(residual) > 10
    s = twin_blur(mask, kernel)
    result = s * np.clip(image + 0.5 * residual, 0, 1) + (1 - s) * image
    return result, abs(255 * abs(residual) - 10)


def twin_axis(n, m, mode, ratio, antialias):
    """The m x n matrix of one axis. Coordinates are float32 with one rounding, as in torch."""
    a = np.zeros((m, n))
    step = F32(1 / ratio) if ratio else F32(n) / F32(m)
    for i in range(m):
        if mode == "area":
            first, last = i * n // m, -((i + 1) * n // -m)
            a[i, first:last] = 1 / (last - first)
        elif antialias:
            scale = max(float(step), 1.0)
            reach = (1 if mode == "bilinear" else 2) * scale
            centre = float(step) * (i + 0.5)
            first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), n)
            d = abs(np.arange(first, last) + 0.5 - centre) / scale
            a[i, first:last] = np.clip(1 - d, 0, 1) if mode == "bilinear" else keys(d, -0.5)
            a[i] /= a[i].sum()
        elif mode == "bilinear" and n == m:
            a[i, i] = 1
        else:
            at = F32(float(step) * (i + 0.5) - 0.5)
            if mode == "bilinear":
                at = max(at, F32(0))
            low = int(np.floor(at))
            taps = range(low, low + 2) if mode == "bilinear" else range(low - 1, low + 3)
            t = float(at - F32(low))
            for tap in taps:
                d = abs(tap - low - t)
                weight = 1 - d if mode == "bilinear" else keys(np.array(d), -0.75)
                a[i, min(max(tap, 0), n - 1)] += weight
    return a


def keys(d, a):
    inner = ((a + 2) * d - (a + 3)) * d * d + 1
    outer = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0))


def twin_resize(image, size, mode, ratio=None, antialias=False):
    rows = twin_axis(image.shape[1], size[0], mode, ratio, antialias)
    columns = twin_axis(image.shape[2], size[1], mode, ratio, antialias)
    return np.stack([rows @ p.astype(np.float64) @ columns.T for p in image])


def twin_gaussian(image, z, sigma):
    return np.clip(image + z * F32(sigma) / F32(255), F32(0), F32(1))  # float32 throughout


def levels(image, gray):
    """(Q, vals) of the Poisson step, float32 throughout."""
    if gray:
        r, g, b = image
        image = (F32(0.2989) * r + F32(0.587) * g + F32(0.114) * b)[None]
    q = np.clip(np.rint(image * F32(255)), F32(0), F32(255)) / F32(255)
    return q, 2**math.ceil(math.log2(len(np.unique(q))))


def twin_poisson(image, counts, scale, gray):
    q, vals = levels(image, gray)
    return np.clip(image + (counts / F32(vals) - q) * F32(scale), F32(0), F32(1))


LUMA = np.array([[16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
                 [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
                 [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
                 [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]]).T
CHROMA = np.full((8, 8), 99)
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
DCT = np.array([[(math.sqrt(0.125) if u == 0 else 0.5) * math.cos((2 * x + 1) * u * math.pi / 16)
                 for x in range(8)] for u in range(8)])


def factor(quality):
    """float32, step by step as torch goes: 5000 / tensor is its reciprocal times 5000."""
    q = F32(quality)
    return F32(1) / q * F32(5000) / F32(100) if q < 50 else (F32(200) - q * F32(2)) / F32(100)


def pad16(image, how):
    height, width = image.shape[1:]
    return np.pad(image, ((0, 0), (0, -height % 16), (0, -width % 16)),
                  mode="constant" if how == "zero" else "edge")


def twin_jpeg(image, quality, pad):
    """(result, 16x16 blocks that hold a coefficient near a tie of its rounding).

    Near: 5e-4 levels, several times what float32 moves a coefficient by in any order of its sum,
    and at most 1e-3 quantiser steps.
    """
    _, height, width = image.shape
    r, g, b = 255 * pad16(image.astype(np.float64), pad)
    planes = [0.299 * r + 0.587 * g + 0.114 * b - 128,
              -0.168736 * r - 0.331264 * g + 0.5 * b, 0.5 * r - 0.418688 * g - 0.081312 * b]
    ties = np.zeros((r.shape[0] // 16, r.shape[1] // 16), bool)
    for k, table in enumerate((LUMA, CHROMA, CHROMA)):
        p = planes[k]
        if k:
            p = (p[::2, ::2] + p[::2, 1::2] + p[1::2, ::2] + p[1::2, 1::2]) / 4
        blocks = p.reshape(p.shape[0] // 8, 8, -1, 8).transpose(0, 2, 1, 3)
        entry = (table.astype(F32) * factor(quality)).astype(np.float64)
        c = DCT @ blocks @ DCT.T / entry
        near = (abs(c - np.floor(c) - 0.5) < np.minimum(1e-3, 5e-4 / entry)).any((2, 3))
        side = 1 if k else 2
        ties |= near.reshape(ties.shape[0], side, ties.shape[1], side).any((1, 3))
        p = (DCT.T @ (np.rint(c) * entry) @ DCT).transpose(0, 2, 1, 3).reshape(p.shape)
        planes[k] = np.kron(p, np.ones((2, 2))) if k else p + 128
    y, cb, cr = planes
    out = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])
    return (np.clip(out, 0, 255) / 255)[:, :height, :width], np.argwhere(ties).tolist()


# ---- The collected cases ----


class Golden:
    def __init__(self):
        self.tensors, self.cases, self.worst = {}, [], collections.defaultdict(float)

    def store(self, array, name):
        """Equal tensors are stored once."""
        array = np.ascontiguousarray(array, F32)
        for known, other in self.tensors.items():
            if other.shape == array.shape and other.tobytes() == array.tobytes():
                return known
        self.tensors[name] = array
        return name

    def add(self, name, step, params, inputs, expected, tolerance, reason, twin=None, **more):
        """inputs: role -> (name of the tensor, array)."""
        assert all(case["name"] != name for case in self.cases), name
        expected = np.asarray(expected, F32)
        assert np.isfinite(expected).all(), name
        if twin is not None:
            difference = abs(expected - np.asarray(twin, np.float64))
            for by, bx in more.get("exclude_blocks", []):
                difference[:, 16 * by:16 * by + 16, 16 * bx:16 * bx + 16] = 0
            assert difference.max() <= tolerance, (name, difference.max(), tolerance)
            group = step + (" " + params["mode"] if "mode" in params else "")
            self.worst[group] = max(self.worst[group], float(difference.max()))
        tensors = {role: self.store(array, label) for role, (label, array) in inputs.items()}
        self.cases.append({"name": name, "step": step, "params": params, "tensors": tensors,
                           "expected": self.store(expected, name + ".expected"),
                           "tolerance": tolerance, "reason": reason, **more})


def batch(array):
    return torch.from_numpy(np.ascontiguousarray(array, F32))[None]


def number(value):
    """A parameter that float32 holds exactly, so that no program rounds it differently."""
    return float(F32(value))


@contextlib.contextmanager
def recorded(name):
    """Keeps what torch.randn or torch.poisson returned, in the order of the calls."""
    original, results = getattr(torch, name), []

    def call(*args, **kwargs):
        results.append(original(*args, **kwargs))
        return results[-1]
    setattr(torch, name, call)
    try:
        yield results
    finally:
        setattr(torch, name, original)


# ---- Steps ----

TYPES = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")


def reference_kernel(ref, type, size, sigma_x, sigma_y, rotation, beta):
    iso = type.endswith("iso") and not type.endswith("aniso")
    common = (size, sigma_x, sigma_y, rotation)
    if type in ("iso", "aniso"):
        return ref.bivariate_Gaussian(*common, isotropic=iso)
    if type.startswith("generalized"):
        return ref.bivariate_generalized_Gaussian(*common, beta, isotropic=iso)
    return ref.bivariate_plateau(*common, beta, isotropic=iso)


def to21(kernel):
    side = (21 - kernel.shape[0]) // 2
    return np.pad(kernel, side).astype(F32)


def kernels(golden, ref):
    reason = "closed form in double, rounded once to float32; degradation 4.4"
    cases = []
    for i, type in enumerate(TYPES):
        for j, size in enumerate((7, 13, 21)):
            params = dict(type=type, size=size, sigma_x=0.8 + 0.3 * i + 0.25 * j,
                          sigma_y=0.4 + 0.05 * i + 0.15 * j, rotation=-2.9 + 0.9 * i + 0.4 * j,
                          beta=((0.6, 2.2, 3.4) if "generalized" in type else (1.0, 1.3, 1.9))[j])
            cases.append((f"kernel_{type}_k{size}", params))
    # The corners of the published ranges: underflow, the narrowest ellipse, the flattest top
    corner = dict(type="iso", size=21, sigma_x=0.2, sigma_y=0.2, rotation=0.0, beta=1.0)
    cases += [("kernel_iso_corner_sigma_0.2", corner),
              ("kernel_aniso_corner", dict(corner, type="aniso", sigma_y=3.0, rotation=0.7)),
              ("kernel_aniso_corner_turned",
               dict(corner, type="aniso", sigma_x=3.0, rotation=-3.1)),
              ("kernel_generalized_aniso_corner",
               dict(corner, type="generalized_aniso", sigma_x=3.0, rotation=1.2, beta=4.0)),
              ("kernel_generalized_iso_corner",
               dict(corner, type="generalized_iso", sigma_x=3.0, beta=0.5)),
              ("kernel_plateau_iso_corner", dict(corner, type="plateau_iso", beta=2.0)),
              ("kernel_truncated_sigma_3_k7", dict(corner, size=7, sigma_x=3.0))]
    for name, params in cases:
        params = {k: round(v, 6) if isinstance(v, float) else v for k, v in params.items()}
        if not params["type"].endswith("aniso"):
            params.update(sigma_y=params["sigma_x"], rotation=0.0)
        if params["type"] in ("iso", "aniso"):
            params["beta"] = 1.0
        golden.add(name, "kernel", params, {}, reference_kernel(ref, **params), 1e-7, reason,
                   twin_kernel(**params))
    for size in (7, 13, 21):
        for omega in (0.7, 1.1, 2.9) if size > 12 else (1.1, 2.9):
            params = dict(size=size, omega=omega)
            golden.add(f"sinc_k{size}_omega_{omega}", "sinc", params, {},
                       ref.circular_lowpass_kernel(omega, size), 1e-7, reason, twin_sinc(**params))


def blur(golden, ref, process, photo, small):
    pulse = np.zeros((21, 21), F32)
    pulse[10, 10] = 1
    cases = [("iso_k13", ("iso", 13, 1.7, 1.7, 0.0, 1.0)),
             ("aniso_k21", ("aniso", 21, 2.8, 0.6, 0.9, 1.0)),
             ("generalized_aniso_k13", ("generalized_aniso", 13, 2.1, 0.8, -0.5, 0.6)),
             ("plateau_aniso_k7", ("plateau_aniso", 7, 1.4, 0.7, 2.2, 1.6))]
    cases = [(name, to21(reference_kernel(ref, *args))) for name, args in cases]
    cases += [(f"sinc_k{k}_omega_{w}", to21(ref.circular_lowpass_kernel(w, k)))
              for k, w in ((7, 2.9), (13, 1.1), (21, 0.7), (21, 2.9))] + [("pulse", pulse)]

    def add(name, image, label, kernel, tolerance, reason, pad=False):
        if pad:  # the reference refuses a side under 11; the same reflection, repeated
            padded = np.pad(image, ((0, 0), (10, 10), (10, 10)), mode="reflect")
            planes = batch(padded).permute(1, 0, 2, 3)
            out = F.conv2d(planes, torch.from_numpy(kernel)[None, None])[:, 0]
        else:
            out = process.filter2D(batch(image), torch.from_numpy(kernel)[None])[0]
        inputs = {"image": (label, image), "kernel": (name + ".kernel", kernel)}
        golden.add(name, "blur", {}, inputs, out, tolerance, reason, twin_blur(image, kernel))

    for name, kernel in cases:
        wide, far = "k21" in name, name.startswith("sinc_k21")
        add("blur_" + name, photo if wide else small, "photo" if wide else "small", kernel,
            4e-6 if far else 2e-6,
            "float32 sum in another order; degradation 4.4 (sinc of 21: correction 10)")
    kernel = cases[1][1]
    add("trap_T14_blur_11x11", small[:, :11, :11], "photo_11x11", kernel, 2e-6,
        "the smallest side that the reference takes")
    for height, width in ((7, 10), (1, 9), (2, 1)):
        add(f"trap_T14_blur_{height}x{width}", small[:, :height, :width], f"photo_{height}x{width}",
            kernel, 2e-6, "reflected as often as needed; the reference throws here", pad=True)
    binary = (photo[:, :23, :29] > 0.45).astype(F32)
    add("trap_T15_blur_sinc_binary", binary, "binary", cases[6][1], 4e-6,
        "negative lobes leave [0,1]; nothing clamps")


def usm(golden, process, picture):
    sharpen = process.USMSharp()
    kernel = usm_kernel()
    assert abs(sharpen.kernel[0].numpy() - kernel).max() < 1e-9
    params = dict(weight=0.5, radius=50, threshold=10)
    for name, height, width in (("usm_61x67", 61, 67), ("trap_T14_usm_26x26", 26, 26),
                                ("trap_T14_usm_9x31", 9, 31)):
        # The first crop in which no pixel decides within 1e-3 of the threshold
        for y in range(60, 200):
            image = noisy(crop(picture, y, 150, height, width), 0.01, y).clip(0, 1)
            expected, distance = twin_usm(image, kernel)
            if distance.min() > 1e-3:
                break
        assert distance.min() > 1e-3
        if min(height, width) >= 26:
            out = sharpen(batch(image))[0]
            reason = "no residual within 1e-3 of the threshold; degradation 4.4"
        else:  # the reference's own arithmetic after a reflection that it cannot make
            def conv(t):
                padded = np.pad(t[0].numpy(), ((0, 0), (25, 25), (25, 25)), mode="reflect")
                return F.conv2d(batch(padded)[0][:, None], sharpen.kernel[None])[:, 0][None]
            img = batch(image)
            residual = img - conv(img)
            soft = conv((residual.abs() * 255 > 10).float())
            out = (soft * (img + 0.5 * residual).clip(0, 1) + (1 - soft) * img)[0]
            reason = "reflected as often as needed; the reference throws under a side of 26"
        golden.add(name, "usm", params, {"image": (f"usm_{height}x{width}", image)}, out, 4e-6,
                   reason, expected)


TOLERANCE = {"area": 1e-6, "bilinear": 2e-6, "bicubic": 5e-6}


def resize(golden, picture, photo, small):
    strip = crop(picture, 70, 0, 6, 512, 1)

    def add(name, image, label, mode, ratio=None, size=None, antialias=False, reason=None, **more):
        options = {} if mode == "area" else dict(align_corners=False)
        if antialias:
            options["antialias"] = True
        params = dict(mode=mode, **({"ratio": ratio} if ratio else {"size": list(size)}))
        if antialias:
            params["antialias"] = True
        out = F.interpolate(batch(image), mode=mode, size=size, scale_factor=ratio, **options)
        out = out[0].numpy()
        if ratio:
            assert out.shape[1:] == tuple(int(n * ratio) for n in image.shape[1:]), name
        probe = more.pop("probe", None)
        if probe:
            more["probe"] = probe(out)
        golden.add(name, "resize_scale_factor" if ratio else "resize_size", params,
                   {"image": (label, image)}, out, TOLERANCE[mode], reason or "degradation 4.4",
                   twin_resize(image, out.shape[1:], mode, ratio, antialias), **more)

    ratios = [("up_1.37", 1.37), ("down_0.6283", 0.6283), ("down_0.5", 0.5),
              ("down_0.19", 0.19), ("keep", 1.0)]
    slight = [("1.0123", 1.0123), ("1.026", 1.026)]  # of 37 x 43 nothing changes; only the width
    sizes = [("down_17x22", (17, 22)), ("mixed_53x22", (53, 22)), ("keep_37x43", (37, 43)),
             ("one_axis_37x22", (37, 22)), ("to_1x1", (1, 1))]
    for mode in TOLERANCE:
        for name, ratio in ratios:
            add(f"resize_scale_factor_{mode}_{name}", photo, "photo", mode, ratio=ratio)
        for name, ratio in slight if mode != "area" else []:
            add(f"resize_scale_factor_{mode}_slight_{name}", photo, "photo", mode, ratio=ratio,
                reason="bilinear copies an axis whose size stays, bicubic samples it with 1/ratio; "
                       "degradation, correction 2")
        for name, size in sizes:
            add(f"resize_size_{mode}_{name}", photo, "photo", mode, size=size)
        add(f"resize_scale_factor_{mode}_up_2", small, "small", mode, ratio=2.0)
        add(f"resize_size_{mode}_up_33x41", small, "small", mode, size=(33, 41))
        add(f"resize_size_{mode}_512_to_36", strip, "strip", mode, size=(6, 36))
        add(f"resize_size_{mode}_one_pixel_up", small[:, :1, :1], "photo_1x1", mode, size=(3, 5))
    aa = "torch's antialias=True: bicubic has A = -0.5 there, not -0.75"
    for mode in ("bilinear", "bicubic"):
        add(f"resize_size_{mode}_antialias_up_33x41", small, "small", mode, size=(33, 41),
            antialias=True, reason=aa)
        for name, size in sizes[:2]:
            add(f"resize_size_{mode}_antialias_{name}", photo, "photo", mode, size=size,
                antialias=True, reason=aa)
        for name, ratio in ratios[1:4]:
            add(f"resize_scale_factor_{mode}_antialias_{name}", photo, "photo", mode, ratio=ratio,
                antialias=True, reason=aa + "; the step is 1/ratio")

    # Noise far from the origin shows how the coordinate is rounded
    noise = np.random.default_rng(12).random((3, 3, 509)).astype(F32)
    for mode in ("bilinear", "bicubic"):
        for name, where in (("0.7321", dict(ratio=0.7321)), ("to_3x97", dict(size=(3, 97)))):
            add(f"resize_{mode}_coordinate_{name}", noise, "noise_strip", mode, **where,
                reason="the coordinate is fmaf(step, i + 0.5, -0.5) in float32; correction 3")

    # T1: a ramp whose value is the column's centre; the probe is what the later resize shifts it by
    ramp = np.broadcast_to((np.arange(512) + 0.5) / 512, (3, 7, 512)).astype(F32)
    for ratio, published in ((0.1523, -6.0), (0.3, -1.88), (0.7, -0.5)):
        def shift(out, ratio=ratio, published=published):
            width = out.shape[2]
            column = np.arange(width)
            shown = (column + 0.5) * 512 / width
            at = int(abs(shown - 480).argmin())
            value = float(out[0, 0, at] * 512 - shown[at])
            assert abs(value - published) < 0.05, (ratio, value)
            return {"what": f"512 out[0, 0, {at}] - ({at} + 0.5) 512 / {width}, near column 480",
                    "value": value, "tolerance": 2e-3}
        add(f"trap_T1_bilinear_{ratio}", ramp, "ramp", "bilinear", ratio=ratio, probe=shift,
            reason="the step is 1/ratio although floor(512 ratio) columns remain")
    add("trap_T1_area_0.3", ramp, "ramp", "area", ratio=0.3, reason="area has no shift")
    floor400 = np.broadcast_to(crop(picture, 70, 0, 1, 400, 1)[:, :1], (3, 4, 400)).copy()
    add("trap_T1_400_x_0.29_is_115", floor400, "strip_400", "bilinear", ratio=0.29,
        reason="400 x 0.29 in double is just under 116")

    # T2: integer bins
    row = lambda values: np.broadcast_to(np.array(values, F32) / 8, (3, 1, len(values)))
    for name, values, width, result in (("4_to_6", [1, 2, 3, 4], 6, [1, 1.5, 2, 3, 3.5, 4]),
                                        ("7_to_3", [0, 1, 2, 3, 4, 5, 6], 3, [1, 3, 5])):
        def check(out, result=result):
            assert (out[0, 0] * 8 == np.array(result, F32)).all(), out
            return {"what": "8 x mean of out", "value": float(np.mean(result)), "tolerance": 1e-6}
        add("trap_T2_" + name, row(values), "row_" + name, "area", size=(1, width), probe=check,
            reason="an output bin is the unweighted mean of all the pixels that it touches")

    # T15 and T17
    binary = (photo[:, :23, :29] > 0.45).astype(F32)

    def reach(out):
        return {"what": "smallest value of out", "value": float(out.min()), "tolerance": 5e-6}
    add("trap_T15_bicubic_binary", binary, "binary", "bicubic", size=(31, 41), probe=reach,
        reason="bicubic overshoots; nothing clamps")
    for mode in ("bilinear", "bicubic"):
        for antialias in (False, True):
            area = F.interpolate(batch(strip), size=(1, 36), mode="area")[0].numpy()

            def psnr(out, area=area):
                value = -10 * math.log10(float(((out - area)**2).mean(dtype=np.float64)))
                return {"what": "PSNR against mode area, dB", "value": value, "tolerance": 0.01}
            kind = "antialias" if antialias else "plain"
            add(f"trap_T17_{mode}_{kind}", strip, "strip", mode, size=(1, 36),
                antialias=antialias, probe=psnr,
                reason="without antialias a large step is almost point sampling")


def gaussian(golden, ref, image):
    for name, sigma, gray, seed in (("color", 12.375, False, 1), ("color_30", 30.0, False, 2),
                                    ("gray", 7.3, True, 3), ("gray_1", 1.0, True, 4)):
        torch.manual_seed(seed)
        with recorded("randn") as fields:
            out = ref.add_gaussian_noise_pt(batch(image), sigma=torch.tensor([sigma]),
                                            gray_noise=torch.tensor([float(gray)]))[0].numpy()
        z = fields[0].numpy().reshape((1 if gray else 3,) + image.shape[1:])
        golden.add("gaussian_noise_" + name, "gaussian_noise", dict(sigma=number(sigma), gray=gray),
                   {"image": ("small", image), "z": (f"gaussian_noise_{name}.z", z)}, out, 1.2e-7,
                   "one float32 step at 1: image + (z sigma)/255; equal in the twin",
                   twin_gaussian(image, z, sigma))
        assert (out == twin_gaussian(image, z, sigma)).all()


def poisson(golden, ref, picture, other):
    def tie(image, gray):  # distance of the levels from a tie of their rounding
        weights = np.array([0.2989, 0.587, 0.114])
        level = 255 * (np.tensordot(weights, image.astype(np.float64), 1) if gray else image)
        return abs(abs(level - np.floor(level)) - 0.5).min()

    shape = (3, 23, 29)
    flat = np.full(shape, 128 / 255)
    steps = np.random.default_rng(5).integers(0, 2, shape)
    greys = np.broadcast_to(steps[:1], shape)
    few = np.floor(crop(picture, 60, 160, *shape[1:]) * 100) / 113  # no level near a tie
    dark = noisy(crop(other, 60, 130, *shape[1:], 4) / 2, 0.004, 6)
    wide = noisy(np.broadcast_to(np.linspace(-0.1, 1.1, 667).reshape(shape[1:]), shape), 0.02, 8)
    pictures = [("flat", flat, False, 1), ("flat", flat, True, 1),
                ("two_levels", 0.25 + 0.5 * steps, False, 2),
                ("two_greys", 0.25 + 0.5 * greys, True, 2),
                ("few_levels", few, False, 128), ("dark_chelsea", dark, True, 128),
                ("noisy_chelsea", noisy(crop(other, 30, 90, *shape[1:], 8), 0.03, 7), False, 256),
                ("wide_grey", wide, True, 256)]
    for name, image, gray, vals in pictures:
        image = image.astype(F32)
        assert tie(image, gray) > 1e-5, (name, tie(image, gray))
        assert levels(image, gray)[1] == vals, (name, gray, levels(image, gray)[1])
        for scale in (1.0, 2.6) if vals == 256 else (1.0,):
            torch.manual_seed(vals + gray)
            with recorded("poisson") as fields:
                out = ref.add_poisson_noise_pt(batch(image), scale=torch.tensor([scale]),
                                               gray_noise=torch.tensor([float(gray)]))[0].numpy()
            counts = fields[0][0].numpy()
            assert counts.shape[0] == (1 if gray else 3)
            kind = f"{'gray' if gray else 'color'}_v{vals}_scale_{scale:g}"
            inputs = {"image": (f"poisson_{name}", image),
                      "counts": (f"poisson_{kind}.counts", counts)}
            twin = twin_poisson(image, counts, scale, gray)
            assert (out == twin).all(), kind
            params = dict(scale=number(scale), gray=gray)
            for more, suffix in ((dict(vals=vals), ""), ({}, "_derived")):
                trap = "trap_T7_" if vals == 1 else ""
                golden.add(f"{trap}poisson_noise_{kind}{suffix}", "poisson_noise",
                           {**params, **more}, inputs, out, 1.2e-7,
                           "one float32 step at 1: image + (counts/vals - Q) scale, equal in the "
                           "twin" + ("; vals comes from the picture" if suffix else ""), twin)


def jpeg(golden, diffjpeg, picture):
    codec = diffjpeg.DiffJPEG(differentiable=False)

    def run(image, quality):
        with torch.no_grad():
            return codec(batch(image), quality=torch.tensor([quality]))[0].numpy()

    def add(name, image, label, quality, pad="zero", probe=None, reason=""):
        height, width = image.shape[1:]
        quality = number(quality)
        out = run(image if pad == "zero" else pad16(image, pad), quality)[:, :height, :width]
        twin, blocks = twin_jpeg(image, quality, pad)
        if quality < 99:
            tolerance = 1e-6
            reason = reason or "float32 sums in another order, away from ties; correction 10"
        else:
            # Steps of 0.02 to 0.24 levels, so that float32 itself carries some over a tie
            blocks = []
            tolerance = 1e-3
            reason = "ties included: a flip of the coarsest step, 0.24 levels, is 4e-4 in a pixel"
        share = len(blocks) / (-(-height // 16) * -(-width // 16))
        assert share <= 0.5, (name, share)
        more = {"exclude_blocks": blocks} if blocks else {}
        if probe:
            more["probe"] = probe(out)
        golden.add(name, "jpeg", dict(quality=quality, backend="diff", pad=pad),
                   {"image": (label, image)}, out, tolerance, reason, twin, **more)
        return share

    places = ((36, 36, 60, 160), (42, 42, 160, 100), (51, 51, 30, 150), (100, 36, 150, 200))
    for height, width, y, x in places:
        image = noisy(crop(picture, y, x, height, width), 0.02, height).clip(0, 1)
        for quality in (30, 49.9, 50, 95, 99.9):
            label = f"jpeg_{height}x{width}"
            share = add(f"{label}_q{quality:g}", image, label, quality)
            print(f"{label} q {quality}: {share:.0%} of the blocks excluded", file=sys.stderr)

    # T3: grey, 60 levels of horizontal frequency 7; and the same picture turned
    wave = (128 + 60 * np.cos((2 * (np.arange(48) % 8) + 1) * 7 * np.pi / 16)) / 255
    wave = np.broadcast_to(wave, (3, 48, 48)).astype(F32)
    turned = wave.transpose(0, 2, 1)
    for name, image, published in (("horizontal", wave, 45.0), ("turned", turned, 38.1)):
        def std(out, published=published):
            value = 255 * float(out[0].std(dtype=np.float64))
            assert abs(value - published) < 0.05, value
            return {"what": "255 x standard deviation of out[0]", "value": value, "tolerance": 1e-3}
        add("trap_T3_" + name, image, "wave_" + name, 10, probe=std,
            reason="the luma table lies transposed to its axes")

    # T4: the last three rows and columns, whose blocks are filled up with black or with the edge
    image = golden.tensors["jpeg_51x51"]
    for pad in ("zero", "replicate"):
        def strip(out):
            edge = np.zeros((51, 51), bool)
            edge[48:] = edge[:, 48:] = True
            error = (out - image)[:, edge]
            return {"what": "PSNR of the last three rows and columns, dB", "tolerance": 0.2,
                    "value": -10 * math.log10(float((error**2).mean(dtype=np.float64)))}
        add("trap_T4_" + pad, image, "jpeg_51x51", 40, pad, probe=strip)
    add("jpeg_replicate_42x42_q60", golden.tensors["jpeg_42x42"], "jpeg_42x42", 60, "replicate")

    # The real codec: whole levels in and out, libjpeg-turbo as Pillow carries it
    for quality in (30, 95):
        levels8 = np.rint(golden.tensors["jpeg_51x51"] * 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(levels8.transpose(1, 2, 0)).save(file, "JPEG", quality=quality,
                                                         subsampling="4:2:0")
        out = np.asarray(Image.open(file).convert("RGB"), F32).transpose(2, 0, 1) / F32(255)
        golden.add(f"jpeg_turbo_51x51_q{quality}", "jpeg",
                   dict(quality=float(quality), backend="turbo", pad="replicate"),
                   {"image": ("jpeg_51x51_levels", levels8 / F32(255))}, out, 1e-6,
                   "libjpeg-turbo's accurate integer DCT and fancy upsampling are exact integers")

    # T5 and T6, which hold no case
    quality = torch.tensor([100.0])
    with torch.no_grad():
        assert torch.isnan(codec(batch(image), quality=quality)).any() and quality.item() == 0.0


def rounding(golden, photo):
    image = noisy(photo[:, :23, :29], 0.3, 9)
    image[0, 0, :] = (np.arange(29) + 0.5) / 255  # next to ties, on either side
    image[1, 0, :6] = [-0.0, -1e-9, 1 + 1e-6, 254.5 / 255, 255.4 / 255, -0.6 / 255]
    t = batch(image)
    golden.add("clamp", "clamp", {}, {"image": ("levels", image)},
               torch.clamp(t, 0, 1)[0].numpy(), 0, "exact", np.clip(image, 0, 1))
    golden.add("clamp_round", "clamp_round", {}, {"image": ("levels", image)},
               (torch.clamp((t * 255.0).round(), 0, 255) / 255.)[0].numpy(), 0,
               "exact: float32 product, half to even, float32 division",
               np.clip(np.rint(image * F32(255)), F32(0), F32(255)) / F32(255))


# ---- Distributions of the draws ----

SEVERE = dict(patch=512, scale=4, resize_range=(0.15, 1.5), noise=(1, 30), poisson=(0.05, 3),
              jpeg=(30, 95), second_blur=0.8, resize_range2=(0.3, 1.2), noise2=(1, 25),
              poisson2=(0.05, 2.5), jpeg2=(30, 95), sigma=(0.2, 3), betag=(0.5, 4), betap=(1, 2),
              sigma2=(0.2, 1.5), betag2=(0.5, 4), betap2=(1, 2))
PRESETS = {"realesrgan": dict(SEVERE, patch=400), "osediff": SEVERE,
           "stablesr": dict(SEVERE, resize_range=(0.3, 1.5), noise=(1, 15), poisson=(0.05, 2),
                            jpeg=(60, 95), second_blur=0.5, resize_range2=(0.6, 1.2),
                            noise2=(1, 12), poisson2=(0.05, 1), jpeg2=(60, 100),
                            sigma=(0.2, 1.5), betag=(0.5, 2),
                            betap=(1, 1.5), sigma2=(0.2, 1), betag2=(0.5, 2), betap2=(1, 1.5))}
SIZES = [2 * v + 1 for v in range(3, 11)]


def draw_record(ref, p, note):
    """One image's draws, in the reference's order and from its own three generators."""
    for k, suffix in (("k1", ""), ("k2", "2")):
        size = random.choice(SIZES)
        if np.random.uniform() < 0.1:
            low = np.pi / 3 if size < 13 else np.pi / 5
            kernel, type = ref.circular_lowpass_kernel(np.random.uniform(low, np.pi), size), "sinc"
        else:
            original, types_drawn = random.choices, []

            def choices(*args):
                types_drawn.append(original(*args))
                return types_drawn[-1]
            random.choices = choices
            try:
                sigma = p["sigma" + suffix]
                kernel = ref.random_mixed_kernels(
                    list(TYPES), [0.45, 0.25, 0.12, 0.03, 0.12, 0.03], size, sigma, sigma,
                    [-math.pi, math.pi], p["betag" + suffix], p["betap" + suffix], noise_range=None)
            finally:
                random.choices = original
            type = types_drawn[0][0]
        note.count(k + ".size", size)
        note.count(k + ".type", type)
        note.kernel(k, to21(kernel))
    if np.random.uniform() < 0.8:
        size = random.choice(SIZES)
        kernel = ref.circular_lowpass_kernel(np.random.uniform(np.pi / 3, np.pi), size, pad_to=21)
        note.count("final.size", size)
    else:
        kernel = np.zeros((21, 21))
        kernel[10, 10] = 1
        note.count("final.size", 1)
    note.kernel("final", kernel.astype(F32))

    for stage, suffix, prob in (("stage1", "", (0.2, 0.7, 0.1)), ("stage2", "2", (0.3, 0.4, 0.3))):
        if suffix:
            note.count("stage2.blur", int(np.random.uniform() < p["second_blur"]))
        direction = random.choices(["up", "down", "keep"], prob)[0]
        low, high = p["resize_range" + suffix]
        r = {"up": lambda: np.random.uniform(1, high), "down": lambda: np.random.uniform(low, 1),
             "keep": lambda: 1}[direction]()
        note.count(stage + ".direction", direction)
        note.value(stage + ".ratio", r)
        if suffix:
            note.value("stage2.side", int(p["patch"] / p["scale"] * r))
        else:
            note.value("stage1.side", math.floor(p["patch"] * r))
        note.count(stage + ".mode", random.choice(["area", "bilinear", "bicubic"]))
        # Strength and gray flag as the random_generate functions draw them, caught at their end
        image = torch.zeros(1, 3, 1, 1)
        if np.random.uniform() < 0.5:
            kind, name = "gaussian", "noise"
        else:
            kind, name = "poisson", "poisson"
        function = f"generate_{kind}_noise_pt"
        original, caught = getattr(ref, function), []

        def catch(img, strength, gray, caught=caught):
            caught.append((strength.item(), gray.item()))
            return img
        setattr(ref, function, catch)
        try:
            getattr(ref, "random_" + function)(image, p[name + suffix], 0.4)
        finally:
            setattr(ref, function, original)
        note.count(stage + ".noise", kind)
        note.value(f"{stage}.{'sigma' if kind == 'gaussian' else 'poisson_scale'}", caught[0][0])
        note.count(stage + ".gray", int(caught[0][1]))
        if suffix:
            note.count("final.order", "jpeg_last" if np.random.uniform() < 0.5 else "jpeg_first")
            note.count("final.mode", random.choice(["area", "bilinear", "bicubic"]))
        note.value(("jpeg2" if suffix else "jpeg1") + ".quality",
                   image.new_zeros(1).uniform_(*p["jpeg" + suffix]).item())


class Note:
    axis = np.arange(21) - 10.0

    def __init__(self):
        self.values = collections.defaultdict(list)
        self.counts = collections.defaultdict(collections.Counter)

    def count(self, name, what):
        self.counts[name][what] += 1

    def value(self, name, x):
        self.values[name].append(float(x))

    def kernel(self, name, kernel):
        """From the padded float32 kernel, sums in double."""
        rows = np.flatnonzero((kernel != 0).any(1))
        columns = np.flatnonzero((kernel != 0).any(0))
        reach = max(abs(rows - 10).max(), abs(columns - 10).max())
        self.count(name + ".support", int(reach) * 2 + 1)
        k = kernel.astype(np.float64)
        snap = lambda v: 0.0 if abs(v) < 1e-6 else v
        self.value(name + ".centre", k[10, 10])
        self.value(name + ".xx", snap(self.axis**2 @ k.sum(0)))
        self.value(name + ".yy", snap(self.axis**2 @ k.sum(1)))
        self.value(name + ".xy", snap(self.axis @ k @ self.axis))


def draws(ref, count):
    p = [i / 200 for i in range(1, 200)]
    presets = {}
    for i, (name, preset) in enumerate(PRESETS.items()):
        random.seed(100 + i)
        np.random.seed(200 + i)
        torch.manual_seed(300 + i)
        note = Note()
        for _ in range(count):
            draw_record(ref, preset, note)
        # inverted_cdf: a quantile is one of the draws, so atoms stay exact
        presets[name] = {
            "patch": preset["patch"], "scale": preset["scale"],
            "counts": {k: {str(c): v[c] for c in sorted(v)}
                       for k, v in sorted(note.counts.items())},
            "quantiles": {k: {"n": len(v), "q": [float(f"{q:.7g}") for q in
                                                 np.quantile(v, p, method="inverted_cdf")]}
                          for k, v in sorted(note.values.items())}}
        print(f"draws of {name}: {count}", file=sys.stderr)
    return presets


# ---- Files ----


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--draws", type=int, default=20000)
    args = parser.parse_args()
    ref, diffjpeg, process = load_reference(args.reference)
    torch.set_num_threads(1)

    astronaut, chelsea = skimage.data.astronaut(), skimage.data.chelsea()
    golden = Golden()
    photo = noisy(crop(astronaut, 60, 160, 37, 43), 0.03, 10)
    small = noisy(crop(chelsea, 60, 130, 23, 29), 0.03, 11)
    kernels(golden, ref)
    blur(golden, ref, process, photo, small)
    usm(golden, process, astronaut)
    resize(golden, astronaut, photo, small)
    gaussian(golden, ref, small)
    poisson(golden, ref, astronaut, chelsea)
    jpeg(golden, diffjpeg, astronaut)
    rounding(golden, photo)

    import cv2
    provenance = {
        "implementation": "BasicSR 1.4.2: degradations.py, diffjpeg.py, img_process_util.py; "
                          "F.interpolate of torch; one thread, CPU",
        "versions": {"torch": torch.__version__.split("+")[0], "numpy": np.__version__,
                     "scipy": scipy.__version__, "opencv": cv2.__version__,
                     "scikit-image": skimage.__version__,
                     "libjpeg-turbo": features.version("libjpeg_turbo")},
        "command": "python3 make_degradation.py REFERENCE_DIR OUT_DIR"}
    steps = dict(provenance, inputs="crops of scikit-image's astronaut (public domain) and chelsea "
                                    "(CC0) with noise, and formulas; see make_degradation.py",
                 fields=" ".join(__doc__[__doc__.index("A case:"):__doc__.index("Before")].split()))
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(golden.tensors, str(args.out / "degradation_steps.safetensors"))
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in golden.cases)
    (args.out / "degradation_steps.json").write_text(
        json.dumps({"provenance": steps}, indent=1)[:-2] + ',\n"cases": [\n' + lines + "\n]}\n")

    presets = draws(ref, args.draws)
    text = dict(provenance, seeds="100, 200, 300 + the preset's place for random, numpy, torch",
                draws=args.draws,
                counts="how often each value was drawn; .size is a kernel's side as drawn, "
                       ".support the side of the centred square that holds every non-zero entry",
                quantiles="for p = 0.005, 0.010 ... 0.995 the smallest draw x such that a share of "
                          "at least p of the n draws is <= x, 7 digits; .xx .yy .xy are sums of "
                          "k x^2, k y^2, k x y over a kernel (x: column), set to 0 where under "
                          "1e-6, so that symmetric kernels make one atom; Kolmogorov-Smirnov: "
                          "with D the bound and q widened by 1e-6 of itself either way, the share "
                          "of own draws < q is at most p + D and the share <= q at least p - D")
    lines = []
    for name, preset in presets.items():
        parts = [f'"{k}":{json.dumps(v, separators=(",", ":"))}' for k, v in preset.items()
                 if k not in ("counts", "quantiles")]
        for group in ("counts", "quantiles"):
            rows = ",\n".join(f'  {json.dumps(k)}:{json.dumps(v, separators=(",", ":"))}'
                              for k, v in preset[group].items())
            parts.append(f'\n "{group}":{{\n{rows}}}')
        lines.append(f'"{name}":{{' + ",".join(parts) + "}")
    (args.out / "degradation_draws.json").write_text(
        json.dumps({"provenance": text}, indent=1)[:-2] + ',\n"presets": {\n'
        + ",\n".join(lines) + "}}\n")

    for group, worst in sorted(golden.worst.items()):
        print(f"{group}: reference against the double twin {worst:.2e}", file=sys.stderr)
    for file in sorted(args.out.glob("degradation_*")):
        print(f"{file.name}: {file.stat().st_size} bytes", file=sys.stderr)
    print(f"{len(golden.cases)} cases, {len(golden.tensors)} tensors", file=sys.stderr)


if __name__ == "__main__":
    main()
