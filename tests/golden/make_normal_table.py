#!/usr/bin/env python3
"""Makes degradation/steps/normal_table.cpp: the normal quantile as cubics over 31 octaves x 8 cells.

    python3 tests/golden/make_normal_table.py degradation/steps/normal_table.cpp

Needs Python 3.8 or newer, nothing else. A 31-bit number m stands for the tail v = (m + 1/2) / 2^32;
its octave is the place of its leading bit, its cell the next three bits, t the rest in [0,1). The
cubic in t goes through the quantile at four Chebyshev nodes of the cell.
"""
import math
import struct
import sys
from statistics import NormalDist

OCTAVES, CELLS = 31, 8


def quantile(octave, cell, t):
    m = 2.0 ** octave * (1 + (cell + t) / CELLS)
    p = (m + 0.5) / 2.0 ** 32
    return -NormalDist().inv_cdf(min(p, 0.5))


def cubic(octave, cell):
    """Coefficients of 1, t, t^2, t^3 (Newton's divided differences, expanded)."""
    nodes = [0.5 - 0.5 * math.cos((2 * k + 1) * math.pi / 8) for k in range(4)]
    d = [quantile(octave, cell, t) for t in nodes]
    for level in range(1, 4):
        for i in range(3, level - 1, -1):
            d[i] = (d[i] - d[i - 1]) / (nodes[i] - nodes[i - level])
    c = [d[3], 0.0, 0.0, 0.0]
    for k in (2, 1, 0):  # c = c * (t - node) + d
        c = [d[k] - nodes[k] * c[0]] + [c[j - 1] - nodes[k] * c[j] for j in (1, 2, 3)]
    return c


def main():
    lines, worst = [], 0.0
    for octave in range(OCTAVES):
        for cell in range(CELLS):
            c = [struct.unpack("f", struct.pack("f", v))[0] for v in cubic(octave, cell)]
            for i in range(65):
                t = i / 64
                value = ((c[3] * t + c[2]) * t + c[1]) * t + c[0]
                worst = max(worst, abs(value - quantile(octave, cell, t)))
            lines.append("    " + ", ".join(f"{float(v).hex()}F" for v in c) + ",")
    with open(sys.argv[1], "w") as out:
        out.write("// Made by tests/golden/make_normal_table.py; largest error of a cubic "
                  f"{worst:.1e}.\n")
        out.write('#include "degradation/steps/variates.h"\n\nnamespace ultrasr {\n\n// clang-format off\n')
        out.write("const float normal_table[31 * 8 * 4] = {\n" + "\n".join(lines) + "\n};\n")
        out.write("// clang-format on\n\n}  // namespace ultrasr\n")
    print(f"largest error {worst:.2e}")


if __name__ == "__main__":
    main()
