// The autoencoder between pictures and latents: diffusers' AutoencoderKL.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "data/base/json.h"
#include "models/layers/adapted.h"
#include "models/layers/block_runner.h"
#include "models/layers/taps.h"

namespace ultrasr {

/// vae/config.json. Defaults: Stable Diffusion 2.1-base.
struct VaeConfig {
    std::int64_t in_channels = 3, out_channels = 3, latent_channels = 4;
    std::vector<std::int64_t> block_out_channels{128, 256, 512, 512};
    std::int64_t layers_per_block = 2;
    std::int64_t norm_groups = 32;
    double scaling_factor = 0.18215;
    double shift_factor = 0.0;
    bool quant_conv = true, post_quant_conv = true;
    bool mid_attention = true;

    /// throws Error(input), naming `what`, for what this implementation does not compute
    static VaeConfig from_json(const Json& config, std::string_view what);

    /// Picture pixels a latent pixel, along a side.
    std::int64_t factor() const { return std::int64_t{1} << (block_out_channels.size() - 1); }
};

/// What the encoder says: a normal distribution for each number of the latent.
struct Posterior {
    at::Tensor mean;    ///< N x latent_channels x h x w, float32, in the VAE's scale
    at::Tensor logvar;  ///< of the unscaled latent, clamped to [-30, 20]
    double scale = 1.0;

    /// mean + standard deviation * noise, in the VAE's scale
    at::Tensor sample(const at::Tensor& noise) const;
};

/// Pictures outside are RGB in [0,1]; [-1,1] exists in here alone. Latents outside are in the VAE's
/// scale, (latent - shift) * scaling_factor.
///
/// Maps of any size fit: on a CPU, without gradients, every layer runs in strips of rows with the
/// statistics of the whole map (layers/norm_silu.h), attention in blocks of queries, and what the
/// largest maps double to is computed three times rather than stored. Results equal those of whole
/// maps up to float rounding.
class Vae {
  public:
    /// adapters  collects the encoder's modules that can carry LoRA; null: weights as they are
    Vae(StateDict& weights, const VaeConfig& config, const Placement& placement,
        AdapterTable* adapters = nullptr);
    ~Vae();
    Vae(Vae&&) noexcept;
    Vae& operator=(Vae&&) noexcept;

    /// rgb: N x 3 x H x W, float32, [0,1]; H and W multiples of config().factor()
    Posterior encode(const at::Tensor& rgb, const Taps& taps = {}) const;

    /// z: N x latent_channels x h x w, float32, in the VAE's scale. returns N x 3 x H x W, float32,
    /// about [0,1], not clamped.
    at::Tensor decode(const at::Tensor& z, const Taps& taps = {}) const;

    /// Where gradients are recorded and nobody listens in, every resnet of encoder and decoder is a
    /// block of the runner.
    void run_blocks_by(BlockRunner runner);

    const VaeConfig& config() const;

    /// Names and shapes of the tensors that such a network takes.
    static Shapes tensor_shapes(const VaeConfig& config);

  private:
    struct Net;
    std::unique_ptr<Net> net_;
};

}  // namespace ultrasr
