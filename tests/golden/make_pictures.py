"""Makes models_resize_8bit.json, models_color_fix.json, models_noise_schedule.json and
models_latent_tiles.json. Run: python3 make_pictures.py

resize_8bit     Pillow's Image.resize of mode RGB, torch's two bicubics, torchvision's to_pil_image
color_fix       one_step_models.md 2.4 written down in torch's own operations, float32
noise_schedule  diffusers' DDPMScheduler, set_timesteps(timesteps=[t]) and step
latent_tiles    one_step_models.md 2.4 step 4 written down in numpy, double

Pictures by formula (tests/models/formula_picture.h): levels of channel c, row y, column x
  waves(k)  (37 c + 11 y + 7 x + (3 + 2 c) x y + 5 x x + k (x + 2 y + 29)) mod 256
  checks    255 where x // 3 + y // 2 + c is odd, else 0
  flat      100 + 7 c
Float arrays are stored as hexadecimal bytes, float32, little endian; 'step' s keeps the values 0,
s, 2 s, ... of an array in row-major order, channels last.
"""
import json
import platform
from pathlib import Path

import diffusers
import numpy
import PIL
import torch
import torchvision
from generated_weights import fnv1a
from PIL import Image
from torch.nn import functional
from torchvision.transforms.functional import to_pil_image

HERE = Path(__file__).parent


def levels(kind, width, height):
    """height x width x 3, uint8"""
    y, x, c = numpy.meshgrid(range(height), range(width), range(3), indexing="ij")
    if kind == "checks":
        return (((x // 3 + y // 2 + c) % 2) * 255).astype(numpy.uint8)
    if kind == "flat":
        return (100 + 7 * c).astype(numpy.uint8)
    k = int(kind.removeprefix("waves"))
    wave = 37 * c + 11 * y + 7 * x + (3 + 2 * c) * x * y + 5 * x * x + k * (x + 2 * y + 29)
    return (wave % 256).astype(numpy.uint8)


def tensor(kind, width, height):
    """1 x 3 x height x width, float32, [0,1]"""
    return torch.from_numpy(levels(kind, width, height)).permute(2, 0, 1)[None].float() / 255


def fnv(array):
    key = 0xCBF29CE484222325
    for byte in array.tobytes():
        key = ((key ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{key:016x}"


def floats(nchw, most=600):
    values = nchw[0].permute(1, 2, 0).contiguous().numpy().astype("<f4").ravel()
    step = -(-values.size // most)
    return {"step": step, "float32": values[::step].tobytes().hex()}


def write(name, source, content):
    head = {"source": source, "command": "python3 tests/golden/make_pictures.py",
            "machine": platform.machine()}
    path = HERE / f"models_{name}.json"
    body = ",\n ".join(f'"{key}": [\n  ' + ",\n  ".join(json.dumps(v) for v in value) + "]"
                       for key, value in content.items())
    path.write_text('{"provenance": ' + json.dumps(head) + ",\n " + body + "}\n")
    print(path.name, path.stat().st_size)


# ---- Resizing ----

PILLOW_CASES = [  # picture, width, height -> width, height
    ("waves0", 17, 13, 50, 41), ("checks", 17, 13, 23, 19), ("waves0", 64, 48, 31, 7),
    ("checks", 64, 48, 9, 20), ("waves0", 1, 1, 8, 8), ("waves0", 1, 9, 5, 20),
    ("waves0", 9, 1, 20, 5), ("waves0", 40, 30, 1, 1), ("waves0", 17, 13, 17, 29),
    ("waves0", 17, 13, 40, 13), ("waves0", 17, 13, 17, 13), ("checks", 2, 3, 11, 7),
    ("checks", 23, 17, 85, 62), ("waves0", 128, 128, 512, 512), ("checks", 1000, 37, 31, 300),
    ("waves3", 1031, 20, 100, 20), ("waves1", 216, 143, 3024, 2008)]
TORCH_CASES = [
    ("waves0", 17, 13, 50, 41), ("checks", 64, 48, 31, 7), ("waves0", 1, 1, 8, 8),
    ("waves0", 9, 1, 20, 5), ("waves0", 17, 13, 17, 13), ("waves0", 40, 30, 3, 2),
    ("checks", 23, 17, 85, 62)]


def resizing():
    pillow = []
    for kind, w, h, width, height in PILLOW_CASES:
        for kernel, method in (("bicubic", Image.BICUBIC), ("lanczos3", Image.LANCZOS)):
            result = numpy.asarray(
                Image.fromarray(levels(kind, w, h)).resize((width, height), method))
            case = {"picture": kind, "from": [w, h], "to": [width, height], "kernel": kernel}
            # Large results by their hash: FNV-1a, 64 bit, over the levels
            if result.size <= 2000:
                case["levels"] = result.tobytes().hex()
            case["fnv1a"] = fnv(result)
            pillow.append(case)
    torch_cases = []
    for kind, w, h, width, height in TORCH_CASES:
        for antialias in (False, True):
            result = functional.interpolate(tensor(kind, w, h), size=(height, width),
                                            mode="bicubic", antialias=antialias)
            torch_cases.append({"picture": kind, "from": [w, h], "to": [width, height],
                                "antialias": antialias, **floats(result)})
    # Truncation: every level, its neighbours one float below and above, and i / 4099
    level = numpy.arange(256, dtype=numpy.float32) / numpy.float32(255)
    values = numpy.concatenate([
        level, numpy.nextafter(level, numpy.float32(0)), numpy.nextafter(level, numpy.float32(1)),
        numpy.arange(4100, dtype=numpy.float32) / numpy.float32(4099)])
    written = numpy.asarray(to_pil_image(torch.from_numpy(values)[None, None]))
    assert (written.ravel()[:256] == numpy.arange(256)).all()
    truncated = [{"levels": written.ravel().tobytes().hex()}]
    write("resize_8bit",
          f"Pillow {PIL.__version__}, torch {torch.__version__.split('+')[0]} "
          f"({torch.backends.cpu.get_cpu_capability()}), "
          f"torchvision {torchvision.__version__.split('+')[0]}",
          {"pillow": pillow, "torch": torch_cases, "truncated": truncated})


# ---- Colour fix ----

def adain(sr, reference):
    def moments(x):
        flat = x.reshape(1, 3, -1)
        sigma = (flat.var(dim=2, correction=1) + 1e-5).sqrt()
        return flat.mean(dim=2)[:, :, None, None], sigma[:, :, None, None]
    mu, sigma = moments(sr)
    mu_ref, sigma_ref = moments(reference)
    return ((sr - mu) / sigma * sigma_ref + mu_ref).clamp(0, 1)


def split(image):
    """(high, low) of five levels"""
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).div(16).repeat(3, 1, 1, 1)
    high = torch.zeros_like(image)
    for i in range(5):
        padded = functional.pad(image, [2**i] * 4, mode="replicate")
        low = functional.conv2d(padded, kernel, dilation=2**i, groups=3)
        high += image - low
        image = low
    return high, image


def wavelet(sr, reference):
    return (split(sr)[0] + split(reference)[1]).clamp(0, 1)


COLOR_CASES = [  # restored, reference, width, height, size of the reference where it differs
    ("waves0", "waves3", 48, 32), ("waves1", "checks", 40, 33), ("checks", "flat", 37, 5),
    ("flat", "waves0", 21, 34), ("waves0", "checks", 3, 2), ("waves2", "waves5", 1, 9),
    ("waves2", "waves5", 9, 1), ("waves0", "waves0", 19, 23), ("waves0", "waves4", 30, 20, 8, 5)]


def color_fix():
    cases = []
    for kind, reference, w, h, *other in COLOR_CASES:
        sr, wanted = tensor(kind, w, h), tensor(reference, *(other or (w, h)))
        head = {"sr": kind, "reference": reference, "size": [w, h],
                "reference_size": list(other or (w, h))}
        cases.append({**head, "how": "adain", **floats(adain(sr, wanted))})
        if not other:
            cases.append({**head, "how": "wavelet", **floats(wavelet(sr, wanted))})
    write("color_fix", f"torch {torch.__version__.split('+')[0]}", {"cases": cases})


# ---- Noise schedule ----

SD21 = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "beta_end": 0.012, "prediction_type": "epsilon", "clip_sample": False, "steps_offset": 1,
        "set_alpha_to_one": False, "trained_betas": None}


def noise_schedule():
    """z(i) = ((37 i + 11) mod 101 - 50) / 32, pred(i) = ((53 i + 29) mod 97 - 48) / 32"""
    i = torch.arange(2 * 4 * 3 * 5)
    z = (((37 * i + 11) % 101 - 50).float() / 32).reshape(2, 4, 3, 5)
    prediction = (((53 * i + 29) % 97 - 48).float() / 32).reshape(2, 4, 3, 5)
    cases = []
    for change in ({}, {"prediction_type": "v_prediction"}, {"beta_schedule": "linear"},
                   {"clip_sample": True}, {"clip_sample": True, "clip_sample_range": 3.0}):
        config = {**SD21, **change}
        scheduler = diffusers.DDPMScheduler.from_config(config)
        steps = []
        for t in (0, 1, 499, 980, 999):
            scheduler.set_timesteps(timesteps=[t])
            result = scheduler.step(prediction, t, z, generator=torch.Generator().manual_seed(1))
            clean = result.prev_sample.numpy().astype("<f4").ravel()
            steps.append({"t": t, "alpha_bar": float(scheduler.alphas_cumprod[t]),
                          "clean": clean[::3].tobytes().hex()})
        cases.append({"config": config, "steps": steps})
    write("noise_schedule",
          f"diffusers {diffusers.__version__}, torch {torch.__version__.split('+')[0]}",
          {"cases": cases})


# ---- Latent tiles ----

def tile_weights(side, official):
    n = numpy.arange(side)

    def bell(middle):
        return numpy.exp(-(n - middle)**2 / side**2 / (2 * 0.01)) / numpy.sqrt(2 * numpy.pi * 0.01)
    middle = (side - 1) / 2
    weights = numpy.outer(bell(side / 2 if official else middle), bell(middle))
    return weights * (2 * numpy.pi * 0.01)  # peak 1: the factor cancels when tiles are blended


def latent_tiles():
    weights = [{"side": side, "official": official,
                "rows": [[float(f"{v:.9g}") for v in tile_weights(side, official).ravel()]]}
               for side, official in ((5, False), (5, True), (8, False), (8, True))]
    write("latent_tiles", f"numpy {numpy.__version__}", {"weights": weights})


if __name__ == "__main__":
    assert fnv1a("") == int(fnv(numpy.zeros(0, numpy.uint8)), 16)
    resizing()
    color_fix()
    noise_schedule()
    latent_tiles()
