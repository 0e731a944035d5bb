// Where a diffusers folder keeps the weights of one network, and under which names.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/weights/checkpoint.h"

namespace ultrasr {

/// The weights of one network, from one file or from several shards.
struct WeightSet {
    std::vector<std::filesystem::path> paths;
    std::vector<Checkpoint> files;              ///< they hold the bytes of the views
    std::map<std::string, TensorView> tensors;  ///< of all files, by the files' names
};

/// Reads one file of weights; the names of a training checkpoint lose their wrapper "state_dict.".
///
/// throws Error(input) like read_checkpoint
WeightSet read_weight_file(const std::filesystem::path& path);

/// Reads the weights in the folder of one component: of <stem>.safetensors, the fp16 variant, a
/// sharded set (an index and its shards), and the same three as .bin the first that is there.
///
/// stem    "diffusion_pytorch_model" (unet, vae) or "model" (text_encoder, whose .bin is called
///         pytorch_model.bin)
/// throws  Error(input) when the folder or the weights are missing (names the files looked for), or
///         when an index and its shards contradict each other
/// Source: one_step_models.md 1.1, "Loader rule"; file names of diffusers 0.42, transformers 5.
WeightSet read_component_weights(const std::filesystem::path& folder, std::string_view stem);

/// The stem of the component of that name: "model" for text_encoder.
std::string_view component_stem(std::string_view component);

/// The name that diffusers gives today to a tensor of an older or wrapped checkpoint: leading
/// module., model., unet., vae. and transformer. stripped, ".base_layer" left out, a VAE's
/// attentions.N.{query,key,value,proj_attn} as to_q, to_k, to_v, to_out.0. Other names stay.
///
/// Source: one_step_models.md 1.4.
std::string standard_name(std::string_view name);

/// The same without a trailing ".weight": the module. Empty for other tensors.
std::string_view module_of(std::string_view standard_name);

}  // namespace ultrasr
