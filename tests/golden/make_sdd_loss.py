"""Makes sdd_loss.json. Run: python3 make_sdd_loss.py

The training losses of SDD (Eq. 7 to 10 of the paper and every alternative reading) and of its
teacher OSEDiff, written down a second time from their definitions: values with NumPy 2.4.6,
gradients with the autograd of torch 2.12.1, both in float64 on the CPU, compared with each other
to 1e-12 before anything is written.

Inputs are integers over powers of two, so float32 has them exactly; see latents() and pictures().
A tensor is written as a summary of its row-major n numbers a_i:
  "max"      the largest |a_i|
  "dot"      the sum of a_i ((29 i + 7) mod 31 - 15) / 15
  "samples"  12 elements, at (k n // 12 + k) mod n for k = 0..11
"""
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

N = 3


# ---------------------------------------------------------------- inputs
def latents():
    """3 x 4 x 6 x 5 each, i the row-major index, n the sample."""
    i = np.arange(N * 120).reshape(N, 4, 6, 5)
    n = i // 120
    level = lambda a, b, c, m: (a * i + b * i * i + c) % m - m // 2
    z_s = level(37, 5, 11, 101) / 32.0
    z_t = z_s + (1 + n) * level(53, 3, 29, 97) / 256.0
    z_h = z_s + (3 - n) * level(41, 7, 7, 89) / 64.0
    noise = level(19, 11, 3, 83) / 32.0
    theta_hat = (3 * np.arange(N * 30) % 33 / 32.0).reshape(N, 1, 6, 5)
    return z_s, z_t, z_h, noise, theta_hat


def pictures():
    """3 x 3 x 24 x 40 each; samples 4 times that; theta of one and of three channels."""
    n, c, y, x = np.indices((N, 3, 24, 40))
    y_t = (((n + 2) * x + 3 * y * (c + 1) + n * x * y) % 129 - 64) / 64.0
    bump = ((5 * x + 7 * y + 3 * c + x * y) % 33 - 16) / 32.0
    # The teacher is right in the left half, nowhere, and outside one corner
    wrong = np.where(n == 0, x >= 20, np.where(n == 1, True, (x < 6) & (y < 4)))
    truth = np.clip(y_t + bump * wrong, -1.0, 1.0)
    y_s = y_t + ((11 * x + 5 * y + 13 * c + 3 * x * y + n) % 41 - 20) / 64.0
    level = lambda k: (3 * x + 5 * y + k * (x + 2 * y + c) + n * k) % 17 - 8
    samples = np.stack([y_t + (k + 1) * level(k) / 128.0 for k in range(4)])
    theta_3 = ((7 * x + 5 * y + 11 * n + 17 * c) % 65) / 64.0
    return y_s, y_t, truth, samples, theta_3[:, :1], theta_3


# ---------------------------------------------------------------- Eq. 7
def distance_np(a, b, kind):
    d = a - b
    if kind == "rms":
        return np.sqrt(np.mean(d * d, axis=(1, 2, 3)) + 1e-12)
    if kind == "l2":
        return np.sqrt(np.sum(d * d, axis=(1, 2, 3)) + 1e-12)
    if kind == "l2_per_pixel":
        return np.mean(np.sqrt(np.sum(d * d, axis=1) + 1e-12), axis=(1, 2))
    dot, aa, bb = ((p * q).sum(axis=(1, 2, 3)) for p, q in ((a, b), (a, a), (b, b)))
    return 1.0 - dot / np.sqrt(aa * bb)


def metric_np(z_s, z_t, z_h, j, o):
    pos, sev = distance_np(z_s, z_t, o["dist"]), distance_np(z_s, z_h, o["dist"])
    eps, neg = o["epsilon"], distance_np(z_s, z_s[j], o["dist"])
    second = {"ratio": pos / (neg + eps), "as_printed": neg / (neg + eps),
              "hinge": np.maximum(0.0, o["margin"] + pos - neg), "off": 0.0 * pos}[o["neg2"]]
    return np.mean(pos / (sev + eps) + o["lambda"] * second), pos, sev, neg


def distance_torch(a, b, kind):
    if kind == "rms":
        return ((a - b).pow(2).mean(dim=(1, 2, 3)) + 1e-12).sqrt()
    if kind == "l2":
        return ((a - b).pow(2).sum(dim=(1, 2, 3)) + 1e-12).sqrt()
    if kind == "l2_per_pixel":
        return ((a - b).pow(2).sum(dim=1) + 1e-12).sqrt().mean(dim=(1, 2))
    return 1.0 - F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)


def metric_torch(z_s, z_t, z_h, j, o):
    pos, sev = distance_torch(z_s, z_t, o["dist"]), distance_torch(z_s, z_h, o["dist"])
    neg = distance_torch(z_s, z_s[j], o["dist"])
    below = (lambda d: d.detach()) if o["detach_neg"] else (lambda d: d)
    loss = pos / (below(sev) + o["epsilon"])
    if o["neg2"] == "ratio":
        loss = loss + o["lambda"] * pos / (below(neg) + o["epsilon"])
    if o["neg2"] == "as_printed":
        loss = loss + o["lambda"] * neg / (below(neg) + o["epsilon"])
    if o["neg2"] == "hinge":
        loss = loss + o["lambda"] * F.relu(o["margin"] + pos - neg)
    return loss.mean()


# ---------------------------------------------------------------- Eq. 8, 9
def box_np(a):
    """Mean over those of the 7 x 7 pixels around each that lie in the picture."""
    h, w = a.shape[-2:]
    out = np.empty_like(a)
    for y in range(h):
        for x in range(w):
            part = a[..., max(0, y - 3):y + 4, max(0, x - 3):x + 4]
            out[..., y, x] = part.mean(axis=(-2, -1))
    return out


def source_np(view, source):
    y_t, truth, samples = view
    if source == "output":
        return np.log1p(np.exp(y_t))
    if source == "detail":
        return box_np(np.abs(y_t - box_np(y_t)))
    if source == "error":
        return box_np(np.abs(y_t - truth))
    return samples.var(axis=0, ddof=1)


def theta_np(view, o):
    s = source_np(view, o["source"])
    size = s.shape[2] * s.shape[3]
    if o["norm"] == "l1_channel":
        total = s.sum(axis=1, keepdims=True)
        theta = np.where(total > 0, s / np.where(total > 0, total, 1.0), 1.0 / 3.0)
        return theta if o["per_channel"] else theta.mean(axis=1, keepdims=True)
    if not o["per_channel"]:
        s = s.mean(axis=1, keepdims=True)
    if o["norm"] == "l1_space":
        return np.clip(o["kappa"] * size * s / s.sum(axis=(2, 3), keepdims=True), 0.0, 1.0)
    if o["norm"] == "l1_space_max":
        return s / s.max(axis=(2, 3), keepdims=True)
    return 1.0 / (1.0 + np.exp(-s))


def down_np(theta, h, w, how):
    theta = theta.mean(axis=1, keepdims=True)
    height, width = theta.shape[2:]
    out = np.empty((theta.shape[0], 1, h, w))
    for i in range(h):
        for k in range(w):
            if how == "bilinear":  # between pixel centres, no low-pass
                y, x = (i + 0.5) * height / h - 0.5, (k + 0.5) * width / w - 0.5
                y0, x0 = int(np.floor(y)), int(np.floor(x))
                y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
                fy, fx = y - y0, x - x0
                row = lambda y: (1 - fx) * theta[:, :, y, x0] + fx * theta[:, :, y, x1]
                out[:, :, i, k] = (1 - fy) * row(y0) + fy * row(y1)
            else:
                part = theta[:, :, i * height // h:-(-(i + 1) * height // h),
                             k * width // w:-(-(k + 1) * width // w)]
                out[:, :, i, k] = part.mean(axis=(2, 3)) if how == "area" else part.max(axis=(2, 3))
    return out


# ---------------------------------------------------------------- Eq. 10
def picture_norm_np(a, kind):
    if kind == "rms":
        return np.mean(np.sqrt(np.mean(a * a, axis=(1, 2, 3)) + 1e-12))
    if kind == "mse":
        return np.mean(a * a)
    if kind == "l1":
        return np.mean(np.abs(a))
    return np.mean(np.sqrt(np.sum(a * a, axis=(1, 2, 3)) + 1e-12))


def picture_norm_torch(a, kind):
    if kind == "rms":
        return (a.pow(2).flatten(1).mean(1) + 1e-12).sqrt().mean()
    if kind == "mse":
        return a.pow(2).mean()
    if kind == "l1":
        return a.abs().mean()
    return (a.pow(2).flatten(1).sum(1) + 1e-12).sqrt().mean()


# ---------------------------------------------------------------- output
def number(x):
    return float(f"{float(x):.9g}")


def summary(a):
    a = np.asarray(a, dtype=np.float64).ravel()
    n = a.size
    weights = ((29 * np.arange(n) + 7) % 31 - 15) / 15.0
    return {"max": number(np.abs(a).max()), "dot": number((a * weights).sum()),
            "samples": [number(a[(k * n // 12 + k) % n]) for k in range(12)]}


def leaf(a):
    return torch.tensor(a, dtype=torch.float64, requires_grad=True)


def agree(a, b):
    assert abs(a - b.item()) <= 1e-12 * max(1.0, abs(a)), (a, b)


def metric_cases():
    z_s, z_t, z_h, _, _ = latents()
    base = {"neg2": "ratio", "dist": "rms", "lambda": 0.5, "epsilon": 1e-6, "margin": 0.2,
            "detach_neg": False, "j": [2, 0, 1]}
    options = [base | {"dist": d, "neg2": s, "margin": {"rms": 1.0, "l2": 11.0, "l2_per_pixel": 1.9,
                                                        "cosine": 0.85}[d]}
               for d in ("rms", "l2", "l2_per_pixel", "cosine")
               for s in ("ratio", "as_printed", "hinge", "off")]
    options += [base | {"detach_neg": True, "neg2": s, "margin": 1.0}
                for s in ("ratio", "as_printed", "hinge", "off")]
    options += [base | {"epsilon": 0.25, "lambda": 0.75, "neg2": s, "j": [1, 2, 0]}
                for s in ("ratio", "as_printed")]
    options += [base | {"lambda": 0.0}, base | {"neg2": "hinge"}]
    cases = []
    for o in options:
        loss, pos, sev, neg = metric_np(z_s, z_t, z_h, o["j"], o)
        z = [leaf(a) for a in (z_s, z_t, z_h)]
        found = metric_torch(*z, o["j"], o)
        agree(loss, found)
        found.backward()
        if o["neg2"] == "hinge" and o["margin"] != 0.2:
            active = o["margin"] + pos - neg > 0
            assert active.any() and not active.all(), (o, pos, neg)
        cases.append(o | {"loss": number(loss), "positive": [number(v) for v in pos],
                          "severe": [number(v) for v in sev], "unrelated": [number(v) for v in neg],
                          "grad_z_s": summary(z[0].grad), "grad_z_t": summary(z[1].grad),
                          "grad_z_h": summary(z[2].grad) if z[2].grad is not None else None})
    return cases


def theta_cases():
    _, y_t, truth, samples, _, _ = pictures()
    options = [{"source": s, "norm": n, "per_channel": p, "kappa": 1.0 / 3.0}
               for s in ("output", "detail", "error", "posterior_var")
               for n in ("l1_space", "l1_channel", "l1_space_max", "none_sigmoid")
               for p in (False, True)]
    options += [{"source": "output", "norm": "l1_space", "per_channel": False, "kappa": 0.75}]
    cases = []
    for o in options:
        theta = theta_np((y_t, truth, samples), o)
        assert theta.min() >= 0.0 and theta.max() <= 1.0 + 1e-12
        cases.append(o | {"kappa": number(o["kappa"]), "theta": summary(theta),
                          "mean": number(theta.mean())})
    return cases


def down_cases():
    *_, theta_1, theta_3 = pictures()
    cases = []
    for channels, theta in ((1, theta_1), (3, theta_3)):
        for how in ("area", "bilinear", "max"):
            for h, w in ((3, 5), (5, 7)):
                found = down_np(theta, h, w, how)
                mode = {"area": lambda t: F.adaptive_avg_pool2d(t, (h, w)),
                        "max": lambda t: F.adaptive_max_pool2d(t, (h, w)),
                        "bilinear": lambda t: F.interpolate(t, (h, w), mode="bilinear")}[how]
                assert np.abs(mode(torch.tensor(theta).mean(1, True)).numpy() - found).max() < 1e-12
                cases.append({"channels": channels, "down": how, "h": h, "w": w,
                              "theta_hat": summary(found)})
    return cases


def noise_case():
    z_s, _, _, noise, theta_hat = latents()
    z = leaf(z_s)
    t = torch.tensor(theta_hat)
    out = t * torch.tensor(noise) + (1 - t) * z
    value = theta_hat * noise + (1.0 - theta_hat) * z_s
    assert np.abs(out.detach().numpy() - value).max() < 1e-12
    out.pow(2).sum().backward()
    return {"value": summary(value), "grad_of_square": summary(z.grad)}


def distill_cases():
    y_s, y_t, truth, _, theta_1, theta_3 = pictures()
    base = {"norm": "rms", "theta": 1, "lambda_soft": 1.0, "lambda_hard": 1.5, "clamp": False}
    norms = ("rms", "mse", "l1", "l2_sum")
    options = [base | {"norm": n, "theta": t} for n in norms for t in (0, 1, 3)]
    options += [base | {"norm": n, "clamp": True} for n in norms]
    options += [base | {"lambda_soft": 0.0}, base | {"lambda_hard": 0.0},
                base | {"lambda_soft": 0.25, "lambda_hard": 2.0}]
    cases = []
    for o in options:
        theta = {0: None, 1: theta_1, 3: theta_3}[o["theta"]]
        a, b = (1.0 - theta, theta) if theta is not None else (1.0, 1.0)
        shown = np.clip(y_s, -1.0, 1.0) if o["clamp"] else y_s
        soft = picture_norm_np(a * (shown - y_t), o["norm"])
        hard = picture_norm_np(b * (shown - truth), o["norm"])
        loss = o["lambda_soft"] * soft + o["lambda_hard"] * hard
        student = leaf(y_s)
        shown = student.clamp(-1.0, 1.0) if o["clamp"] else student
        a, b = torch.as_tensor(a), torch.as_tensor(b)
        found_soft = picture_norm_torch(a * (shown - torch.tensor(y_t)), o["norm"])
        found_hard = picture_norm_torch(b * (shown - torch.tensor(truth)), o["norm"])
        found = o["lambda_soft"] * found_soft + o["lambda_hard"] * found_hard
        agree(loss, found)
        found.backward()
        cases.append(o | {"loss": number(loss), "soft": number(soft), "hard": number(hard),
                          "grad_y_s": summary(student.grad)})
    return cases


def osediff_case():
    z_hr, x0_fake, x0_real, noise, _ = latents()
    alpha_bar = np.array([0.9375, 0.25, 0.0078125])
    a, s = (np.sqrt(v).reshape(N, 1, 1, 1) for v in (alpha_bar, 1.0 - alpha_bar))
    w = np.abs(z_hr - x0_real).mean(axis=(1, 2, 3), keepdims=True)
    g = (x0_fake - x0_real) / w
    z = leaf(z_hr)
    loss = F.mse_loss(z, (z - torch.tensor(g)).detach())
    agree(np.mean(g * g), loss)
    loss.backward()
    return {"alpha_bar": alpha_bar.tolist(), "scale": 7.5,
            "vsd": number(np.mean(g * g)), "grad_z_hr": summary(z.grad),
            "noisy": summary(a * z_hr + s * noise), "clean": summary((z_hr - s * noise) / a),
            "guided": summary(x0_fake + 7.5 * (x0_real - x0_fake))}


def main():
    made_with = (f"definitions in make_sdd_loss.py, numpy {np.__version__}, "
                 f"torch {torch.__version__}, float64")
    result = {"made_with": made_with, "metric": metric_cases(), "theta": theta_cases(),
              "down": down_cases(), "noise": noise_case(), "distill": distill_cases(),
              "osediff": osediff_case()}
    # One case a line
    lines = []
    for key, value in result.items():
        if isinstance(value, list):
            body = ",\n".join("  " + json.dumps(case) for case in value)
            lines.append(f'"{key}": [\n{body}\n ]')
        else:
            lines.append(f'"{key}": {json.dumps(value)}')
    text = "{\n " + ",\n ".join(lines) + "\n}\n"
    json.loads(text)
    (pathlib.Path(__file__).parent / "sdd_loss.json").write_text(text)


if __name__ == "__main__":
    main()
