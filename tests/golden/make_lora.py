"""Goldens of LoRA: what peft makes of tiny diffusers models. Writes tests/golden/lora/.

    python tests/golden/make_lora.py        (from the checkout's root)

Needs torch, diffusers, peft and safetensors; their versions are noted in expected.json. All weights
come by formula (generated_weights.py), so base weights are not stored:

  osediff.pkl   as OSEDiff's released code saves it: three adapters on the UNet and one on the VAE's
                encoder, r 4, no alpha given; conv_in trained besides; plain dicts, lists, ints; one
                tensor tagged with a GPU
  peft/         PeftModel.save_pretrained: r 3, alpha 5, rank_pattern, alpha_pattern, rsLoRA
  diffusers/    StableDiffusionPipeline.save_lora_weights, with its metadata
  expected.json names and shapes of the bases, and samples of tensors that merge_and_unload gives:
                of n values those at k * (n - 1) // 31, k = 0 ... 31
"""
import json
import pathlib
import shutil
import sys

import diffusers
import peft
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import generated_weights

HERE = pathlib.Path(__file__).parent / "lora"
RANK = 4


def make_unet():
    unet = UNet2DConditionModel(
        block_out_channels=(8, 12), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1, norm_num_groups=4,
        attention_head_dim=[2, 2], cross_attention_dim=10, use_linear_projection=True)
    generated_weights.fill(unet.state_dict())
    return unet.eval()


def make_vae():
    vae = AutoencoderKL(
        block_out_channels=(8, 12), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, norm_num_groups=4)
    generated_weights.fill(vae.state_dict())
    return vae.eval()


# ---- the module lists, by the rules of one_step_models.md 2.1 ----

def unet_lists(unet):
    words = ["to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_in",
             "conv_shortcut", "conv_out", "proj_out", "proj_in", "ff.net.2", "ff.net.0.proj"]
    encoder, decoder, others = [], [], []
    for name, _ in unet.named_parameters():
        if "bias" in name or "norm" in name or not any(w in name for w in words):
            continue
        module = name.replace(".weight", "")
        if "down_blocks" in name or "conv_in" in name:
            encoder.append(module)
        elif "up_blocks" in name or "conv_out" in name:
            decoder.append(module)
        else:
            others.append(module)
    return {"default_encoder": encoder, "default_decoder": decoder, "default_others": others}


def vae_list(vae):
    """With the repetitions that the released file has."""
    words = ["conv1", "conv2", "conv_in", "conv_shortcut", "conv", "conv_out", "to_k", "to_q",
             "to_v", "to_out.0"]
    modules = []
    for name, _ in vae.named_parameters():
        if "bias" in name or "norm" in name:
            continue
        for word in words:
            if word in name and "encoder" in name:
                modules.append(name.replace(".weight", ""))
            elif "quant_conv" in name and "post_quant_conv" not in name:
                modules.append(name.replace(".weight", ""))
    return modules


def attach(model, lists):
    """A PeftModel with an adapter a list, all active, LoRA by formula of its key in the file."""
    wrapped = None
    for adapter, modules in lists.items():
        config = LoraConfig(r=RANK, init_lora_weights="gaussian", target_modules=sorted(set(modules)))
        if wrapped is None:
            wrapped = get_peft_model(model, config, adapter_name=adapter)
        else:
            wrapped.add_adapter(adapter, config)
    wrapped.base_model.set_adapter(list(lists))
    for key, value in wrapped.base_model.model.state_dict().items():
        if "lora" in key or "conv_in.base_layer" in key and "unet" in type(model).__name__.lower():
            value.copy_(torch.from_numpy(generated_weights.generate(key, value.shape)))
    return wrapped


def sample(tensor):
    flat = tensor.detach().float().reshape(-1)
    n = len(flat)
    return {"shape": list(tensor.shape),
            "values": [float(f"{float(flat[k * (n - 1) // 31]):.9g}") for k in range(32)]}


def samples(model, names):
    state = model.state_dict()
    return {name: sample(state[name]) for name in names}


def shapes(model):
    return {name: list(t.shape) for name, t in model.state_dict().items()}


def save_osediff(path, unet_lists_, vae_list_, unet, vae):
    content = {
        "vae_lora_encoder_modules": vae_list_,
        "unet_lora_encoder_modules": unet_lists_["default_encoder"],
        "unet_lora_decoder_modules": unet_lists_["default_decoder"],
        "unet_lora_others_modules": unet_lists_["default_others"],
        "rank_unet": RANK,
        "rank_vae": RANK,
        "state_dict_unet": {k: v for k, v in unet.state_dict().items()
                            if "lora" in k or "conv_in" in k},
        "state_dict_vae": {k: v for k, v in vae.state_dict().items() if "lora" in k},
    }
    # The first storage that is written gets the tag of a GPU
    plain, seen = torch.serialization.location_tag, []

    def tag(storage):
        seen.append(storage)
        return "cuda:0" if len(seen) == 1 else plain(storage)
    torch.serialization.location_tag = tag
    torch.save(content, path)
    torch.serialization.location_tag = plain


def osediff(out):
    unet, vae = make_unet(), make_vae()
    base = {"unet": shapes(unet), "vae": shapes(vae)}
    lists, encoder = unet_lists(unet), vae_list(vae)
    unet, vae = attach(unet, lists), attach(vae, {"default_encoder": encoder})
    save_osediff(out / "osediff.pkl", lists, encoder, unet.base_model.model, vae.base_model.model)
    unet, vae = unet.merge_and_unload(), vae.merge_and_unload()
    names = ["conv_in.weight", "conv_in.bias", "conv_out.weight", "conv_norm_out.weight",
             "down_blocks.0.resnets.0.conv1.weight", "down_blocks.0.downsamplers.0.conv.weight",
             "down_blocks.1.resnets.0.conv_shortcut.weight",
             "down_blocks.0.attentions.0.proj_in.weight",
             "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight",
             "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
             "up_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj.weight",
             "up_blocks.1.attentions.0.transformer_blocks.0.ff.net.2.weight",
             "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.weight",
             "mid_block.resnets.0.time_emb_proj.weight"]
    vae_names = ["encoder.conv_in.weight", "encoder.down_blocks.0.downsamplers.0.conv.weight",
                 "encoder.mid_block.attentions.0.to_v.weight", "encoder.conv_out.weight",
                 "quant_conv.weight", "post_quant_conv.weight", "decoder.conv_in.weight"]
    return {"base": base, "modules": {**lists, "vae": sorted(set(encoder))},
            "merged": {"unet": samples(unet, names), "vae": samples(vae, vae_names)}}


def peft_folder(out):
    unet = make_unet()
    config = LoraConfig(
        r=3, lora_alpha=5, use_rslora=True,
        target_modules=r"(.*down_blocks.*attn1\.to_(q|k|out\.0)|.*down_blocks.*downsamplers.0.conv|"
                       r"mid_block\.resnets\.1\.conv2)",
        rank_pattern={"attn1.to_k": 2}, alpha_pattern={r"^mid_block\.resnets\.\d\.conv2": 7})
    wrapped = get_peft_model(unet, config)
    for key, value in wrapped.base_model.model.state_dict().items():
        if "lora" in key:
            value.copy_(torch.from_numpy(generated_weights.generate(key, value.shape)))
    wrapped.save_pretrained(out / "peft")
    (out / "peft" / "README.md").unlink(missing_ok=True)
    names = [f"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_{x}.weight"
             for x in ("q", "k", "out.0")]
    names += ["down_blocks.0.downsamplers.0.conv.weight", "mid_block.resnets.1.conv2.weight",
              "mid_block.resnets.0.conv2.weight"]
    return samples(wrapped.merge_and_unload(), names)


def diffusers_folder(out):
    unet = make_unet()
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["attn2.to_v", "conv_shortcut"])
    unet.add_adapter(config)
    for key, value in unet.state_dict().items():
        if "lora" in key:
            value.copy_(torch.from_numpy(generated_weights.generate(key, value.shape)))
    StableDiffusionPipeline.save_lora_weights(
        out / "diffusers", unet_lora_layers=get_peft_model_state_dict(unet),
        unet_lora_adapter_metadata=config.to_dict())
    unet.fuse_lora()
    unet.unload_lora()
    return samples(unet, ["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v.weight",
                          "up_blocks.1.resnets.1.conv_shortcut.weight", "conv_in.weight"])


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    with torch.no_grad():
        content = {
            "provenance": {"implementation": f"peft {peft.__version__}, diffusers "
                                             f"{diffusers.__version__}, torch {torch.__version__}",
                           "command": "python tests/golden/make_lora.py",
                           "weights": "tests/golden/generated_weights.py"},
            **osediff(HERE), "peft": peft_folder(HERE), "diffusers": diffusers_folder(HERE)}
    text = json.dumps(content, separators=(",", ":"))
    (HERE / "expected.json").write_text(text.replace('],"', '],\n"').replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
