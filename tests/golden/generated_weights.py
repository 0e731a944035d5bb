"""Weights by formula, for the networks whose real weights cannot be stored here.

generate(name, shape) gives a float32 array, fill(state_dict) overwrites a whole state dict.
tests/metrics/generated_weights.h makes the same numbers, bit by bit.

A tensor `name` (the key of the official file, without "module.") with row-major index i:
  key  = FNV-1a, 64 bit, over the bytes of the name
  u(i) = splitmix64's finaliser of key + (i + 1) * 0x9E3779B97F4A7C15, modulo 2^64
  z(i) = ((sum of the four 16-bit fields of u(i)) - 131070) / 37837.22, about standard normal
  value = float32(offset + scale * z(i)), in double: one product, one sum, one rounding
  "abs": float32(offset + scale * |z(i)|)

Rules by name and shape S; fan = product of S[1:]; the first that matches counts:
   0. starts with "input." (what a network is fed)                0, 1
   1. ends with "running_var"                                     0.5, 0.5, abs
   2. ends with "running_mean"                                    0, 0.1
   3. is "logit_scale" (no dimensions)                            4.6052, 0
   4. starts with "visual.layer" and ends with "bn3.weight"       0.25, 0.1
   5. one dimension, ends with "weight"                           1, 0.1
   6. one dimension                                               0, 0.05
   7. starts with "lin", or is "alpha" or "beta"                  0, 0.1, abs
   8. is "token_embedding.weight"                                 0, 1.5
   9. contains a word of EMBEDDINGS                               0, 0.5
  10. is "head.weight" with S[0] = 1 (MUSIQ with one output)      0, 3
  11. ends with a name of GAINS                                   0, sqrt(gain / fan)
  12. is "text_projection"                                        0, sqrt(1 / 512)
  13. two or more dimensions                                      0, sqrt(2 / fan)
Integer tensors and those whose name ends with "attn_mask" are not generated: they stay as the
model makes them, and no metric reads them from the file.

Rules 4, 8, 10 and 11 keep random networks alive: CLIP's residual sums from exploding, prompts
apart, MUSIQ's scores some tens apart, and no softmax or sigmoid of attention pool, MANIQA's token
attention and its two heads at its limits.

RN50.pt stores some of these values as float16 (rounded to nearest even from the float32 value):
exactly those whose name contains "conv", "downsample.0", "_proj" or "c_fc", weights and biases.
"""
import math

import numpy as np

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
EMBEDDINGS = ("posembed", "pos_emb", "position", "scale_emb", "cls", "class_emb",
              "token_embedding", "learned", "ctx")
GAINS = (("attnpool.q_proj.weight", 0.6), ("attnpool.k_proj.weight", 0.6),
         ("c_q.weight", 0.02), ("c_k.weight", 0.02), ("c_v.weight", 0.25),
         ("fc_score.3.weight", 0.002), ("fc_weight.3.weight", 0.005))
HALF = ("conv", "downsample.0", "_proj", "c_fc")


def fnv1a(name):
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) & MASK
    return key


def normals(key, first, count):
    """z(first) ... z(first + count - 1), double."""
    u = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    u *= np.uint64(GOLDEN)
    u += np.uint64(key)
    u ^= u >> np.uint64(30)
    u *= np.uint64(0xBF58476D1CE4E5B9)
    u ^= u >> np.uint64(27)
    u *= np.uint64(0x94D049BB133111EB)
    u ^= u >> np.uint64(31)
    fields = u.view(np.uint16).reshape(-1, 4)  # their order does not matter
    total = fields[:, 0].astype(np.int32)
    for k in range(1, 4):
        total += fields[:, k]
    return (total - 131070) / 37837.22


def rule(name, shape):
    """(offset, scale, abs)."""
    if name.startswith("input."):
        return 0.0, 1.0, False
    if name.endswith("running_var"):
        return 0.5, 0.5, True
    if name.endswith("running_mean"):
        return 0.0, 0.1, False
    if name == "logit_scale":
        return 4.6052, 0.0, False
    if name.startswith("visual.layer") and name.endswith("bn3.weight"):
        return 0.25, 0.1, False
    if len(shape) == 1:
        return (1.0, 0.1, False) if name.endswith("weight") else (0.0, 0.05, False)
    if name.startswith("lin") or name in ("alpha", "beta"):
        return 0.0, 0.1, True
    if name == "token_embedding.weight":
        return 0.0, 1.5, False
    if any(word in name for word in EMBEDDINGS):
        return 0.0, 0.5, False
    if name == "head.weight" and shape[0] == 1:
        return 0.0, 3.0, False
    fan = math.prod(shape[1:])
    for ending, gain in GAINS:
        if name.endswith(ending):
            return 0.0, math.sqrt(gain / fan), False
    if name == "text_projection":
        return 0.0, math.sqrt(1.0 / 512), False
    if len(shape) >= 2:
        return 0.0, math.sqrt(2.0 / fan), False
    raise ValueError(f"no rule for {name} {shape}")


def generate(name, shape):
    """float32 array of that shape."""
    shape = tuple(shape)
    offset, scale, absolute = rule(name, shape)
    key, n, block = fnv1a(name), math.prod(shape), 1 << 15
    values = np.empty(n, np.float32)
    for first in range(0, n, block):
        z = normals(key, first, min(block, n - first))
        if absolute:
            z = np.abs(z)
        z *= scale
        z += offset
        values[first:first + len(z)] = z
    return values.reshape(shape)


def fill(state_dict):
    """Overwrites the floating tensors in place, rounded to the type each has."""
    import torch
    for name, tensor in state_dict.items():
        if tensor.is_floating_point() and not name.endswith("attn_mask"):
            tensor.copy_(torch.from_numpy(generate(name, tensor.shape)))
    return state_dict
