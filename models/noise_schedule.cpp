#include "models/noise_schedule.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/cumprod.h>
#include <ATen/ops/linspace.h>

#include <cmath>
#include <string>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "models/layers/config_reader.h"

namespace ultrasr {
namespace {

/// The config says this word.
bool says(const Json& config, const char* key, std::string_view word) {
    const auto found = config.find(key);
    return found != config.end() && found->is_string() &&
           found->get_ref<const std::string&>() == word;
}

}  // namespace

NoiseScheduleConfig NoiseScheduleConfig::from_json(const Json& config, std::string_view what) {
    const ConfigReader read(config, what);
    NoiseScheduleConfig result;
    // What makes the schedule
    result.num_train_timesteps =
        static_cast<int>(read.integer("num_train_timesteps", result.num_train_timesteps));
    read.demand_text("beta_schedule", {"scaled_linear", "linear"});
    if (says(config, "beta_schedule", "scaled_linear")) {
        result.beta_schedule = BetaSchedule::scaled_linear;
    }
    const auto beta = [&](const char* key, double otherwise) {
        const double value = read.number(key, otherwise);
        require(value > 0.0 && value < 1.0, "{}: \"{}\" is {}; supported: numbers between 0 and 1",
                what, key, value);
        return value;
    };
    result.beta_start = beta("beta_start", result.beta_start);
    result.beta_end = beta("beta_end", result.beta_end);
    read.demand_nothing("trained_betas");
    read.demand_false("rescale_betas_zero_snr");
    // What makes the step
    read.demand_text("prediction_type", {"epsilon", "v_prediction"});
    if (says(config, "prediction_type", "v_prediction")) result.prediction_type = Prediction::v;
    read.demand_false("thresholding");
    result.clip_sample = read.flag("clip_sample", result.clip_sample);
    result.clip_sample_range = read.number("clip_sample_range", result.clip_sample_range);
    require(result.clip_sample_range > 0.0,
            "{}: \"clip_sample_range\" is {}; supported: numbers above 0", what,
            result.clip_sample_range);
    return result;
}

NoiseSchedule::NoiseSchedule(const NoiseScheduleConfig& config) : config_(config) {
    require(config.num_train_timesteps >= 1 && config.beta_start > 0.0 && config.beta_start < 1.0 &&
                config.beta_end > 0.0 && config.beta_end < 1.0,
            "a noise schedule needs steps and betas between 0 and 1, got {} steps from {} to {}",
            config.num_train_timesteps, config.beta_start, config.beta_end);
    const bool scaled = config.beta_schedule == BetaSchedule::scaled_linear;
    const auto end_of = [&](double beta) { return scaled ? std::sqrt(beta) : beta; };
    at::Tensor betas = at::linspace(end_of(config.beta_start), end_of(config.beta_end),
                                    config.num_train_timesteps, at::kFloat);
    if (scaled) betas = betas * betas;
    const at::Tensor alpha_bar = at::cumprod(1.0 - betas, 0).contiguous();
    const float* first = alpha_bar.const_data_ptr<float>();
    alphas_cumprod_.assign(first, first + alpha_bar.numel());
}

at::Tensor NoiseSchedule::clean_latent(const at::Tensor& z, const at::Tensor& prediction,
                                       int timestep) const {
    if (timestep < 0 || timestep >= config_.num_train_timesteps) {
        fail(Fault::internal, "timestep {} is none of the schedule's {}", timestep,
             config_.num_train_timesteps);
    }
    if (z.sizes() != prediction.sizes()) {
        fail(Fault::internal, "a latent and its prediction differ in shape: {} and {} numbers",
             z.numel(), prediction.numel());
    }
    const float alpha_bar = alphas_cumprod_[static_cast<std::size_t>(timestep)];
    const float a = std::sqrt(alpha_bar);
    const float s = std::sqrt(1.0F - alpha_bar);
    const at::Tensor z_t = z.to(at::kFloat);
    const at::Tensor noise = prediction.to(at::kFloat);
    const at::Tensor clean = config_.prediction_type == Prediction::epsilon ? (z_t - s * noise) / a
                                                                            : a * z_t - s * noise;
    if (!config_.clip_sample) return clean;
    return at::clamp(clean, -config_.clip_sample_range, config_.clip_sample_range);
}

}  // namespace ultrasr
