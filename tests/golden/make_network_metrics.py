#!/usr/bin/env python3
"""Golden numbers of the network metrics, made by running pyiqa on a CPU with generated weights.

usage: make_network_metrics.py FILES --heads HEADS [--only NAME,NAME] [--taps FOLDER]
                               [--out tests/golden]
       make_network_metrics.py FILES --write-files [--only FILE,FILE]

FILES  folder of checkpoint files under their official names (1.9 GB); --write-files makes them
       from the formulas of generated_weights.py, with all keys, shapes and types of the official
       ones. alexnet, vgg16, the LPIPS heads, DISTS and Inception are written in the format of
       before torch 1.6, the rest as zip archives, RN50.pt as a TorchScript archive.
HEADS  folder of the real lpips_head_alex.pth, lpips_head_vgg.pth, DISTS_weights-f5e65c96.pth

Needs pyiqa 0.1.16, torch, torchvision, timm, scipy < 1.18, Pillow and safetensors. Writes
  metrics_networks.csv            scores; those of metrics left out by --only are kept
  metrics_networks_fid.json       fid of two sets, features and resized pictures of some of them
  metrics_networks_gradients.csv  the gradient of a score by the restored picture, at some places
  metrics_maniqa_crops.json       where MANIQA's random crops lie, by both of its seeding rules
and, with --taps, what the networks have inside: one .safetensors a metric, for debugging.
Pictures are those of make_metrics.py, which tests/metrics/pictures.h repeats too.
"""
import argparse
import contextlib
import csv
import json
import os
import pathlib
import sys
import tempfile
import warnings

import numpy as np
import PIL
import scipy
import torch
import torchvision
from PIL import Image
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import generated_weights
from make_metrics import picture

# ---- Checkpoint files under their official names ----


def inception_state():
    """The state dict of the Inception network, without fetching its weights."""
    from pyiqa.archs import inception
    load = inception.load_pretrained_network
    inception.load_pretrained_network = lambda *_: None
    try:
        return inception.fid_inception_v3().state_dict()
    finally:
        inception.load_pretrained_network = load


def musiq_state(outputs):
    from pyiqa.archs.musiq_arch import MUSIQ
    return MUSIQ(pretrained=False, num_class=outputs).state_dict()


def maniqa_state():
    from pyiqa.archs.maniqa_arch import MANIQA
    with vit_by_shape():
        return MANIQA(pretrained=False).state_dict()


@contextlib.contextmanager
def vit_by_shape():
    """Keeps MANIQA from fetching timm's weights, which its own file overwrites anyway."""
    import timm
    create = timm.create_model
    timm.create_model = lambda name, pretrained: create(name, pretrained=False)
    try:
        yield
    finally:
        timm.create_model = create


def head_state(channels):
    return {f"lin{k}.model.1.weight": torch.empty(1, c, 1, 1) for k, c in enumerate(channels)}


class Holder(nn.Module):
    """A tree of modules that only holds tensors, under the names of a state dict."""

    def forward(self, image):
        return image


def clip_archive():
    """CLIP RN50 as a TorchScript module: weights of products float16, the rest float32."""
    from pyiqa.archs import clip_model
    model = clip_model.CLIP(1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12)
    clip_model.convert_weights(model)
    state = generated_weights.fill(model.state_dict())
    for name, tensor in state.items():
        half = any(part in name for part in generated_weights.HALF)
        assert (tensor.dtype == torch.half) == half, name
    for name, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 49408)):
        state[name] = torch.tensor(value)
    buffers = ("running_mean", "running_var", "num_batches_tracked", "input_resolution",
               "context_length", "vocab_size")
    root = Holder()
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, Holder())
            module = module._modules[part]
        if leaf in buffers:
            module.register_buffer(leaf, tensor.clone())
        else:
            module.register_parameter(leaf, nn.Parameter(tensor.clone(), requires_grad=False))
    return torch.jit.script(root)


ALEX, VGG = [64, 192, 384, 256, 256], [64, 128, 256, 512, 512]
CLIP, PROMPTS = "RN50.pt", "CLIP-IQA+_learned_prompts-603f3273.pth"

# File, its state dict, whether it has the format of before torch 1.6
FILES = [
    ("alexnet-owt-7be5be79.pth", lambda: torchvision.models.alexnet().state_dict(), True),
    ("vgg16-397923af.pth", lambda: torchvision.models.vgg16().state_dict(), True),
    ("LPIPS_v0.1_alex-df73285e.pth", lambda: head_state(ALEX), True),
    ("LPIPS_v0.1_vgg-a78928a0.pth", lambda: head_state(VGG), True),
    ("DISTS_weights-f5e65c96.pth",
     lambda: {name: torch.empty(1, 1475, 1, 1) for name in ("alpha", "beta")}, True),
    ("pt_inception-2015-12-05-6726825d.pth", inception_state, True),
    ("musiq_koniq_ckpt-e95806b9.pth", lambda: musiq_state(1), False),
    ("musiq_spaq_ckpt-358bb6af.pth", lambda: musiq_state(1), False),
    ("musiq_paq2piq_ckpt-364c0c84.pth", lambda: musiq_state(1), False),
    ("musiq_ava_ckpt-e8d3f067.pth", lambda: musiq_state(10), False),
    ("MANIQA_PIPAL-ae6d356b.pth", maniqa_state, False),
]


@torch.no_grad()
def write_files(folder, only):
    folder.mkdir(parents=True, exist_ok=True)
    for name, state, legacy in FILES:
        if not only or name in only:
            torch.save(generated_weights.fill(state()), folder / name,
                       _use_new_zipfile_serialization=not legacy)
    if not only or CLIP in only:
        clip_archive().save(str(folder / CLIP))
    if not only or PROMPTS in only:
        torch.save(torch.from_numpy(generated_weights.generate("ctx", (2, 16, 512))),
                   folder / PROMPTS)


@contextlib.contextmanager
def files_in_place(files):
    """Lays the files where pyiqa, torchvision and CLIP look before they fetch."""
    from pyiqa.archs import clip_model
    from pyiqa.utils import download_util
    with tempfile.TemporaryDirectory() as home:
        hub = pathlib.Path(home)
        for name in ("checkpoints", "clip", "pyiqa"):
            (hub / name).mkdir()
            for path in files.iterdir():
                (hub / name / path.name.replace("+", "%2B" if name == "pyiqa" else "+")) \
                    .symlink_to(path.resolve())
        torch.hub.set_dir(home)
        download_util.DEFAULT_CACHE_DIR = str(hub / "pyiqa")
        clip_model._download = lambda url, root: os.path.join(root, os.path.basename(url))
        with vit_by_shape():
            yield


def tensor(picture_):
    return torch.from_numpy(picture_.transpose(2, 0, 1).astype(np.float32) / np.float32(255))[None]


def tensors(kind, width, height):
    return [tensor(p) for p in picture(kind, width, height)]


# ---- Scores ----

KINDS = ["texture", "patches", "grey", "flat"]
SIZES = [(512, 512), (301, 237), (173, 411), (97, 64), (224, 224), (225, 225), (33, 31)]

# Name, weights, further sizes (texture only), what to make it by
SCORES = [
    ("lpips", "generated", [(31, 31)], {}),
    ("lpips", "real head", [], {"head": "lpips_head_alex.pth"}),
    ("lpips-vgg", "generated", [(16, 16)], {}),
    ("lpips-vgg", "real head", [], {"head": "lpips_head_vgg.pth"}),
    ("dists", "generated", [(16, 16)], {}),
    ("dists", "real head", [], {"head": "DISTS_weights-f5e65c96.pth"}),
    ("musiq", "generated", [(640, 480), (5, 3)], {}),
    ("musiq-ava", "generated", [(640, 480)], {}),
    ("clipiqa", "generated", [(640, 480), (31, 31)], {}),
    ("clipiqa+", "generated", [(640, 480)], {}),
]
FULL_REFERENCE = ("lpips", "lpips-vgg", "dists")
HEADER = ["metric", "weights", "kind", "width", "height", "crops", "value"]


def make(name, **options):
    import pyiqa
    return pyiqa.create_metric(name, device="cpu", **options)


def scores(name, weights, sizes, options, heads):
    if "head" in options:
        options = {"pretrained_model_path": str(heads / options["head"])}
    metric = make(name, **options)
    pictures = [(kind, w, h) for w, h in SIZES for kind in KINDS]
    pictures += [("texture", w, h) for w, h in sizes]
    for kind, width, height in pictures:
        sr, hr = tensors(kind, width, height)
        value = float(metric(sr, hr) if name in FULL_REFERENCE else metric(sr))
        yield [name, weights, kind, width, height, "", value]


@contextlib.contextmanager
def crops_at(places):
    """MANIQA on these crops, (row, column) each, of its picture."""
    from pyiqa.archs import maniqa_arch
    cut = maniqa_arch.uniform_crop
    maniqa_arch.uniform_crop = lambda x, crop_size, crop_num: torch.cat(
        [x[..., r:r + crop_size, c:c + crop_size] for r, c in places])
    try:
        yield
    finally:
        maniqa_arch.uniform_crop = cut


@contextlib.contextmanager
def random_crops():
    """MANIQA on the crops of pyiqa up to 0.1.11, for a first picture."""
    from pyiqa.archs import arch_util, maniqa_arch
    cut = maniqa_arch.uniform_crop
    maniqa_arch.uniform_crop = arch_util.random_crop
    np.random.seed(123)
    try:
        yield
    finally:
        maniqa_arch.uniform_crop = cut


def maniqa_scores():
    """Given crops first, which are fast; then 20 crops a picture."""
    metric = make("maniqa-pipal")
    row = lambda kind, w, h, crops, value: ["maniqa-pipal", "generated", kind, w, h, crops, value]
    for kind, places in (("texture", [(0, 0)]), ("texture", [(32, 96)]),
                         ("texture", [(0, 0), (32, 96)]), ("patches", [(32, 96)]),
                         ("flat", [(0, 0)])):
        with crops_at(places):
            value = float(metric(tensors(kind, 320, 256)[0]))
        yield row(kind, 320, 256, " ".join(f"{r}:{c}" for r, c in places), value)
    for kind, width, height in (("texture", 320, 256), ("texture", 200, 150),
                                ("texture", 224, 224), ("patches", 512, 512)):
        yield row(kind, width, height, "uniform", float(metric(tensors(kind, width, height)[0])))
    with random_crops():
        yield row("texture", 320, 256, "random123", float(metric(tensors("texture", 320, 256)[0])))


# ---- FID ----

FID_SETS = [
    [(kind, "sr", w, h) for w, h in ((299, 299), (97, 64), (512, 384)) for kind in KINDS],
    [(kind, "hr", w, h) for w, h in ((301, 237), (64, 97), (400, 300))
     for kind in ("texture", "patches", "grey")],
]


def frechet_by_singular_values(a, b):
    """The same distance without a matrix square root, double throughout."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    difference = a.mean(0) - b.mean(0)
    a, b = ((f - f.mean(0)) / np.sqrt(len(f) - 1) for f in (a, b))
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(difference @ difference + (a * a).sum() + (b * b).sum() - 2 * cross)


def fid():
    """fid of two folders; features and resized pictures of two of each."""
    from pyiqa.archs.fid_arch import ResizeDataset, get_folder_features
    metric = make("fid")
    result = {"sets": [], "pictures": []}
    with tempfile.TemporaryDirectory() as home:
        folders = []
        for number, pictures in enumerate(FID_SETS):
            folders.append(pathlib.Path(home) / str(number))
            folders[-1].mkdir()
            entries = []
            for index, (kind, side, width, height) in enumerate(pictures):
                pixels = picture(kind, width, height)[side == "hr"]
                Image.fromarray(pixels).save(folders[-1] / f"{index:02}.png")
                entries.append(dict(kind=kind, side=side, width=width, height=height))
            result["sets"].append(entries)
            for index in (0, 5) if number == 0 else (0, 4):
                path = folders[-1] / f"{index:02}.png"
                small = ResizeDataset([path], "clean")[0].numpy().astype(np.float64)
                places = [(k % 3, 17 * k % 299, 31 * k % 299) for k in range(12)]
                with torch.no_grad():
                    x = torch.from_numpy(small.astype(np.float32))[None]
                    f = metric.net.model((x - 128) / 128)[0].flatten().numpy().astype(np.float64)
                result["pictures"].append(dict(
                    entries[index],
                    resized=dict(sums=[float(c.sum()) for c in small],
                                 sums_of_squares=[float((c * c).sum()) for c in small],
                                 samples=[[*p, float(small[p])] for p in places]),
                    features=dict(first=[float(v) for v in f[:16]], sum=float(f.sum()),
                                  sum_of_squares=float((f * f).sum()))))
        settings = dict(num_workers=0, verbose=False)
        result["fid"] = float(metric(str(folders[0]), str(folders[1]), **settings))
        result["fid_of_one_set_with_itself"] = float(
            metric(str(folders[1]), str(folders[1]), **settings))
        features = [get_folder_features(str(folder), metric.net.model, device="cpu", **settings)
                    for folder in folders]
        result["fid_by_singular_values"] = frechet_by_singular_values(*features)
    return result


# ---- Gradients ----


def gradients():
    """By the restored picture, 64 x 64: the norm and 40 places."""
    for name in FULL_REFERENCE:
        metric = make(name)
        sr, hr = tensors("texture", 64, 64)
        sr.requires_grad_()
        metric.net(sr, hr).sum().backward()
        g = sr.grad[0]
        yield [name, "generated", "norm", "", "", "", float(g.double().norm())]
        yield [name, "generated", "sum", "", "", "", float(g.double().sum())]
        for k in range(40):
            c, r, x = k % 3, 13 * k % 64, 29 * k % 64
            yield [name, "generated", "element", c, r, x, float(g[c, r, x])]


# ---- Places of random crops ----


def crops():
    """20 (row, column) a picture. stream: seeded once, then picture after picture, as pyiqa up to
    0.1.10 does; reseeded: seeded for each picture, as 0.1.11 does."""
    from pyiqa.archs import arch_util
    sizes = [(512, 512), (320, 256), (225, 225), (255, 240), (224, 500), (200, 150), (256, 257),
             (97, 64), (1024, 768), (300, 168),
             (239, 224)]  # 168: its enlargement ends at 224 rows, which leaves nothing to draw
    draw, drawn = np.random.randint, []
    np.random.randint = lambda low, high: drawn.append(draw(low, high)) or drawn[-1]
    result = {}
    try:
        for rule in ("stream", "reseeded"):
            result[rule] = []
            np.random.seed(123)
            for width, height in sizes:
                if rule == "reseeded":
                    np.random.seed(123)
                drawn.clear()
                arch_util.random_crop(torch.zeros(1, 1, height, width), 224, 20)
                places = [[int(r), int(c)] for r, c in zip(drawn[::2], drawn[1::2])]
                result[rule].append(dict(width=width, height=height, crops=places))
    finally:
        np.random.randint = draw
    return result


# ---- What is inside, for debugging ----


def tapped(net, modules, run):
    """The outputs of named modules, in the order in which they come; numbered when repeated."""
    taps, hooks = {}, []
    known = dict(net.named_modules())

    def keep(name):
        def hook(_, inputs, output):
            value = output[0] if isinstance(output, tuple) else output
            key, n = name, 1
            while key in taps:
                key, n = f"{name}#{n}", n + 1
            taps[key] = value.detach().clone().contiguous()
        return hook

    for name in modules:
        hooks.append(known[name].register_forward_hook(keep(name)))
    try:
        with torch.no_grad():
            score = run()
    finally:
        for hook in hooks:
            hook.remove()
    if score is not None:
        taps["score"] = score.detach().reshape(-1).clone()
    return taps


INCEPTION = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1",
             "Conv2d_4a_3x3", "maxpool2", "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a",
             "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c",
             "avgpool"]


def write_taps(folder, name):
    from safetensors.torch import save_file
    sr, hr = tensors("texture", 97, 64)
    size = "97x64"
    metric = make(name) if name != "fid" else None
    if name in FULL_REFERENCE:  # lpips: the HR picture is run first, dists: the restored one
        first, second = ("hr", "sr") if name != "dists" else ("sr", "hr")
        slices = [n for n, _ in metric.net.named_children() if n.startswith("stage")] \
            or [f"net.slice{k}" for k in range(1, 6)]
        found = tapped(metric.net, slices, lambda: metric(sr, hr))
        taps = {}
        for key, value in found.items():
            side = second if key.endswith("#1") else first
            taps["score" if key == "score" else
                 f"{side}.{key.removesuffix('#1')}"] = value
    elif name.startswith("musiq"):
        from pyiqa.data.multiscale_trans_util import get_multiscale_patches
        blocks = [f"transformer_encoder.transformer.encoderblock_{k}" for k in range(14)]
        taps = tapped(metric.net, ["conv_root", "gn_root", "root_pool", "block1", "embedding",
                                   "transformer_encoder.posembed_input",
                                   "transformer_encoder.scaleembed_input", *blocks,
                                   "transformer_encoder.encoder_norm", "head"],
                      lambda: metric(sr))
        taps["patches"] = get_multiscale_patches(
            (sr - 0.5) * 2, **metric.net.data_preprocess_opts).contiguous()
    elif name.startswith("clipiqa"):
        clip = metric.net.clip_model[0]
        stages = ["visual.avgpool", *[f"visual.layer{k}" for k in range(1, 5)], "visual.attnpool",
                  *[f"transformer.resblocks.{k}" for k in range(12)], "ln_final"]
        taps = tapped(clip, stages, lambda: metric(sr))
        with torch.no_grad():
            taps["text_features"] = metric.net.prompt_learner(clip) if "+" in name \
                else clip.encode_text(metric.net.prompt_pairs)
    elif name == "maniqa-pipal":
        size = "224x224_at_0_0_of_320x256"
        names = ["vit.patch_embed", *[f"vit.blocks.{k}" for k in range(12)], "tablock1.0",
                 "tablock1.1", "conv1", "swintransformer1.layers.0.blocks.0",
                 "swintransformer1.layers.0.blocks.1", "swintransformer1.layers.0",
                 "swintransformer1", "tablock2.0", "tablock2.1", "conv2", "swintransformer2",
                 "fc_score", "fc_weight"]
        with crops_at([(0, 0)]):
            taps = tapped(metric.net, names, lambda: metric(tensors("texture", 320, 256)[0]))
    else:  # Inception, on the picture as clean FID resizes it
        from pyiqa.archs.fid_arch import ResizeDataset
        net = make("fid").net.model
        with tempfile.TemporaryDirectory() as home:
            path = pathlib.Path(home) / "picture.png"
            Image.fromarray(picture("texture", 97, 64)[0]).save(path)
            small = ResizeDataset([path], "clean")[0][None]
        names = [n for n, _ in net.named_modules() if n.count(".") == 2 and n.startswith("blocks")]
        found = tapped(net, names, lambda: net((small - 128) / 128)[0])
        taps = dict(zip(INCEPTION, found.values()), resized=small, features=found["score"])
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.float().contiguous() for key, value in taps.items()},
              folder / f"{name}_texture_{size}.safetensors")


# ---- Writing ----


def provenance(args):
    import pyiqa
    import timm
    return [f"pyiqa {pyiqa.__version__} on a CPU, one thread, torch {torch.__version__}, "
            f"torchvision {torchvision.__version__}, timm {timm.__version__}, "
            f"numpy {np.__version__}, scipy {scipy.__version__}, Pillow {PIL.__version__}",
            "command: tests/golden/make_network_metrics.py FILES --heads HEADS",
            "weights: tests/golden/generated_weights.py; with 'real head' those of the LPIPS heads "
            "or DISTS are the published ones, the backbone is generated"]


def write_table(path, lines, header, rows):
    text = [f"# {line}" for line in lines] + [",".join(header)]
    text += [",".join(repr(v) if isinstance(v, float) else str(v) for v in row) for row in rows]
    path.write_text("\n".join(text) + "\n")


def read_rows(path):
    if not path.exists():
        return []
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return list(csv.reader(lines))[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=pathlib.Path)
    parser.add_argument("--write-files", action="store_true")
    parser.add_argument("--heads", type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--taps", type=pathlib.Path)
    parser.add_argument("--out", default="tests/golden", type=pathlib.Path)
    args = parser.parse_args()
    only = [name for name in args.only.split(",") if name]
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    if args.write_files:
        write_files(args.files, only)
        return
    if not args.heads:
        parser.error("--heads is needed for scores")
    wanted = lambda name: not only or name in only
    lines = provenance(args)

    with files_in_place(args.files):
        table = args.out / "metrics_networks.csv"
        rows = read_rows(table)
        order = [score[:2] for score in SCORES] + [("maniqa-pipal", "generated")]

        def replace(new):
            """Puts the new rows in place of the old ones of their metric, and writes them all."""
            keys = {(row[0], row[1]) for row in new}
            rows[:] = [row for row in rows if (row[0], row[1]) not in keys] + new
            rows.sort(key=lambda row: order.index((row[0], row[1])))
            inputs = ("inputs: pictures of tests/golden/make_metrics.py; one-picture metrics judge "
                      "sr; crops: row:column of each crop, or how the 20 crops are chosen")
            write_table(table, lines + [inputs], HEADER, rows)

        for name, weights, sizes, options in SCORES:
            if wanted(name):
                replace(list(scores(name, weights, sizes, options, args.heads)))
        if wanted("fid"):
            result = dict(provenance=lines, **fid())
            (args.out / "metrics_networks_fid.json").write_text(json.dumps(result, indent=1) + "\n")
        if wanted("gradients"):
            write_table(args.out / "metrics_networks_gradients.csv",
                        lines + ["inputs: d score / d sr, texture 64 x 64"],
                        ["metric", "weights", "quantity", "channel", "row", "column", "value"],
                        list(gradients()))
        if wanted("crops"):
            result = dict(provenance=lines[:2], **crops())
            (args.out / "metrics_maniqa_crops.json").write_text(json.dumps(result) + "\n")
        if args.taps:
            for name in dict.fromkeys([name for name, _ in order] + ["fid"]):
                if wanted(name):
                    write_taps(args.taps, name)
        if wanted("maniqa-pipal"):
            new = []
            for row in maniqa_scores():
                new.append(row)
                replace(list(new))


if __name__ == "__main__":
    main()
