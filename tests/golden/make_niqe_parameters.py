#!/usr/bin/env python3
"""Writes metrics/niqe_parameters.cpp from niqe_pris_params.npz (needs numpy).

usage: make_niqe_parameters.py niqe_pris_params.npz > metrics/niqe_parameters.cpp
"""
import hashlib
import sys

import numpy as np

SHA256 = "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296"

found = hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()
if found != SHA256:
    sys.exit(f"{sys.argv[1]}: SHA-256 is {found}, expected {SHA256}; take the file named in its licence text")
params = np.load(sys.argv[1])
mean = params["mu_pris_param"].reshape(36)
covariance = params["cov_pris_param"]


def rows(values):
    # Hexadecimal floats: exact, and read back without rounding
    words = [float(v).hex() for v in values]
    return ",\n".join("    " + ", ".join(words[i:i + 3]) for i in range(0, 36, 3))


print(f"""// The numbers of NIQE's authors, written by tests/golden/make_niqe_parameters.py; do not edit.
//
// From niqe_pris_params.npz, SHA-256
// {SHA256}.
// Notice and conditions (research use): data/weights/niqe_pris_params.LICENSE.txt.
#include "metrics/niqe_parameters.h"

namespace ultrasr {{

// clang-format off
const std::array<double, niqe_features> niqe_mean{{
{rows(mean)}}};

const std::array<std::array<double, niqe_features>, niqe_features> niqe_covariance{{{{""")
print(",\n".join("    {\n" + rows(r) + "}" for r in covariance) + "}};")
print("""// clang-format on

}  // namespace ultrasr""")
