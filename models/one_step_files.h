// One-step models from the files that their authors, or our training, leave behind.
#pragma once
#include <filesystem>
#include <optional>
#include <vector>

#include "data/compute.h"
#include "data/tensor/device.h"
#include "models/one_step.h"

namespace ultrasr {

struct LoadedOneStep {
    OneStepModel model;
    std::vector<WeightRecord> records;
    /// prompt.safetensors, where the files hold one
    std::optional<std::filesystem::path> prompt;
    bool prompt_verified = false;  ///< that file is the one on record
};

/// A family as it is, without adapters.
///
/// fused  false: layers as training has them, to measure what fusing and packing gain
LoadedOneStep load_base_model(const std::filesystem::path& base, const Placement& placement,
                              bool fused = true);

/// OSEDiff: a Stable Diffusion 2.1 base with the adapters of osediff.pkl merged in while it loads,
/// or the whole networks of the file's other form. T = 999.
///
/// base    family folder in diffusers' layout; the configurations come from there in both forms
/// file    osediff.pkl, or a folder that holds it (and prompt.safetensors, if there is one)
/// throws  Error(input): what is missing, broken, or does not fit together
/// Source: Wu et al. 2024; one_step_models.md 2.1, 2.2.
LoadedOneStep load_osediff(const std::filesystem::path& base, const std::filesystem::path& file,
                           const Placement& placement);

/// SDD: a student folder as sdd-train writes it, adapters merged: config.json with the objects
/// unet, vae, scheduler and the number timestep; unet.safetensors, vae.safetensors,
/// prompt.safetensors.
///
/// throws  Error(input)
/// Source: one_step_models.md 3.7, "Export".
LoadedOneStep load_sdd_student(const std::filesystem::path& folder, const Placement& placement);

}  // namespace ultrasr
