// OSEDiff's weights: what its file makes of a Stable Diffusion 2.1 base.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/tensor/named_tensors.h"
#include "models/lora.h"

namespace ultrasr {

/// Both forms are used in one way: `replaced` takes the place of the base's tensors, then
/// `adapters` are merged.
struct OsediffFile {
    bool merged = false;  ///< full state dicts in `replaced`, no adapters; the base is not needed
    NetAdapters unet, vae;
    WeightRecord record;
    std::string what;  ///< for messages: "OSEDiff (osediff.pkl)"
};

/// Reads osediff.pkl, told apart by its keys: the released form (LoRA of rank 4 on UNet and VAE
/// encoder, scale 8 / 4, and a trained conv_in), or a dictionary of whole state dicts `unet` and
/// `vae` as AdcSR's authors publish it.
///
/// path    the file, or a folder that holds it under that name
/// throws  Error(input) for a broken or incomplete file, and for a file or folder of another
/// method:
///         says which one it looks like and what to name instead
/// Source: one_step_models.md 2.2.
OsediffFile read_osediff(const std::filesystem::path& path);

/// The four groups of modules that OSEDiff adapts, each an adapter of its own.
enum class OsediffPart { unet_encoder, unet_decoder, unet_others, vae_encoder };

/// The modules of a part among the tensors of a UNet or a VAE, sorted.
///
/// Source: one_step_models.md 2.1.
std::vector<std::string> osediff_modules(OsediffPart part, const Shapes& tensors);

}  // namespace ultrasr
