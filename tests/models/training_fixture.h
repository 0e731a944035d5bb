// What the tests of training share: tiny families, pictures by formula, short runs and what they
// leave behind.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/tensor/named_tensors.h"
#include "models/training/learning_stages.h"
#include "models/training/run_log.h"
#include "models/training/trainer.h"

namespace ultrasr::test {

/// Made once a process, gone with it.
struct TrainingGround {
    /// VAE of factor 4 (8, 8, 8 channels), UNet of two levels (8, 16), prompts of 8 numbers
    std::filesystem::path family, other_family;
    std::filesystem::path pictures, other_pictures;  ///< six PNGs of 48 x 40 each
    std::filesystem::path some_small;                ///< of four PNGs two are smaller than a patch
    std::filesystem::path prompt_file;               ///< prompt.safetensors
    std::filesystem::path prompts;                   ///< a STEM.txt for each of `pictures`
    std::filesystem::path teacher;                   ///< that a run made of `family`
    std::filesystem::path encoder, other_encoder;    ///< that runs made of `teacher`
};
const TrainingGround& training_ground();

/// Three steps of batch 4 with patches of 32 pixels on the ground's family and teacher; scales 2
/// and 3 to 6; no loss that needs weights from elsewhere, no VSD.
Json tiny_run(std::string_view stage);

/// `settings` with each of `changes` ("rsd.ni": false) in its place.
Json with_settings(Json settings, const Json& changes);

/// What a run left.
struct Outcome {
    std::vector<StageReport> reports;
    std::vector<LogLine> log;
    NamedTensors tensors;  ///< of the last stage's result: "vae.<name>", "unet.<name>"
    Json record;           ///< sdd.json's settings, or run.json's where a stage writes no sdd.json
};

/// Runs `settings` in a folder that is gone afterwards.
Outcome outcome_of(const Json& settings);

/// Runs them in `out`.
Outcome outcome_of(const Json& settings, const std::filesystem::path& out);

/// A family's or a one-step folder's networks, or an encoder folder's: "vae.<name>", "unet.<name>".
NamedTensors networks_in(const std::filesystem::path& folder);

/// SHA-256 of every file, by its path in the folder.
std::map<std::string, std::string> hashes_of(const std::filesystem::path& folder);

/// Euclidean length of all tensors of a - b; only what has the same name in both.
double distance(const NamedTensors& a, const NamedTensors& b);
bool bit_equal(const at::Tensor& a, const at::Tensor& b);

/// The stage of settings, on the CPU.
std::unique_ptr<LearningStage> stage_of(std::string_view name, const Json& settings,
                                        Precision precision = Precision::fp32);

/// n pictures by formula with `levels` coarser versions of factors 2, 4, 8; 32 x 32 pixels.
MicroBatch formula_batch(std::int64_t n, std::size_t levels, std::uint64_t first = 0);

/// Gradients of a stage's first group and all others after one backward pass of its loss, as
/// copies; the stage has none then.
struct LossAndGradients {
    StageLoss loss;
    NamedTensors gradients;  ///< "<group>/<tensor>"
};
LossAndGradients backward(LearningStage& stage, const MicroBatch& batch);

}  // namespace ultrasr::test
