// CLIP's picture tower: a ResNet-50 with a three-layer stem and attention pooling, as CLIPIQA uses
// it: pictures of any size, without the positional embedding.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "data/tensor/layers.h"

namespace ultrasr {

/// Radford et al. 2021, RN50; keys visual.* of OpenAI's RN50.pt.
class ClipImage {
  public:
    ClipImage(StateDict& weights, const Placement& placement);

    static constexpr std::int64_t features = 1024;

    /// rgb      1 x 3 x H x W, [0,1], float32, on the placement's device; sides of at least 31
    /// returns  [1024], float32, not normalised
    at::Tensor forward(const at::Tensor& rgb) const;

    /// The maps before the pooling: 1 x 2048 x H/32 x W/32, rounded down at every halving but the
    /// first, which rounds up.
    at::Tensor maps(const at::Tensor& rgb) const;

  private:
    struct Bottleneck {
        Conv conv1, conv2, conv3;
        std::optional<Conv> downsample;
        bool halve = false;

        at::Tensor operator()(const at::Tensor& x) const;
    };

    Placement placement_;
    Conv conv1_, conv2_, conv3_;
    std::vector<Bottleneck> blocks_;
    // The pooling, float32
    at::Tensor query_weight_, query_bias_, key_weight_, value_weight_, value_bias_, out_weight_,
        out_bias_;
};

/// Attention of one query over N positions in every head, without the keys and values of all
/// positions: (x W) q = x (W q), and weights that sum to 1 let the values' bias stand outside.
///
/// tokens  N x width, float32
/// query   [width], scaled
/// returns [width]: what the value layer gives for the weighted mean of each head
at::Tensor attend_once(const at::Tensor& tokens, const at::Tensor& query,
                       const at::Tensor& key_weight, const at::Tensor& value_weight,
                       const at::Tensor& value_bias, std::int64_t heads);

}  // namespace ultrasr
