// The denoising network of Stable Diffusion: diffusers' UNet2DConditionModel.
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

/// unet/config.json. Defaults: Stable Diffusion 2.1-base.
struct UNetConfig {
    std::int64_t in_channels = 4, out_channels = 4;
    std::vector<std::int64_t> block_out_channels{320, 640, 1280, 1280};
    std::vector<bool> down_attention{true, true, true, false};  ///< CrossAttnDownBlock2D or not
    std::vector<bool> up_attention{false, true, true, true};
    std::vector<std::int64_t> heads{5, 10, 20, 20};  ///< of each level; config: attention_head_dim
    std::vector<std::int64_t> layers_per_block{2, 2, 2, 2};
    std::vector<std::int64_t> transformer_layers{1, 1, 1, 1};
    std::int64_t cross_attention_dim = 1024;
    std::int64_t norm_groups = 32;
    double norm_eps = 1e-5;
    bool linear_projection = true;
    bool flip_sin_to_cos = true;
    double freq_shift = 0.0;

    /// throws Error(input), naming `what`, for what this implementation does not compute
    static UNetConfig from_json(const Json& config, std::string_view what);

    /// What both sides of a latent have to be multiples of so that no level is odd.
    std::int64_t multiple() const { return std::int64_t{1} << (block_out_channels.size() - 1); }
};

class UNet {
  public:
    /// adapters  collects the modules that can carry LoRA; null: weights as they are, fused
    ///
    /// A placement with inference_only makes a network that keeps its weights in the processor's
    /// layout alone. The first and the last convolution are float32 in every placement: the
    /// one-step formula multiplies their rounding by fifteen.
    UNet(StateDict& weights, const UNetConfig& config, const Placement& placement,
         AdapterTable* adapters = nullptr);
    ~UNet();
    UNet(UNet&&) noexcept;
    UNet& operator=(UNet&&) noexcept;

    /// The prediction for a noisy latent.
    ///
    /// z        N x in_channels x h x w, float32, any h, w >= 1
    /// t        timestep, one for the batch; ignored after fix_timestep()
    /// context  the prompt, N x S x cross_attention_dim, float32; undefined after fix_prompt()
    /// returns  N x out_channels x h x w, float32
    at::Tensor forward(const at::Tensor& z, std::int64_t t, const at::Tensor& context,
                       const Taps& taps = {}) const;

    /// The same with a timestep for each latent: [N], any type.
    at::Tensor forward(const at::Tensor& z, const at::Tensor& t, const at::Tensor& context,
                       const Taps& taps = {}) const;

    /// Where gradients are recorded and nobody listens in, every resnet with its transformer is a
    /// block of the runner.
    void run_blocks_by(BlockRunner runner);

    /// Folds a constant timestep into the biases it ends in. Exact up to rounding.
    void fix_timestep(std::int64_t t);

    /// Keeps a constant prompt's keys and values in place of the weights that make them. Exact.
    ///
    /// context  1 x S x cross_attention_dim, float32
    void fix_prompt(const at::Tensor& context);

    const UNetConfig& config() const;

    /// Names and shapes of the tensors that such a network takes.
    static Shapes tensor_shapes(const UNetConfig& config);

  private:
    struct Net;
    std::unique_ptr<Net> net_;
};

}  // namespace ultrasr
