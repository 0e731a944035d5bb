"""Makes models_resample.json and models_lanczos4.json. Run: python3 make_models.py

models_resample: Pillow, Image.resize of mode F, channel by channel.
models_lanczos4: an own evaluation, in double precision, of OpenCV's documented INTER_LANCZOS4 on
8-bit pixels: 8 taps sinc(d) sinc(d/4), normalised, centre (x + 0.5) in/out - 0.5, border
replicated, no antialias, one rounding at the end. OpenCV's fixed-point taps may differ by 1 level.
"""
import json
import math

import numpy
import PIL
from PIL import Image

WIDTH, HEIGHT = 13, 11


def picture():
    """levels 0..255 that leave no symmetry: (37 c + 11 y + 7 x + 3 x y) mod 64, spread"""
    c, y, x = numpy.meshgrid(range(3), range(HEIGHT), range(WIDTH), indexing="ij")
    return (37 * c + 11 * y + 7 * x + 3 * x * y) % 64 * 255 // 63


def rounded(values):
    return [float(f"{v:.7g}") for v in numpy.asarray(values).ravel()]


def resample():
    planes = (picture() / 255.0).astype(numpy.float32)
    cases = []
    for width, height in [(23, 17), (5, 4), (20, 6), (13, 25), (1, 1)]:
        for kernel, method in [("bicubic", Image.BICUBIC), ("lanczos3", Image.LANCZOS)]:
            result = [Image.fromarray(p, mode="F").resize((width, height), method) for p in planes]
            hwc = numpy.stack([numpy.asarray(r) for r in result], axis=-1)
            cases.append({"kernel": kernel, "width": width, "height": height,
                          "values": rounded(hwc)})
    return cases


def sinc(x):
    return 1.0 if abs(x) < 1e-12 else math.sin(math.pi * x) / (math.pi * x)


def lanczos4_matrix(n, m):
    matrix = numpy.zeros((m, n))
    for i in range(m):
        centre = (i + 0.5) * n / m - 0.5
        first = math.floor(centre) - 3
        taps = [sinc(centre - t) * sinc((centre - t) / 4) for t in range(first, first + 8)]
        for k, tap in enumerate(taps):
            matrix[i, min(max(first + k, 0), n - 1)] += tap / sum(taps)
    return matrix


def lanczos4():
    planes = picture().astype(numpy.float64)
    cases = []
    for width, height in [(26, 22), (33, 28), (9, 7), (13, 30)]:
        rows, columns = lanczos4_matrix(HEIGHT, height), lanczos4_matrix(WIDTH, width)
        result = numpy.stack([rows @ p @ columns.T for p in planes], axis=-1)
        levels = numpy.clip(numpy.rint(result), 0, 255).astype(int)
        cases.append({"width": width, "height": height, "levels": levels.ravel().tolist()})
    return cases


def write(name, implementation, cases):
    head = {"provenance": {"implementation": implementation, "command": "python3 make_models.py",
                           "input": picture.__doc__, "width": WIDTH, "height": HEIGHT}}
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    with open(name, "w", encoding="utf-8") as file:
        file.write(json.dumps(head, indent=1)[:-2] + ',\n"cases": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    write("models_resample.json", f"Pillow {PIL.__version__}, mode F", resample())
    write("models_lanczos4.json", "make_models.py itself, double precision", lanczos4())
