// One-step diffusion super-resolution: the backbone that OSEDiff and SDD share.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>

#include "models/cuda_graph.h"
#include "models/latent_tiles.h"
#include "models/layers/taps.h"
#include "models/noise_schedule.h"
#include "models/stage_times.h"
#include "models/unet.h"
#include "models/vae.h"

namespace ultrasr {

struct OneStepRun {
    LatentTileOptions tiles;
    /// Standard normal, of the latent's shape: the latent is sampled from the encoder's posterior.
    /// Undefined: its mean.
    at::Tensor noise;
    Taps taps;                    ///< of all three networks
    StageTimes* times = nullptr;  ///< encode, unet, decode; a GPU is waited for after each
    bool graphs = true;           ///< where use_graphs() gave some and nobody listens in
};

/// Everything on the way, float32, on the networks' device.
struct OneStepResult {
    at::Tensor z_lr;     ///< N x C x H/8 x W/8
    at::Tensor epsilon;  ///< what the UNet predicted
    at::Tensor z_hr;
    at::Tensor x_hr;  ///< N x 3 x H x W, about [0,1], not clamped
};

/// E, epsilon_theta and G of the paper's Preliminary, with the noise level alpha_bar_T.
class OneStepModel {
  public:
    OneStepModel(Vae vae, UNet unet, NoiseSchedule schedule, std::int64_t timestep);

    /// Keeps a constant prompt, 1 x S x width, float32, in the UNet; no other can be given then.
    void fix_prompt(const at::Tensor& c);

    /// Has small passes recorded as graphs of their GPU; null: none.
    void use_graphs(std::unique_ptr<GraphCache> graphs) { graphs_ = std::move(graphs); }

    /// Eq. 1 to 3. With graphs, calls for one GPU share its current stream.
    ///
    /// x_lr     N x 3 x H x W, float32, [0,1], enlarged to the size of the result; sides are
    ///          multiples of 8, best of 64
    /// c        the prompt, N x S x width, float32; undefined after fix_prompt()
    OneStepResult restore(const at::Tensor& x_lr, const at::Tensor& c, const OneStepRun& run) const;

    const Vae& vae() const { return vae_; }
    const UNet& unet() const { return unet_; }
    std::int64_t timestep() const { return timestep_; }

  private:
    Posterior encode(const at::Tensor& x_lr, const OneStepRun& run) const;
    at::Tensor predict(const at::Tensor& tiles, const at::Tensor& c, const OneStepRun& run) const;
    at::Tensor decode(const at::Tensor& z_hr, const OneStepRun& run) const;
    GraphCache::Tensors pass(const char* name, std::int64_t latents, std::int64_t most,
                             const GraphCache::Tensors& inputs, const OneStepRun& run,
                             const GraphCache::Pass& work) const;

    Vae vae_;                 // E and G
    UNet unet_;               // epsilon_theta
    NoiseSchedule schedule_;  // alpha_bar
    std::int64_t timestep_;   // T
    std::unique_ptr<GraphCache> graphs_;
};

}  // namespace ultrasr
