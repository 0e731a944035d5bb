// What the one-step diffusion methods share as methods: from an LR picture to a restored one.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "models/method.h"
#include "models/one_step_files.h"
#include "models/resample.h"

namespace ultrasr {

/// What one of them does otherwise than another.
struct DiffusionRecipe {
    /// Pictures whose result has a shorter side than this are enlarged to it before they enter the
    /// networks (OSEDiff: 512); 0: none.
    std::int64_t process_size = 0;
    /// Standard normal numbers for a sampled latent of that shape and the picture's stem, where
    /// they are to be somebody else's; empty: drawn from the seed.
    std::function<at::Tensor(at::IntArrayRef shape, const std::string& stem)> noise = {};
};

/// One resize on the way of a picture into the networks, in 8 bit.
struct Enlargement {
    PixelSize size;
    Kernel kernel;
};

/// All of them, in order; at least one.
std::vector<Enlargement> enlargements(PixelSize lr, const RestoreRequest& request,
                                      const DiffusionRecipe& recipe, bool parity);

/// The picture as it enters the networks, and what the result takes its colours from.
///
/// parity: the steps of OSEDiff's script. A side below floor(process_size / scale): the LR grows by
/// that over the shorter side; then by the scale, both by Pillow's bicubic to whole numbers cut
/// off; then Lanczos down to multiples of 8.
/// Else Pillow's bicubic to the target, or to the target times process_size over its shorter side.
///
/// returns  8-bit levels
/// Source: one_step_models.md 2.4 step 1, 3.10 steps 1 and 2.
Image enlarged_for_diffusion(const Image& lr, const RestoreRequest& request,
                             const DiffusionRecipe& recipe, bool parity);

/// A method on a loaded model; reads options.diffusion, tile, tile_pad, precision, device.
///
/// base  the family that holds text encoder and tokenizer, for prompts that have to be read
/// throws  Error(usage) on options that exclude each other, Error(input) on a prompt that cannot
///         be had
MethodPtr make_diffusion_method(LoadedOneStep loaded, const DiffusionRecipe& recipe,
                                const MethodOptions& options, const std::filesystem::path& base);

/// WEIGHTS/sd2-1-base, or what the options name.
std::filesystem::path diffusion_base(const MethodOptions& options);

/// The method's own file or folder, where the options name one.
std::optional<std::filesystem::path> named_model(const MethodOptions& options,
                                                 const std::string& method);

/// That, or else WEIGHTS/<method>.
std::filesystem::path diffusion_model(const MethodOptions& options, const std::string& method);

/// What every method of this family reads of the command line.
inline const std::vector<std::string> diffusion_options{
    "--base",      "--model",    "--prompt", "--prompt-file", "--latent",
    "--color-fix", "--rounding", "--parity", "--tile",        "--tile-overlap",
    "--precision", "--memory",   "--dump",   "--dump-taps"};

/// throws Error(input) when there is nothing at `path`: what belongs there (a name of
///        known_weights()), where it comes from, which option names another place
void require_weights(const std::filesystem::path& path, const std::string& file,
                     const MethodOptions& options);

}  // namespace ultrasr
