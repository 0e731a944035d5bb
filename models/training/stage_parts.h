// What the stages of a run share: the files they begin with and leave, prompts, noise, pictures'
// distances.
#pragma once
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "metrics/lpips.h"
#include "models/diffusers_folder.h"
#include "models/noise_schedule.h"
#include "models/training/draws.h"
#include "models/training/learning_stages.h"
#include "models/training/trained_net.h"

namespace ultrasr {

/// A whole model as files have it.
struct ModelParts {
    ModelFiles unet, vae;
    Json scheduler = Json::object();
    std::string scheduler_file;  ///< for messages
    std::int64_t timestep = 999;
    std::optional<std::filesystem::path> prompt;  ///< prompt.safetensors beside it

    NoiseSchedule schedule() const;
};

/// A family in diffusers' layout. throws Error(input).
ModelParts read_family(const std::filesystem::path& base);

/// A one-step model: a folder that a run wrote (teacher, student), or osediff.pkl over `base`.
/// throws Error(input) that says what is missing
ModelParts read_one_step(const std::filesystem::path& path, const std::filesystem::path& base);

/// Writes such a folder: config.json last. throws Error(storage).
///
/// settings  what sdd.json says of the run
void write_one_step(const std::filesystem::path& folder, const ModelParts& model,
                    const NamedTensors& unet, const NamedTensors& vae, const at::Tensor& prompt,
                    const std::string& prompt_text, const Json& settings);

/// The VAE that a dml run made of its encoder, with the base's decoder.
ModelFiles read_encoder(const std::filesystem::path& folder);
void write_encoder(const std::filesystem::path& folder, const ModelFiles& like,
                   const NamedTensors& vae, const Json& settings);

/// What sdd.json says of a run: its settings without places on this machine.
Json run_record(const TrainSettings& settings, std::string_view stage);

/// What the UNet attends to (A18), on the device, float32.
class Prompts {
  public:
    /// base    whose text encoder reads texts; not opened when a file holds the embedding
    /// width   of an embedding
    /// beside  prompt.safetensors of the model that is learnt from, where nothing else is said
    Prompts(const TrainSettings& settings, const std::filesystem::path& base,
            const std::optional<std::filesystem::path>& beside, std::int64_t width,
            const c10::Device& device);
    ~Prompts();

    /// N x 77 x width, of the pictures of those names
    at::Tensor of(const std::vector<std::string>& names);
    /// 1 x 77 x width, of any text
    at::Tensor of_text(const std::string& text);
    /// 1 x 77 x width: what a model is handed on with (prompts of pictures: the empty one)
    at::Tensor constant();
    std::string constant_text() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Normal noise of a batch, [N, shape...], each sample from its own stream.
at::Tensor batch_noise(const MicroBatch& batch, std::uint64_t seed, Draw draw, std::uint64_t twin,
                       at::IntArrayRef shape_of_one);

/// Timesteps least ... most of a batch: [N], int64, on the CPU.
at::Tensor batch_timesteps(const MicroBatch& batch, std::uint64_t seed, Draw draw,
                           std::int64_t least, std::int64_t most);

/// alpha_bar of timesteps [N], float32, on the device.
at::Tensor alpha_bars(const NoiseSchedule& schedule, const at::Tensor& t,
                      const c10::Device& device);

/// A picture in the losses' range: [0,1] to [-1,1].
inline at::Tensor signed_range(const at::Tensor& picture) { return picture * 2.0 - 1.0; }

/// 10 log10(1 / mean square difference) over RGB, clamped to [0,1], dB; the mean over the batch.
double mean_psnr(const at::Tensor& a, const at::Tensor& b);

/// LPIPS with VGG16 as a loss.
class LpipsLoss {
  public:
    /// throws Error(input) that names the missing weight file
    explicit LpipsLoss(const Placement& placement);
    /// a, b: N x 3 x H x W, [0,1]. returns a scalar.
    at::Tensor operator()(const at::Tensor& a, const at::Tensor& b) const;

  private:
    std::optional<Vgg16> net_;
    std::optional<LpipsHeads> heads_;
};

/// Variational score distillation with its second UNet (OSEDiff's regulariser).
class Vsd {
  public:
    Vsd(const ModelFiles& base_unet, const NoiseSchedule& schedule, const TrainSettings& settings,
        const Placement& placement);

    struct Losses {
        at::Tensor generator;    ///< pulls z_hr
        at::Tensor regulariser;  ///< teaches the second UNet what z_hr looks like
    };
    /// z_hr: with its graph. c: its prompts; negative: 1 x 77 x width.
    Losses operator()(const MicroBatch& batch, const at::Tensor& z_hr, const at::Tensor& c,
                      const at::Tensor& negative) const;

    const NamedTensors& parameters() const { return regulariser_->parameters(); }
    void run_blocks_by(const BlockRunner& runner) { regulariser_->net().run_blocks_by(runner); }

  private:
    NoiseSchedule schedule_;
    std::uint64_t seed_;
    double guidance_;
    std::optional<TrainedNet<UNet>> regulariser_;
    std::optional<UNet> real_;
};

/// LoRA on the modules that OSEDiff adapts.
Learning unet_learning(const ModelFiles& unet, std::int64_t rank, double alpha, std::uint64_t seed);
Learning encoder_learning(const ModelFiles& vae, std::int64_t rank, double alpha,
                          std::uint64_t seed);

/// "prefix" before each name.
NamedTensors with_prefix(const NamedTensors& tensors, const std::string& prefix);
/// Those with the prefix, without it.
NamedTensors without_prefix(const NamedTensors& tensors, const std::string& prefix);

/// s_t, s_s and, where it is asked for, s_h of a step (A7, A22); of step -1, for validation, the
/// first of the list.
SampleLevels student_levels(const TrainSettings& settings, std::int64_t step, bool severe);

/// Recomputes blocks where the settings ask for it, else empty.
BlockRunner block_runner(const TrainSettings& settings);

}  // namespace ultrasr
