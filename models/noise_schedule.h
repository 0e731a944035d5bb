// The noise schedule of a diffusion model, and the clean latent that one step finds with it.
#pragma once
#include <ATen/core/Tensor.h>

#include <string_view>
#include <vector>

#include "data/base/json.h"

namespace ultrasr {

enum class BetaSchedule {
    linear,         ///< beta_i evenly spaced
    scaled_linear,  ///< sqrt(beta_i) evenly spaced
};

/// What the network predicts.
enum class Prediction {
    epsilon,  ///< the noise
    v,        ///< sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) clean ("v_prediction")
};

/// scheduler_config.json, read as diffusers' DDPMScheduler reads it; its defaults.
struct NoiseScheduleConfig {
    int num_train_timesteps = 1000;
    BetaSchedule beta_schedule = BetaSchedule::linear;
    double beta_start = 0.0001;
    double beta_end = 0.02;
    Prediction prediction_type = Prediction::epsilon;
    bool clip_sample = true;  ///< clamp the clean latent; SD2.1's file says false
    double clip_sample_range = 1.0;

    /// Keys that do not change the clean latent (steps_offset, timestep_spacing, ...) are ignored.
    ///
    /// what    the file, for messages
    /// throws  Error(input) that names file, key, value and what is supported
    static NoiseScheduleConfig from_json(const Json& config, std::string_view what);
};

/// The schedule's numbers. float32, computed as diffusers does: alpha_bar_999 of SD2.1 is
/// 0.0046600951 here and 0.0046600985 in double.
class NoiseSchedule {
  public:
    /// throws Error(input) on a schedule that is none (betas outside (0,1), no steps)
    explicit NoiseSchedule(const NoiseScheduleConfig& config);

    /// alpha_bar_t of every timestep
    const std::vector<float>& alphas_cumprod() const { return alphas_cumprod_; }

    /// One step from timestep t to the clean latent: (z - sqrt(1 - alpha_bar_t) epsilon) /
    /// sqrt(alpha_bar_t), or sqrt(alpha_bar_t) z - sqrt(1 - alpha_bar_t) v, in float32.
    ///
    /// At t = 999 z and the noise nearly cancel and the rest is multiplied by 14.65, so
    /// (a) the formula is float32 whatever the network computes in, and
    /// (b) z must be the very tensor that the network was given, rounded to its type if that was.
    /// Either mistake in bfloat16 adds 0.025 to latents of unit variance. Best the network's last
    /// layers are float32 too, so that its prediction is never rounded.
    ///
    /// z, prediction  equal shapes, any floating type, one device; differentiable
    /// returns        float32
    /// throws         Error(internal) on unequal shapes or a timestep the schedule does not have
    /// Source: SDD, Eq. 2 = diffusers' DDPMScheduler.step to the end of the chain;
    /// one_step_models.md 1.7.
    at::Tensor clean_latent(const at::Tensor& z, const at::Tensor& prediction, int timestep) const;

  private:
    NoiseScheduleConfig config_;
    std::vector<float> alphas_cumprod_;
};

}  // namespace ultrasr
