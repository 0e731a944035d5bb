// Model families with random weights, of any size, in diffusers' layout: to train from scratch, to
// measure and to test with.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/base/progress.h"
#include "data/weights/safetensors.h"

namespace ultrasr {

struct RandomFamilyOptions {
    Json config =
        Json::object();  ///< objects unet, vae, text_encoder: what differs from SD 2.1-base
    std::filesystem::path out;
    std::uint64_t seed = 0;
    Dtype dtype = Dtype::f32;  ///< f32, f16 or bf16
    bool restart = false;      ///< throw away what an earlier call with other settings wrote
};

/// One network of a family.
struct RandomNetwork {
    std::string component;  ///< "unet", "vae", "text_encoder"
    std::vector<TensorHead> tensors;

    std::int64_t parameters() const;
};

/// The configurations of Stable Diffusion 2.1-base as `config` changes them, by component, with
/// what diffusers and transformers need to load them.
///
/// throws Error(input) for an unknown component or networks that do not fit together
/// Source: one_step_models.md 1.2, 1.3, 1.5.
Json family_config(const Json& config);

/// Names and shapes of the tensors of such a family, without any weights.
///
/// throws Error(input) as the networks' configurations do
std::vector<RandomNetwork> family_networks(const Json& family_config);

/// Values first, first + 1, ... of a tensor, by its name and the seed alone: norms' weights
/// 1 + 0.1 z, biases 0.1 z, others z / sqrt(fan-in), so that activations stay near unit variance. z
/// is the sum of four random 16-bit numbers at mean 0 and variance 1: nearly normal, never beyond
/// 3.5, and made of integers, so that it is the same on every machine.
///
/// name   with its component: "unet.conv_in.weight"
/// shape  of the whole tensor
void random_values(std::uint64_t seed, std::string_view name, std::span<const std::int64_t> shape,
                   std::uint64_t first, std::span<float> values);

/// Writes unet/, vae/, text_encoder/, tokenizer/ (bytes only, without merges), scheduler/ and, last
/// of all, model_index.json. Every file appears as a whole. The same call again goes on where it
/// was interrupted and leaves a finished family alone.
///
/// throws Error(input) as above; Error(usage) when `out` holds a family of other settings (unless
///        `restart`), or anything else; Error(storage)
std::vector<RandomNetwork> write_random_family(const RandomFamilyOptions& options,
                                               Progress& progress);

}  // namespace ultrasr
