"""Makes checkpoints/. Run: python3 make_checkpoints.py   (seen with torch 2.12.1, safetensors 0.8)

The files are written by torch.save, torch.jit.save, safetensors and Python's own pickle; the values
that belong to them, in checkpoints/expected.json, are what torch.load and torch.jit.load give back:
per tensor its type, shape, sum and first elements. python2_*.pth have no writer any more: they are
put together opcode by opcode, as Python 2's pickle and torch 0.4 wrote them.
"""
import argparse
import collections
import json
import os
import pickle
import struct
import sys
import types
import zipfile

import numpy
import torch
from safetensors.torch import load_file, save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "checkpoints")
EXPECTED = {}


def path(name):
    return os.path.join(HERE, name)


def values(shape, dtype=torch.float32, start=0):
    count = int(numpy.prod(shape))
    t = torch.arange(start, start + count, dtype=torch.float64).reshape(shape)
    if dtype == torch.bool:
        return t % 3 == 0
    return ((t % 17) / 8 - 1).to(dtype) if dtype.is_floating_point else (t % 101 - 50).abs().to(dtype)


def describe(tensor):
    wide = tensor.detach().to(torch.float64).contiguous().reshape(-1)
    return {"dtype": str(tensor.dtype).split(".")[1], "shape": list(tensor.shape),
            "sum": float(wide.sum()), "first": wide[:4].tolist(), "last": wide[-2:].tolist()}


def record(name, tensors, extras=None):
    EXPECTED[name] = {"tensors": {k: describe(v) for k, v in tensors.items()},
                      "extras": extras or {}}


def save(name, value, loaded=None, extras=None, **options):
    torch.save(value, path(name), **options)
    again = torch.load(path(name), weights_only=False)
    record(name, (loaded or (lambda x: x))(again), extras)


# ---- zip ----

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv1 = torch.nn.Conv2d(2, 3, 3)
        self.bn = torch.nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv1(x))


def zip_files():
    save("state_dict.pth", Net().state_dict())

    base = values((6, 8))
    shared = {"all": base, "rows": base[2:4], "column": base[:, 3], "transposed": base.t(),
              "expanded": values((3, 1)).expand(3, 5), "channels_last":
              values((2, 3, 4, 5)).to(memory_format=torch.channels_last), "scalar": torch.tensor(2.5),
              "none": torch.zeros(0, 4), "one_row": base[1:2, :].t()}
    save("views.pth", shared)

    kinds = {str(d).split(".")[1]: values((5,), d, 3) for d in
             (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
              torch.int16, torch.int8, torch.uint8, torch.bool)}
    save("types.pth", kinds)

    parameter = torch.nn.Parameter(values((2, 2)))
    parameter.mark = "stateful"  # makes torch write _rebuild_parameter_with_state
    attribute = values((3,))
    attribute.note = 7  # makes torch write _rebuild_from_type_v2
    save("parameters.pth", {"plain": torch.nn.Parameter(values((4,)), requires_grad=False),
                            "state": parameter, "attribute": attribute})

    training = {
        "params_ema": collections.OrderedDict(a=values((2,)), b=values((3,))),
        "epoch": 12, "lr": 1e-4, "name": "osediff \u00e9", "done": True, "best": None,
        "loss": float("inf"), "unet_lora_modules": ["down.0", "mid", "up.1"], "rank_unet": 4,
        "layers": [{"w": values((1,))}, {"w": values((1,), start=2)}], 5: values((2,), start=1),
        "steps": (10, 20), "big": 1 << 80}
    extras = {k: training[k] for k in ("epoch", "lr", "name", "done", "best", "unet_lora_modules",
                                       "rank_unet")}
    extras.update(loss="inf", steps=[10, 20])
    def flat(t):
        return {"params_ema.a": t["params_ema"]["a"], "params_ema.b": t["params_ema"]["b"],
                "layers.0.w": t["layers"][0]["w"], "layers.1.w": t["layers"][1]["w"], "5": t[5]}
    save("training.pth", training, flat, extras)
    for protocol in (3, 4, 5):
        save(f"protocol{protocol}.pth", {"params_ema": training["params_ema"], "epoch": protocol},
             lambda t: {"params_ema.a": t["params_ema"]["a"], "params_ema.b": t["params_ema"]["b"]},
             {"epoch": protocol}, pickle_protocol=protocol)

    cuda = {"w": values((4,))}
    torch.save(cuda, path("cuda.pth"))
    retag("cuda.pth", b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    record("cuda.pth", cuda)

    # A network saved whole, and what a trainer puts beside a state dict: classes we do not have
    module = sys.modules["foreign_trainer"] = types.ModuleType("foreign_trainer")
    for name in ("ModelCheckpoint", "Config"):
        kind = type(name, (), {"__module__": "foreign_trainer"})
        setattr(module, name, kind)
    Net.__module__ = "foreign_trainer"
    module.Net = Net
    save("whole.pth", Net(), lambda n: n.state_dict())
    callback = module.ModelCheckpoint()
    callback.best_path, callback.scores, callback.owner = "a/b.ckpt", [0.5, 0.25], callback
    config = module.Config()
    config.width = 64
    save("lightning.ckpt", {
        "epoch": 3, "global_step": 77, "pytorch-lightning_version": "2.1.0",
        "state_dict": Net().state_dict(), "callbacks": {module.ModelCheckpoint: callback},
        "hyper_parameters": config, "namespace": argparse.Namespace(lr=0.5), "dtype": torch.float16,
        "device": torch.device("cpu"), "array": numpy.arange(3), "number": numpy.float64(1.5),
        "optimizer_states": [{"state": {0: {"step": torch.tensor(4.), "exp_avg": values((3,))}},
                              "param_groups": [{"lr": 0.1, "params": [0]}]}]},
        lambda t: {**{"state_dict." + k: v for k, v in t["state_dict"].items()},
                   "optimizer_states.0.state.0.step": torch.tensor(4.),
                   "optimizer_states.0.state.0.exp_avg": values((3,))},
        {"epoch": 3, "global_step": 77, "pytorch-lightning_version": "2.1.0",
         "callbacks.foreign_trainer.ModelCheckpoint.best_path": "a/b.ckpt",
         "callbacks.foreign_trainer.ModelCheckpoint.scores": [0.5, 0.25],
         "hyper_parameters.width": 64, "namespace.lr": 0.5,
         "optimizer_states.0.param_groups.0.lr": 0.1,
         "optimizer_states.0.param_groups.0.params": [0]})
    Net.__module__ = "__main__"

    torch.serialization.set_crc32_options(False)
    save("no_crc.pth", {"w": values((3,))})
    torch.serialization.set_crc32_options(True)

    # What is refused
    torch.save({"ok": values((1,)), "bad": torch.ones(2, dtype=torch.complex64)}, path("complex.pth"))
    torch.save({"bad": torch.ones(2).to(torch.float8_e4m3fn)}, path("float8.pth"))
    torch.save({"bad": torch.ones(2, dtype=torch.uint16)}, path("uint16.pth"))
    torch.save({"bad": torch.eye(2).to_sparse()}, path("sparse.pth"))
    torch.save({"bad": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)},
               path("quantized.pth"))
    torch.save({"bad": torch.ones(2, dtype=torch.complex64)}, path("complex_legacy.pth"),
               _use_new_zipfile_serialization=False)


def without_debug(name):
    """Leaves out what names the machine it was made on; the code stays, compressed as it is."""
    with zipfile.ZipFile(path(name)) as old:
        entries = [(i, old.read(i)) for i in old.infolist() if not i.filename.endswith(".debug_pkl")]
    with zipfile.ZipFile(path(name), "w") as new:
        for old_info, content in entries:
            info = zipfile.ZipInfo(old_info.filename, (1980, 1, 1, 0, 0, 0))
            info.compress_type = old_info.compress_type
            new.writestr(info, content)


def retag(name, before, after):
    """Changes data.pkl inside the zip; written again by Python's zipfile, stored."""
    with zipfile.ZipFile(path(name)) as old:
        entries = [(n, old.read(n)) for n in old.namelist()]
    with zipfile.ZipFile(path(name), "w", zipfile.ZIP_STORED) as new:
        for n, content in entries:
            info = zipfile.ZipInfo(n, (1980, 1, 1, 0, 0, 0))
            changed = content.replace(before, after) if n.endswith("data.pkl") else content
            assert not n.endswith("data.pkl") or changed != content
            new.writestr(info, changed)


# ---- legacy ----

def legacy_files():
    old = dict(_use_new_zipfile_serialization=False)
    base = values((4, 6))
    save("legacy.pth", collections.OrderedDict(z=base, a=base[1:3], m=values((3,), torch.float16),
                                               i=values((2,), torch.int64)), **old)
    save("legacy_protocol1.pth", {"w": values((3,)), "epoch": 2},
         lambda t: {"w": t["w"]}, {"epoch": 2}, pickle_protocol=1, **old)
    python2_file("python2_ordered.pth")


def short(text):
    return b"U" + bytes([len(text)]) + text


def python2_file(name):
    """OrderedDict of a list of pairs, SHORT_BINSTRING, LONG1, cuda:0, BUILD with _metadata, a view of
    a storage, storages in the order of their sorted keys."""
    def tensor(key, count, view, offset, sizes, strides):
        def numbers(n):
            return b"(" + b"".join(b"K" + bytes([v]) for v in n) + b"t"
        return (b"ctorch._utils\n_rebuild_tensor_v2\n((" + short(b"storage") +
                b"ctorch\nFloatStorage\n" + short(key) + short(b"cuda:0") + b"\x8a\x01" +
                bytes([count]) + view + b"tQ" + b"K" + bytes([offset]) + numbers(sizes) +
                numbers(strides) + b"\x89NtR")
    view = b"(" + short(b"77") + b"K\x02K\x06t"  # six elements from the third on
    pairs = [(b"lin0.weight", tensor(b"900", 4, b"N", 0, (2, 2), (2, 1))),
             (b"lin1.weight", tensor(b"100", 8, view, 1, (5,), (1,)))]
    state = b"".join(b"](" + short(k) + v + b"e" for k, v in pairs)
    metadata = b"}" + short(b"_metadata") + b"}" + short(b"") + b"}" + short(b"version") + b"K\x01sss"
    body = b"\x80\x02ccollections\nOrderedDict\n](" + state + b"e\x85R" + metadata + b"b."
    head = pickle.dumps(0x1950a86a20f9469cfc6c, 2) + pickle.dumps(1001, 2)
    system = b"\x80\x02}(" + short(b"protocol_version") + b"M\xe9\x03" + short(b"little_endian") + b"\x88u."
    keys = b"\x80\x02](" + short(b"100") + short(b"900") + b"e."
    first, second = values((8,)), values((2, 2), start=5)
    data = b"".join(struct.pack("<q", t.numel()) + t.numpy().tobytes() for t in (first, second))
    with open(path(name), "wb") as file:
        file.write(head + system + body + keys + data)
    record(name, torch.load(path(name), map_location="cpu", weights_only=False))


# ---- TorchScript ----

class Visual(torch.nn.Module):
    """Mixed types, as CLIP's RN50.pt has: half convolutions, float norms, int64 counters."""
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.conv1 = torch.nn.Conv2d(1, 2, 3).half()
        self.bn1 = torch.nn.BatchNorm2d(2)

    def forward(self, x):
        return self.bn1(self.conv1(x.half()).float())


class Clip(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = Visual()
        self.logit_scale = torch.nn.Parameter(torch.tensor(4.6))
        self.register_buffer("counter", torch.tensor(3, dtype=torch.int64))
        self.input_resolution = 224
        self.sizes = [3, 4, 6]
        self.title = "clip"

    def forward(self, x):
        return self.visual(x) * self.logit_scale


def torchscript_files():
    script = torch.jit.script(Clip())
    script.save(path("script.pt"))
    without_debug("script.pt")
    record("script.pt", dict(torch.jit.load(path("script.pt")).state_dict()),
           {"input_resolution": 224, "sizes": [3, 4, 6], "title": "clip"})


# ---- safetensors ----

def safetensors_files():
    tensors = {"b.bias": values((3,), torch.bfloat16), "a.weight": values((2, 3)),
               "n": values((4,), torch.int64)}
    save_file(tensors, path("plain.safetensors"), metadata={"format": "pt"})
    record("plain.safetensors", load_file(path("plain.safetensors")))


if __name__ == "__main__":
    os.makedirs(HERE, exist_ok=True)
    zip_files()
    legacy_files()
    torchscript_files()
    safetensors_files()
    with open(path("expected.json"), "w") as file:
        head = {"made_by": "tests/golden/make_checkpoints.py",
                "reference": f"torch {torch.__version__.split('+')[0]}", "files": EXPECTED}
        json.dump(head, file, indent=0)
        file.write("\n")
