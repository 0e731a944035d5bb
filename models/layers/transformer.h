// Transformer2DModel as the UNet of Stable Diffusion uses it: self-attention over the pixels,
// cross-attention to the prompt, a gated feed-forward layer.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/layers/adapted.h"
#include "models/layers/norm_silu.h"
#include "models/layers/taps.h"

namespace ultrasr {

struct TransformerShape {
    std::int64_t channels = 0;
    std::int64_t heads = 1;
    std::int64_t context = 0;  ///< width of the prompt's tokens
    std::int64_t layers = 1;
    std::int64_t groups = 32;
    bool conv_projections = false;  ///< config: use_linear_projection is false
};

/// to_q, to_k, to_v, to_out.0.
class AttentionLayer {
  public:
    AttentionLayer() = default;
    /// context  0: keys and values come from the same tokens as the queries
    AttentionLayer(const Builder& builder, const std::string& key, std::int64_t channels,
                   std::int64_t heads, std::int64_t context);

    /// x        N x T x channels;  context  N x S x width, or undefined after fix_context() and in
    ///          self-attention
    /// returns  x's tokens attended, plus `other`
    at::Tensor add(const at::Tensor& x, const at::Tensor& context, const at::Tensor& other,
                   const Taps& taps, const std::string& name) const;

    /// Keeps keys and values of a constant prompt, 1 x S x width; their weights are dropped.
    void fix_context(const at::Tensor& context);

  private:
    Placement placement_;
    std::int64_t heads_ = 1;
    std::optional<Linear> qkv_;  ///< the three as one, where they carry no adapters
    std::optional<AdaptedLinear> to_q_, to_k_, to_v_;
    AdaptedLinear to_out_;
    at::Tensor fixed_keys_, fixed_values_;
};

/// value * gelu(gate), both linear in x, then a linear layer. GELU with erf; the value comes first.
class GatedFeedForward {
  public:
    GatedFeedForward() = default;
    GatedFeedForward(const Builder& builder, const std::string& key, std::int64_t channels);

    /// returns the layer's answer plus `other`
    at::Tensor add(const at::Tensor& x, const at::Tensor& other) const;

  private:
    std::optional<AdaptedLinear> proj_;   ///< both halves as one layer, to carry adapters
    std::optional<Linear> value_, gate_;  ///< else each by itself, gating fused into them
    AdaptedLinear out_;
    std::int64_t inner_ = 0;
};

class Transformer2d {
  public:
    Transformer2d() = default;
    Transformer2d(const Builder& builder, const std::string& key, const TransformerShape& shape);

    /// x: N x channels x H x W, channels-last, as the result. context: N x S x width, or undefined
    /// after fix_context().
    at::Tensor operator()(const at::Tensor& x, const at::Tensor& context, const Taps& taps,
                          const std::string& name) const;

    void fix_context(const at::Tensor& context);

  private:
    struct Block {
        LayerNorm norm1, norm2, norm3;
        AttentionLayer attn1, attn2;
        GatedFeedForward ff;
    };

    GroupNorm2d norm_;
    AdaptedLinear proj_in_, proj_out_;
    std::vector<Block> blocks_;
};

}  // namespace ultrasr
