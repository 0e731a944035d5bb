// LoRA: low-rank updates of a network's modules, and the files that PEFT, diffusers and OSEDiff
// keep them in.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/weights/checkpoint.h"

namespace ultrasr {

/// One update: weight += scale * B A.
struct LoraUpdate {
    std::string adapter;  ///< empty where the file has no names for them
    TensorView a;         ///< r x in, of a convolution r x in x kh x kw; floating point
    TensorView b;         ///< out x r, or out x r x 1 x 1
    double scale = 1;     ///< alpha / r, or alpha / sqrt(r) (rsLoRA)
};

/// What a file has for one network.
struct LoraNet {
    std::map<std::string, std::vector<LoraUpdate>> modules;
    std::map<std::string, TensorView> replaced;  ///< tensors that take the place of the base's
};

struct LoraFile {
    std::filesystem::path path;
    /// By component: "unet", "vae", "text_encoder"; "" where the file does not say.
    std::map<std::string, LoraNet> nets;
    Checkpoint file;  ///< holds the bytes of the views
};

/// Reads LoRA of these forms, told apart by their names:
///
/// - PEFT: <module>.lora_A.weight or <module>.lora_A.<adapter>.weight, lora_B likewise, with a
///   prefix base_model.model., transformer. or none. adapter_config.json beside the file gives
///   lora_alpha (and r, rank_pattern, alpha_pattern, use_rslora).
/// - diffusers: the same with unet., vae. or text_encoder. in front; also lora.down and lora.up.
/// Its
///   metadata (lora_adapter_metadata) gives what adapter_config.json would; <module>.alpha too.
/// - OSEDiff and PiSA-SR: a dictionary with state_dict_unet and state_dict_vae; alpha is 8, PEFT's
///   default, for their code names none.
///
/// Where nothing gives alpha it equals r, so that the scale is 1: diffusers' convention. Tensors
/// that belong to no update replace the base's, such as conv_in.base_layer.weight.
///
/// path    the file, or a folder with adapter_model.*, pytorch_lora_weights.* or osediff.pkl
/// throws  Error(input): A without B, ranks that differ from each other or from the settings, forms
///         that are not supported (DoRA, LoRA with biases, of embeddings, kohya's), no LoRA at all
/// Source: one_step_models.md 2.1, 2.2, 4.1, 4.3; peft 0.21 and diffusers 0.42 run for the tests.
LoraFile read_lora(const std::filesystem::path& path);

/// The same of a checkpoint in memory, without looking for files beside it.
LoraFile read_lora(const Checkpoint& file, const std::filesystem::path& name);

}  // namespace ultrasr
