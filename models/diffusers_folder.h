// Model families as folders in diffusers' layout: a network's configuration and weights.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/tensor/named_tensors.h"

namespace ultrasr {

struct ModelFiles {
    Json config;
    NamedTensors tensors;               ///< by the files' names; views of them, in their types
    std::vector<WeightRecord> records;  ///< of each file, never "verified": no hashes are known
    std::string what;  ///< for messages: "UNet2DConditionModel (unet/diffusion_pytorch_model.bin)"
};

/// Reads config.json and the weights of one network of a family.
///
/// folder  such as BASE/unet
/// stem    "diffusion_pytorch_model" (unet, vae) or "model" (text_encoder)
/// throws  Error(input) when the folder, config.json or the weights are missing or broken; names
///         what was looked for (see read_component_weights)
ModelFiles read_model_folder(const std::filesystem::path& folder, std::string_view stem);

/// The tensors under the names and shapes that a network asks for, where older or wrapped files
/// have others (standard_name; [C, C, 1, 1] for a C x C matrix). Tensors that it does not ask for
/// stay. All of them stay as they are when some that it asks for would still be missing: then a
/// message should show the file's names.
///
/// Source: one_step_models.md 1.4.
NamedTensors with_standard_names(NamedTensors tensors, const Shapes& expected);

/// The parts of a family; those that do not exist fail when they are read.
struct FamilyFolder {
    std::filesystem::path unet, vae, text_encoder, tokenizer, scheduler;
    Json index;  ///< model_index.json, or an empty object
};

/// throws Error(input) when the folder is missing, is one network of a family instead, or holds no
///        unet; broken JSON
FamilyFolder open_family(const std::filesystem::path& base);

}  // namespace ultrasr
