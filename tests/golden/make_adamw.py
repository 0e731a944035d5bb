"""Makes models_adamw.json. Run: python3 make_adamw.py

Made with torch 2.12.1 on the CPU: torch.optim.AdamW (its plain loop over the parameters, one thread),
float32, five steps. Parameters and gradients by formula, so that none are stored: element i of
parameter number p (in the order of the file) is ((37 i + 11 p) mod 64 - 31) / 32, its gradient in step
s (from 0) is ((29 i + 17 p + 23 s) mod 64 - 30) / 2^(5 + 3 p). "skips": steps in which the parameter
has no gradient. "rates": the learning rate of each step. "after": all elements after each step.
Also "norm": torch.nn.utils.clip_grad_norm_(parameters, 1) on the gradients of step 0, and "clipped".
"""
import json
import pathlib

import torch

SHAPES = {"bias": [7], "conv.weight": [3, 2, 3], "scale": [1]}
SKIPS = {"scale": [0, 3]}
RATES = [1e-2, 1e-2, 5e-3, 2e-3, 1e-3]
OPTIONS = dict(betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)


def values(shape, step=None, p=0):
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.int64)
    if step is None:
        v = ((37 * i + 11 * p) % 64 - 31).double() / 32
    else:
        v = ((29 * i + 17 * p + 23 * step) % 64 - 30).double() / 2 ** (5 + 3 * p)
    return v.float().reshape(shape)


torch.set_num_threads(1)
parameters = {n: values(s, p=p).requires_grad_() for p, (n, s) in enumerate(SHAPES.items())}
optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2, foreach=False, fused=False, **OPTIONS)
after = []
for step, rate in enumerate(RATES):
    for p, (name, shape) in enumerate(SHAPES.items()):
        parameters[name].grad = None if step in SKIPS.get(name, []) else values(shape, step, p)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    after.append({n: t.detach().flatten().tolist() for n, t in parameters.items()})

for p, (name, shape) in enumerate(SHAPES.items()):
    parameters[name].grad = values(shape, 0, p)
norm = torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
clipped = {n: t.grad.flatten().tolist() for n, t in parameters.items()}

out = {
    "made_with": f"torch {torch.__version__.split('+')[0]}, torch.optim.AdamW",
    "parameters": [{"name": n, "shape": s, "skips": SKIPS.get(n, [])} for n, s in SHAPES.items()],
    "beta1": OPTIONS["betas"][0], "beta2": OPTIONS["betas"][1], "epsilon": OPTIONS["eps"],
    "weight_decay": OPTIONS["weight_decay"], "rates": RATES, "after": after,
    "norm": norm.item(), "clipped": clipped,
}
path = pathlib.Path(__file__).parent / "models_adamw.json"
path.write_text(json.dumps(out, separators=(", ", ": ")).replace('"after"', '\n"after"')
                .replace("}, {", "},\n {") + "\n")
