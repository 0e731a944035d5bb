// LoRA merged into the weights of its base, without LibTorch: what ultrasr-weights merge-lora does.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/base/progress.h"
#include "data/weights/lora_file.h"

namespace ultrasr {

/// weight += scale B A, in float32 as PEFT merges.
///
/// weight  out x in, or out x in x kh x kw, row-major, with that shape
/// module  its name, for the message
/// throws  Error(input) when A and B do not fit the shape
/// Source: Hu et al., "LoRA: Low-rank adaptation of large language models", 2022, Eq. 3;
///         one_step_models.md 2.1 for convolutions.
void add_lora_(std::span<float> weight, std::span<const std::int64_t> shape,
               const LoraUpdate& update, std::string_view module);

/// throws Error(input) when A and B do not fit a weight of that shape; trailing ones count as
/// absent
void check_lora_fits(std::span<const std::int64_t> weight, std::span<const std::int64_t> a,
                     std::span<const std::int64_t> b, std::string_view module);

struct MergeOptions {
    std::filesystem::path base;  ///< family folder in diffusers' layout, component folder, or file
    std::filesystem::path lora;  ///< as read_lora takes it
    std::filesystem::path out;   ///< the same kind of thing as `base`
    std::optional<Dtype> dtype;  ///< of floating-point tensors of what is merged; empty: as in base
    double scale = 1;            ///< every update counts so often
};

/// What a merge did to one component.
struct MergedComponent {
    std::string component;  ///< "" for a component folder or a file
    std::size_t tensors = 0, merged = 0, replaced = 0;
    std::uint64_t overflowed = 0;  ///< finite elements that became infinite in their type
};

/// Writes the base with the LoRA merged into it, in float32, rounded to the base's types.
/// Components that the LoRA does not touch, configurations, tokenizer and scheduler are copied. The
/// folder or file appears as a whole.
///
/// throws Error(input) as read_lora does; when a module of the LoRA is not in the base (the first
///        ten) or does not fit; Error(usage) when `out` is `base`, or a folder that holds
///        something; Error(storage)
std::vector<MergedComponent> merge_lora(const MergeOptions& options, Progress& progress);

}  // namespace ultrasr
