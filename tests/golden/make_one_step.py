"""Makes one_step/. Run: python3 make_one_step.py [unet] [vae] [family] [path]  (nothing named: all)

Made with torch 2.12.1, diffusers 0.42.1, transformers 5.24.0, peft 0.21.2, Pillow 13.0.0 on the
CPU, float32, eval mode. Everything is their real class doing its real forward pass; weights and
inputs follow from their names by generated_weights.py (an input "z" of a case "even" is the tensor
"input.even.z"), so that none are stored.

unet.json, vae.json: {"made_with", "configs": {name: config.json}, "cases": [...]}, a case being
    {"name", "config", "inputs": {name: shape}, "t", "taps": [...], "outputs": {name: values}}
unet.json also says how far diffusers itself, all in that type, lies from its float32 (relative RMS):
"bf16_rms", "fp16_rms".
t is the time step of every picture of the batch. A tap is what the module of that name returned
(the hidden state where it returns several), in the order in which they finished:
    {"name", "shape", "mean", "std" (population), "max_abs", "samples"}
samples are sixteen elements of the row-major tensor of n: places (k * n // 16 + k) % n, k = 0..15.
outputs are whole tensors, row-major, of the shape that "shapes" gives.

family/: a base model in the official layout: unet/ sharded and float16, vae/ float32 with the old
attention names and without scaling_factor as the official file, text_encoder/ as .fp16.safetensors
with the official prefix "text_model." and position_ids, tokenizer/ (bytes and eight merges),
scheduler/ with the official values, model_index.json. The values are those of generated_weights.py
(vae/'s decoder.conv_out.weight times 0.55, so that few pixels saturate; the text encoder's names
without prefix), rounded to what is stored.
pytorch_model.bin: family/text_encoder's weights again, as a pickle, named as transformers 5 does.
osediff.pkl: adapters for that family as OSEDiff's trainer saves them, made by peft: rank 4, no
alpha; A and B by generated_weights.py, B times 0.15.
merged.pkl: {"vae", "unet"}, whole state dicts (the other file of that name) of the networks
merged.json describes, float16.

path.json, path.safetensors: whole restorations with family/ and osediff.pkl, adapters attached by
peft and not merged. The LR picture of width x height is make_models.py's: channel c of pixel (x, y)
is (37 c + 11 y + 7 x + 3 x y) mod 64 * 255 // 63. Modes:
  "osediff"  the steps of the released test script: enlarge where a side is below
             process_size // scale, resize by scale (Pillow's bicubic), Lanczos down to multiples of
             8, latent mean or sampled (noise "input.<case>.noise"), UNet at 999 (in tiles where
             h w > tile^2), DDPM step, decode, clamp, truncation to 8 bit, colour fix against the
             resized LR, truncation
  "sdd"      Pillow's bicubic to round(scale side) or to "target", reflection to the right and
             bottom up to multiples of 64, latent mean, the same network, tiles with symmetric
             weights, crop, colour fix in float against the resized LR, clamp, rounding to nearest
path.json, a case: its parameters, "up" (the resized LR: width, height, "sum" of its bytes and
"weighted", the sum of byte i (i + 1), rows of RGB, modulo 2^32), "sr" (a summary as in taps, of the
decoder's output clamped to [-1,1], cropped, before the colour fix) and "tokens" ids of the prompt.
path.safetensors: "<case>.z", ".pred" (the UNet's output), ".z_hr" (after the step) float32, and
".picture" [H,W,3] 8 bit.
"sizes" of path.json: width, height, scale, process_size, [LR as enlarged], [as upscaled], [as it
enters the network]. int(49 * (128 / 49)) is 127: the script's own rounding is part of it.

Rounding alone (float32 against float64, merged against attached adapters; printed) moves taps by
2e-6, sr by 2e-5 and up to 4 bytes of a picture by one level. Truncating where rounding is due moves
half the bytes by one level: bound the number of bytes that differ, not the levels only.
"""
import copy
import json
import pathlib
import shutil
import sys
import warnings

import diffusers
import numpy as np
import peft
import PIL
import safetensors.torch
import torch
import torch.nn.functional as F
import transformers
from PIL import Image

import generated_weights

FOLDER = pathlib.Path(__file__).resolve().parent / "one_step"
MADE_WITH = f"torch {torch.__version__.split('+')[0]}, diffusers {diffusers.__version__}"
CROSS = "CrossAttnDownBlock2D"

UNETS = {
    "tiny": {"block_out_channels": [32, 64, 64, 64], "attention_head_dim": [2, 4, 4, 4],
             "cross_attention_dim": 24, "norm_num_groups": 8, "layers_per_block": 2,
             "use_linear_projection": True, "sample_size": 16,
             "down_block_types": [CROSS] * 3 + ["DownBlock2D"],
             "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3},
    "conv": {"block_out_channels": [16, 32, 48], "attention_head_dim": 4, "cross_attention_dim": 12,
             "norm_num_groups": 4, "layers_per_block": 1, "use_linear_projection": False,
             "upcast_attention": True, "sample_size": 16,
             "down_block_types": [CROSS] * 2 + ["DownBlock2D"],
             "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 2},
}
VAES = {
    "tiny": {"block_out_channels": [16, 32, 32, 32], "norm_num_groups": 8, "latent_channels": 4,
             "layers_per_block": 2, "sample_size": 64,
             "down_block_types": ["DownEncoderBlock2D"] * 4,
             "up_block_types": ["UpDecoderBlock2D"] * 4},
    "sixteen": {"block_out_channels": [16, 32, 32, 32], "norm_num_groups": 8, "latent_channels": 16,
                "layers_per_block": 2, "sample_size": 64, "use_quant_conv": False,
                "use_post_quant_conv": False, "scaling_factor": 1.5305, "shift_factor": 0.0609,
                "down_block_types": ["DownEncoderBlock2D"] * 4,
                "up_block_types": ["UpDecoderBlock2D"] * 4},
}


# ------------------------------------------------------------------ small helpers

def number(value):
    return float(f"{float(value):.9g}")


def numbers(tensor):
    return [number(v) for v in tensor.detach().flatten().tolist()]


def given(case, name, shape):
    """The input of that name."""
    return torch.from_numpy(generated_weights.generate(f"input.{case}.{name}", shape))


def with_weights(model):
    generated_weights.fill(model.state_dict())
    return model.eval().requires_grad_(False)


def hidden(value):
    """What a module hands on."""
    while not torch.is_tensor(value):
        value = value[0]
    return value


def summary(name, value):
    flat = value.detach().flatten()
    n = flat.numel()
    wide = flat.double()
    return {"name": name, "shape": list(value.shape), "mean": number(wide.mean()),
            "std": number(wide.std(correction=0)), "max_abs": number(flat.abs().max()),
            "samples": numbers(flat[[(k * n // 16 + k) % n for k in range(16)]])}


def listen(model, wanted, taps):
    """Appends a summary to `taps` for every module whose name `wanted` accepts."""
    def hook(name):
        return lambda module, inputs, output: taps.append(summary(name, hidden(output)))
    return [m.register_forward_hook(hook(n)) for n, m in model.named_modules() if wanted(n)]


def line(value):
    return json.dumps(value, separators=(",", ":"))


def write(name, content):
    """JSON with one line a tap."""
    cases = []
    for case in content.pop("cases"):
        taps = ",\n   ".join(line(t) for t in case.pop("taps", []))
        rest = line(case)[1:-1]
        cases.append(f"  {{{rest},\n  \"taps\":[{taps}]}}")
    head = ",\n".join(f" {json.dumps(k)}:{line(v)}" for k, v in content.items())
    text = "{\n" + head + ",\n \"cases\":[\n" + ",\n".join(cases) + "\n ]\n}\n"
    json.loads(text)
    (FOLDER / name).write_text(text)
    print(f"{name}: {len(text)} bytes", file=sys.stderr)


def config_of(model):
    """As config.json holds it, without the keys that only their library needs."""
    return {k: v for k, v in json.loads(model.to_json_string()).items()
            if k not in ("_name_or_path",)}


def worst_rounding(model, run, taps, outputs):
    """How far float32 is from float64, relative to max(1, largest)."""
    wide_taps = []
    hooks = listen(model.double(), lambda name: any(t["name"] == name for t in taps), wide_taps)
    wide = run(torch.float64)
    for h in hooks:
        h.remove()
    model.float()
    worst = 0.0
    for a, b in zip(taps, wide_taps):
        gap = max(abs(x - y) for x, y in zip(a["samples"], b["samples"]))
        worst = max(worst, gap / max(1.0, b["max_abs"]))
    ends = [float((o.double() - w).abs().max() / max(1.0, float(w.abs().max())))
            for o, w in zip(outputs, wide)]
    return f"float32 against float64: taps {worst:.1e}, outputs {max(ends):.1e}"


# ------------------------------------------------------------------ networks

FIRST = "down_blocks.0.attentions.0.transformer_blocks.0"
INSIDE = ["norm1", "norm2", "norm3", "attn1", "attn2", "ff", "attn1.to_q", "attn1.to_k",
          "attn1.to_v"]


BLOCKS = ["resnets", "attentions", "downsamplers", "upsamplers"]


def unet_tap(name):
    parts = name.split(".")
    return (name in ("time_proj", "time_embedding", "conv_in", "mid_block", "conv_norm_out",
                     "conv_out", FIRST) or
            (len(parts) > 1 and parts[-2] in BLOCKS) or name in [f"{FIRST}.{i}" for i in INSIDE])


def make_unet():
    models = {k: with_weights(diffusers.UNet2DConditionModel.from_config(c))
              for k, c in UNETS.items()}
    cases = []
    for name, config, shape, t, everything in [
            ("even", "tiny", (2, 4, 16, 16), 999, True),
            ("wide", "tiny", (1, 4, 18, 22), 999, True),
            ("odd", "tiny", (1, 4, 11, 7), 999, True),
            ("t321", "tiny", (1, 4, 11, 7), 321, True),
            ("conv", "conv", (1, 4, 12, 10), 999, False),
            ("conv_odd", "conv", (2, 4, 9, 13), 20, False)]:
        model = models[config]
        z = given(name, "z", shape)
        context = given(name, "ctx", (shape[0], 77, model.config.cross_attention_dim))
        taps = []
        hooks = listen(model, unet_tap if everything else lambda n: False, taps)
        run = lambda dtype: [model(z.to(dtype), torch.tensor(t), context.to(dtype)).sample]
        out = run(torch.float32)
        for h in hooks:
            h.remove()
        print(name, worst_rounding(model, run, taps, out), file=sys.stderr)
        half = {}
        for kind, dtype in [("bf16_rms", torch.bfloat16), ("fp16_rms", torch.float16)]:
            rounded = copy.deepcopy(model).to(dtype)(z.to(dtype), torch.tensor(t), context.to(dtype))
            error = rounded.sample.double() - out[0].double()
            half[kind] = number((error.square().mean() / out[0].double().square().mean()).sqrt())
        cases.append({"name": name, "config": config, "t": t, **half,
                      "inputs": {"z": list(shape), "ctx": list(context.shape)},
                      "shapes": {"sample": list(out[0].shape)},
                      "outputs": {"sample": numbers(out[0])}, "taps": taps})
    write("unet.json", {"made_with": MADE_WITH, "cases": cases,
                        "configs": {k: config_of(m) for k, m in models.items()}})


def vae_tap(name):
    parts = name.split(".")
    return (name in ("quant_conv", "post_quant_conv") or
            (len(parts) == 2 and parts[1] in ("conv_in", "mid_block", "conv_norm_out", "conv_out"))
            or (len(parts) > 1 and parts[-2] in BLOCKS))


def make_vae():
    models = {k: with_weights(diffusers.AutoencoderKL.from_config(c)) for k, c in VAES.items()}
    cases = []
    for name, config, shape, everything, whole in [
            ("square", "tiny", (1, 3, 64, 64), True, False),
            ("wide", "tiny", (1, 3, 64, 72), True, False),
            ("small", "tiny", (2, 3, 40, 24), True, True),
            ("sixteen", "sixteen", (1, 3, 32, 40), False, True)]:
        model = models[config]
        image = given(name, "image", shape)
        latent = given(name, "latent", (shape[0], model.config.latent_channels,
                                        shape[2] // 8, shape[3] // 8))
        taps = []
        hooks = listen(model, vae_tap if everything else lambda n: False, taps)
        run = lambda dtype: [model.encode(image.to(dtype)).latent_dist.parameters,
                             model.decode(latent.to(dtype)).sample]
        out = run(torch.float32)
        for h in hooks:
            h.remove()
        print(name, worst_rounding(model, run, taps, out), file=sys.stderr)
        case = {"name": name, "config": config,
                "inputs": {"image": list(shape), "latent": list(latent.shape)},
                "shapes": {"moments": list(out[0].shape), "decoded": list(out[1].shape)},
                "outputs": {"moments": numbers(out[0])}, "taps": taps}
        if whole:
            case["outputs"]["decoded"] = numbers(out[1])
        cases.append(case)
    write("vae.json", {"made_with": MADE_WITH, "cases": cases,
                       "configs": {k: config_of(m) for k, m in models.items()}})


# ------------------------------------------------------------------ a family of files

FAMILY = FOLDER / "family"
FAMILY_UNET = {**UNETS["tiny"], "block_out_channels": [8, 12, 16, 16], "layers_per_block": 1,
               "attention_head_dim": [2, 3, 4, 2], "norm_num_groups": 4, "cross_attention_dim": 20}
FAMILY_VAE = {**VAES["tiny"], "block_out_channels": [8, 8, 12, 16], "layers_per_block": 1,
              "norm_num_groups": 4}
TEXT = {"hidden_size": 20, "intermediate_size": 36, "num_hidden_layers": 3,
        "num_attention_heads": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
        "max_position_embeddings": 77, "projection_dim": 512}
OLD_NAMES = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")]
SCHEDULER = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.8.0", "beta_end": 0.012,
             "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False,
             "num_train_timesteps": 1000, "prediction_type": "epsilon", "set_alpha_to_one": False,
             "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None}
MERGES = ["s t", "o n", "on e</w>", "st one</w>", "a s", "as s</w>", "g r", "gr ass</w>"]
ADAPTED = ["to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_in",
           "conv_shortcut", "conv_out"]
RANK = 4


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tokenizer(folder):
    """The four official files; ids in the official order: bytes, bytes that end a word, merges."""
    folder.mkdir()
    symbols = [chr(b) for b in [*range(33, 127), *range(161, 173), *range(174, 256)]]
    symbols += [chr(256 + i) for i in range(256 - len(symbols))]
    names = symbols + [s + "</w>" for s in symbols] + [m.replace(" ", "") for m in MERGES]
    names += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({s: i for i, s in enumerate(names)},
                                                  ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "!",
               "unk_token": "<|endoftext|>"}
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json",
               {**special, "add_prefix_space": False, "do_lower_case": True, "errors": "replace",
                "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"})
    return len(names)


def write_family():
    shutil.rmtree(FAMILY, ignore_errors=True)
    FAMILY.mkdir(parents=True)
    vocabulary = write_tokenizer(FAMILY / "tokenizer")

    unet = with_weights(diffusers.UNet2DConditionModel.from_config(FAMILY_UNET)).half()
    unet.save_pretrained(FAMILY / "unet", max_shard_size="150KB")

    vae = with_weights(diffusers.AutoencoderKL.from_config(FAMILY_VAE))
    vae.decoder.conv_out.weight.data *= 0.55
    vae.save_pretrained(FAMILY / "vae")
    config = json.loads((FAMILY / "vae/config.json").read_text())
    official = ["_class_name", "_diffusers_version", "act_fn", "block_out_channels",
                "down_block_types", "in_channels", "latent_channels", "layers_per_block",
                "norm_num_groups", "out_channels", "sample_size", "up_block_types"]
    write_json(FAMILY / "vae/config.json", {k: config[k] for k in official})
    weights = {}
    for name, tensor in vae.state_dict().items():
        for new, old in OLD_NAMES if ".attentions." in name else []:
            name = name.replace(new, old)
        weights[name] = tensor
    safetensors.torch.save_file(weights, FAMILY / "vae/diffusion_pytorch_model.safetensors",
                                {"format": "pt"})

    text = transformers.CLIPTextModel(transformers.CLIPTextConfig(
        vocab_size=vocabulary, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1,
        pad_token_id=0, **TEXT))
    with_weights(text).half().save_pretrained(FAMILY / "text_encoder", variant="fp16")
    torch.save(dict(text.state_dict()), FOLDER / "pytorch_model.bin")
    weights = {f"text_model.{k}": v for k, v in text.state_dict().items()}
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    safetensors.torch.save_file(weights, FAMILY / "text_encoder/model.fp16.safetensors",
                                {"format": "pt"})

    (FAMILY / "scheduler").mkdir()
    write_json(FAMILY / "scheduler/scheduler_config.json", SCHEDULER)
    pipeline = diffusers.StableDiffusionPipeline(
        vae, text, transformers.CLIPTokenizer.from_pretrained(FAMILY / "tokenizer"), unet,
        diffusers.PNDMScheduler.from_config(SCHEDULER), None, None, requires_safety_checker=False)
    pipeline.save_config(FAMILY)


def load_family():
    """unet, vae, text encoder, tokenizer, scheduler as OSEDiff's script loads them, float32."""
    load = dict(torch_dtype=torch.float32)
    unet = diffusers.UNet2DConditionModel.from_pretrained(FAMILY, subfolder="unet", **load)
    vae = diffusers.AutoencoderKL.from_pretrained(FAMILY, subfolder="vae", **load)
    text = transformers.CLIPTextModel.from_pretrained(FAMILY, subfolder="text_encoder",
                                                      variant="fp16", dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(FAMILY, subfolder="tokenizer")
    scheduler = diffusers.DDPMScheduler.from_pretrained(FAMILY, subfolder="scheduler")
    for m in (unet, vae, text):
        m.eval().requires_grad_(False)
    return unet, vae, text, tokenizer, scheduler


# ------------------------------------------------------------------ adapters

def adapter_modules(unet, vae):
    """{list's name in osediff.pkl: modules}; the VAE's list repeats names as the official one."""
    lists = {f"unet_lora_{k}_modules": [] for k in ("encoder", "decoder", "others")}
    words = ADAPTED + ["proj_out", "proj_in", "ff.net.2", "ff.net.0.proj"]
    for name, _ in unet.named_parameters():
        if "bias" in name or "norm" in name or not any(w in name for w in words):
            continue
        where = ("encoder" if "down_blocks" in name or "conv_in" in name else
                 "decoder" if "up_blocks" in name or "conv_out" in name else "others")
        lists[f"unet_lora_{where}_modules"].append(name.replace(".weight", ""))
    lists["vae_lora_encoder_modules"] = [
        name.replace(".weight", "") for name, _ in vae.named_parameters()
        if "bias" not in name and "norm" not in name for w in ADAPTED
        if ("encoder" in name and w in name) or ("quant_conv" in name and "post" not in name)]
    return lists


def attach(unet, vae, lists):
    """Adapters as OSEDiff attaches them: no alpha, so that peft scales by 8 / 4."""
    for where in ("encoder", "decoder", "others"):
        unet.add_adapter(peft.LoraConfig(r=RANK, init_lora_weights="gaussian",
                                         target_modules=lists[f"unet_lora_{where}_modules"]),
                         adapter_name=f"default_{where}")
    unet.set_adapter(["default_encoder", "default_decoder", "default_others"])
    vae.add_adapter(peft.LoraConfig(r=RANK, init_lora_weights="gaussian",
                                    target_modules=lists["vae_lora_encoder_modules"]),
                    adapter_name="default_encoder")
    vae.set_adapter(["default_encoder"])


def trained(model):
    """What training would have changed, by formula; B small, so that the base still matters."""
    for name, p in model.named_parameters():
        if "lora" in name or "conv_in.base_layer" in name:
            if "lora" not in name and "encoder" in name:
                continue  # only the UNet's conv_in is trained itself
            gain = 0.15 if ".lora_B." in name else 1.0
            p.data.copy_(torch.from_numpy(generated_weights.generate(name, p.shape) *
                                          np.float32(gain)))


def merged_weights(model):
    """State dict under the plain names, each adapter merged by peft itself."""
    model = copy.deepcopy(model)
    for m in model.modules():
        if isinstance(m, peft.tuners.tuners_utils.BaseTunerLayer):
            m.merge(safe_merge=True)
    return {k.replace(".base_layer", ""): v for k, v in model.state_dict().items()
            if "lora_" not in k}


def load_osediff(unet, vae):
    """The released file, attached and not merged."""
    saved = torch.load(FOLDER / "osediff.pkl", weights_only=True)
    attach(unet, vae, saved)
    for model, key in ((unet, "state_dict_unet"), (vae, "state_dict_vae")):
        own = model.state_dict()
        for name, value in saved[key].items():
            own[name].copy_(value)
        assert all(n in saved[key] for n in own if "lora" in n)
        model.eval().requires_grad_(False)


def write_osediff():
    unet, vae, *_ = load_family()
    lists = adapter_modules(unet, vae)
    attach(unet, vae, lists)
    trained(unet)
    trained(vae)
    torch.save({**lists, "rank_unet": RANK, "rank_vae": RANK,
                "state_dict_unet": {k: v for k, v in unet.state_dict().items()
                                    if "lora" in k or "conv_in" in k},
                "state_dict_vae": {k: v for k, v in vae.state_dict().items() if "lora" in k}},
               FOLDER / "osediff.pkl")


MERGED_UNET = {"block_out_channels": [8, 12], "attention_head_dim": [2, 3],
               "cross_attention_dim": 20, "norm_num_groups": 4, "layers_per_block": 1,
               "use_linear_projection": True, "sample_size": 16,
               "down_block_types": [CROSS, "DownBlock2D"],
               "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
MERGED_VAE = {"block_out_channels": [4, 8], "norm_num_groups": 4, "latent_channels": 4,
              "layers_per_block": 1, "sample_size": 64,
              "down_block_types": ["DownEncoderBlock2D"] * 2,
              "up_block_types": ["UpDecoderBlock2D"] * 2}


def write_merged():
    unet = with_weights(diffusers.UNet2DConditionModel.from_config(MERGED_UNET)).half()
    vae = with_weights(diffusers.AutoencoderKL.from_config(MERGED_VAE)).half()
    torch.save({"vae": dict(vae.state_dict()), "unet": dict(unet.state_dict())},
               FOLDER / "merged.pkl")
    unet.float(), vae.float()
    z, context = given("merged", "z", (1, 4, 8, 6)), given("merged", "ctx", (1, 77, 20))
    image = given("merged", "image", (1, 3, 16, 12))
    out = {"sample": unet(z, torch.tensor(999), context).sample,
           "moments": vae.encode(image).latent_dist.parameters, "decoded": vae.decode(z).sample}
    write("merged.json", {
        "made_with": MADE_WITH, "configs": {"unet": config_of(unet), "vae": config_of(vae)},
        "cases": [{"name": "merged", "t": 999,
                   "inputs": {"z": list(z.shape), "ctx": list(context.shape),
                              "image": list(image.shape)},
                   "shapes": {k: list(v.shape) for k, v in out.items()},
                   "outputs": {k: numbers(v) for k, v in out.items()}}]})


def make_family():
    write_family()
    write_osediff()
    write_merged()


# ------------------------------------------------------------------ from LR picture to SR picture

PROMPT = "Stone wall, GRASS, ,"


def lr_picture(width, height):
    c, y, x = np.meshgrid(range(3), range(height), range(width), indexing="ij")
    levels = (37 * c + 11 * y + 7 * x + 3 * x * y) % 64 * 255 // 63
    return Image.fromarray(levels.astype(np.uint8).transpose(1, 2, 0).copy())


def official_sizes(width, height, scale, process_size):
    """LR as enlarged, as upscaled, as it enters the network."""
    sizes = [(width, height)]
    least = process_size // scale
    if min(width, height) < least:
        ratio = least / min(width, height)
        sizes[0] = int(ratio * width), int(ratio * height)
    sizes.append((sizes[0][0] * scale, sizes[0][1] * scale))
    sizes.append(tuple(side - side % 8 for side in sizes[1]))
    return sizes


def upscaled(case):
    lr = lr_picture(*case["lr"])
    if case["mode"] == "sdd":
        target = case.get("target") or [round(case["scale"] * side) for side in case["lr"]]
        return lr.resize(target, Image.BICUBIC)
    enlarged, up, final = official_sizes(*case["lr"], case["scale"], case["process_size"])
    if enlarged != lr.size:
        lr = lr.resize(enlarged, Image.BICUBIC)
    return lr.resize(up, Image.BICUBIC).resize(final, Image.LANCZOS)


def tile_weights(n, symmetric):
    """[n, n] float64: Gaussians of variance 0.01 n n; the official y is off by a half."""
    at = torch.arange(n, dtype=torch.float64)
    bell = lambda middle: torch.exp(-((at - middle) / n) ** 2 / 0.02) / np.sqrt(0.02 * np.pi)
    return torch.outer(bell((n - 1) / 2 if symmetric else n / 2), bell((n - 1) / 2))


def predict(unet, z, context, case):
    """The UNet's output, from blended tiles where the latent is large."""
    t = torch.tensor([999])
    h, w = z.shape[2:]
    if h * w <= case["tile"] ** 2:
        return unet(z, t, context).sample
    n = min(case["tile"], h, w)
    stride = n - case["overlap"]
    starts = lambda side: sorted({min(i, side - n) for i in range(0, side - n + stride, stride)})
    weights = tile_weights(n, case["mode"] == "sdd")
    total, sum_of_weights = torch.zeros_like(z), torch.zeros_like(z)
    for x in starts(w):
        for y in starts(h):
            pred = unet(z[:, :, y:y + n, x:x + n], t, context).sample
            total[:, :, y:y + n, x:x + n] += pred * weights
            sum_of_weights[:, :, y:y + n, x:x + n] += weights
    return total / sum_of_weights


def to_float(picture, dtype):
    """[3,H,W], [0,1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).to(dtype) / 255


def to_bytes(image, truncate):
    levels = image * 255
    return (levels if truncate else levels.round()).to(torch.uint8).permute(1, 2, 0).contiguous()


def adain(image, reference):
    def moments(p):
        flat = p.flatten(1)
        return flat.mean(1)[:, None, None], (flat.var(1) + 1e-5).sqrt()[:, None, None]
    (mean, deviation), (wanted_mean, wanted_deviation) = moments(image), moments(reference)
    return ((image - mean) / deviation * wanted_deviation + wanted_mean).clamp(0, 1)


def wavelet(image, reference):
    kernel = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=image.dtype) / 16
    kernel = kernel.expand(3, 1, 3, 3)
    def split(p):
        high = torch.zeros_like(p)
        for level in range(5):
            d = 2 ** level
            padded = F.pad(p[None], (d, d, d, d), mode="replicate")
            low = F.conv2d(padded, kernel, groups=3, dilation=d)[0]
            high, p = high + (p - low), low
        return high, p
    return (split(image)[0] + split(reference)[1]).clamp(0, 1)


FIXES = {"adain": adain, "wavelet": wavelet, "none": lambda image, reference: image.clamp(0, 1)}


@torch.no_grad()
def restore(case, networks, dtype=torch.float32):
    """{up, z, pred, z_hr, sr, picture}."""
    unet, vae, text, tokenizer, scheduler = networks
    ids = tokenizer(case["prompt"], max_length=tokenizer.model_max_length, padding="max_length",
                    truncation=True, return_tensors="pt").input_ids
    context = text(ids)[0]

    up = upscaled(case)
    x = to_float(up, dtype)[None] * 2 - 1
    height, width = x.shape[2:]
    if case["mode"] == "sdd":
        x = F.pad(x, (0, -width % 64, 0, -height % 64), mode="reflect")

    posterior = vae.encode(x).latent_dist
    z = posterior.mean
    if case["latent"] == "sample":
        z = z + posterior.std * given(case["name"], "noise", z.shape).to(dtype)
    z = z * vae.config.scaling_factor

    pred = predict(unet, z, context, case)
    scheduler.set_timesteps(timesteps=[999])
    z_hr = scheduler.step(pred, 999, z, generator=torch.Generator().manual_seed(1)).prev_sample
    alpha = scheduler.alphas_cumprod[999].to(dtype)
    formula = (z - (1 - alpha).sqrt() * pred) / alpha.sqrt()
    assert (z_hr - formula).abs().max() < 2e-6 * z_hr.abs().max(), (z_hr - formula).abs().max()

    sr = vae.decode(z_hr / vae.config.scaling_factor).sample.clamp(-1, 1)[0, :, :height, :width]
    official = case["mode"] == "osediff"
    image = sr * 0.5 + 0.5
    if official:  # the script's colour fix is made for pictures of 8 bit
        picture = to_bytes(image, True)
        image = to_float(picture, dtype)
    if not official or case["color_fix"] != "none":
        picture = to_bytes(FIXES[case["color_fix"]](image, to_float(up, dtype)), official)
    return {"up": up, "ids": ids, "z": z, "pred": pred, "z_hr": z_hr, "sr": sr, "picture": picture}


def path_cases():
    def case(name, mode, lr, scale, latent, color_fix, tile=96, overlap=32, **more):
        return {"name": name, "mode": mode, "lr": list(lr), "scale": scale, "latent": latent,
                "color_fix": color_fix, "tile": tile, "overlap": overlap, "prompt": PROMPT, **more}
    small = dict(process_size=32)
    return [
        case("mean", "osediff", (24, 20), 2, "mean", "adain", **small),
        case("sample", "osediff", (24, 20), 2, "sample", "wavelet", **small),
        case("x4", "osediff", (24, 20), 4, "sample", "adain", **small),
        case("enlarged", "osediff", (13, 9), 2, "mean", "wavelet", **small),
        case("odd", "osediff", (13, 9), 4, "mean", "none", **small),
        case("enlarged_x4", "osediff", (13, 9), 4, "sample", "adain", process_size=64),
        case("dot", "osediff", (1, 1), 2, "mean", "adain", **small),
        case("tiled", "osediff", (24, 20), 4, "mean", "adain", 8, 4, **small),
        case("tiled_wide", "osediff", (24, 9), 4, "sample", "none", 8, 2, **small),
        case("sdd", "sdd", (24, 20), 2.5, "mean", "adain"),
        case("sdd_x4", "sdd", (13, 9), 4, "mean", "wavelet"),
        case("sdd_target", "sdd", (13, 9), 4, "mean", "none", target=[51, 37]),
        case("sdd_tiled", "sdd", (24, 20), 4, "mean", "adain", 8, 4),
    ]


def make_path():
    networks = load_family()
    load_osediff(*networks[:2])
    wide = [copy.deepcopy(m).double() for m in networks[:3]] + list(networks[3:])
    plain = [load_family()[i] for i in range(2)]
    for merged, adapted in zip(plain, networks):
        merged.load_state_dict(merged_weights(adapted))
    folded = plain + list(networks[2:])

    tensors, cases = {}, []
    for case in path_cases():
        name, made = case["name"], restore(case, networks)
        exact, merged = restore(case, wide, torch.float64), restore(case, folded)
        for what, other in (("float64", exact), ("merged", merged)):
            gap = {k: float((made[k].double() - other[k].double()).abs().max() /
                            made[k].abs().max().clamp(min=1)) for k in ("z", "pred", "z_hr", "sr")}
            levels = (made["picture"].int() - other["picture"].int()).abs()
            print(name, what, *(f"{k} {v:.1e}" for k, v in gap.items()),
                  f"bytes {int((levels > 0).sum())} of {levels.numel()}, by {int(levels.max())}",
                  file=sys.stderr)
        for k in ("z", "pred", "z_hr", "picture"):
            tensors[f"{name}.{k}"] = made[k].contiguous()
        up = np.asarray(made["up"]).astype(np.uint64).ravel()
        weighted = int((up * np.arange(1, up.size + 1, dtype=np.uint64)).sum() % (1 << 32))
        cases.append({**case, "up": {"width": made["up"].width, "height": made["up"].height,
                                     "sum": int(up.sum()), "weighted": weighted},
                      "tokens": made["ids"][0].tolist(), "sr": summary("sr", made["sr"])})
    safetensors.torch.save_file(tensors, FOLDER / "path.safetensors")
    sizes = [[*s, *official_sizes(*s)] for s in [
        (24, 20, 2, 32), (24, 20, 4, 32), (13, 9, 2, 32), (13, 9, 4, 32), (13, 9, 4, 64),
        (1, 1, 4, 512), (128, 128, 4, 512), (127, 200, 4, 512), (49, 60, 4, 512), (107, 98, 4, 512),
        (103, 107, 2, 512), (300, 187, 2, 512), (63, 64, 8, 512), (7, 500, 8, 512),
        (36, 50, 14, 512)]]
    write("path.json", {"made_with": f"{MADE_WITH}, transformers {transformers.__version__}, "
                                     f"peft {peft.__version__}, Pillow {PIL.__version__}",
                        "sizes": sizes, "cases": cases})


PARTS = {"unet": make_unet, "vae": make_vae, "family": make_family, "path": make_path}

if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
