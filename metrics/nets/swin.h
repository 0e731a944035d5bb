// The Swin stage of MANIQA: attention inside windows of 4 x 4 tokens on a grid of 28 x 28.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "metrics/nets/vit.h"

namespace ultrasr {

constexpr std::int64_t swin_window = 4;  ///< tokens on a window's side
constexpr std::int64_t swin_heads = 4;

/// The tokens window by window, windows and tokens row by row: place -> place in the row-by-row
/// grid, which is rolled up and left by `shift` first.
std::vector<std::int64_t> swin_window_order(std::int64_t shift);

/// What is added to the logits: the bias of relative places, and for shift > 0 -100 between tokens
/// that only the roll made neighbours.
///
/// table    49 x heads, float32; row 7 (dy + 3) + dx + 3 for query - key = (dy, dx)
/// returns  W x heads x 16 x 16 (query, key), W = 49 windows for shift > 0, else 1
at::Tensor swin_logit_bias(const at::Tensor& table, std::int64_t shift);

/// x + attention(norm(x)), then x + mlp(norm(x)), on tokens in window order.
class SwinBlock {
  public:
    SwinBlock(StateDict& weights, const std::string& key, std::int64_t width, std::int64_t shift,
              const Placement& placement);

    /// x: N x 784 x width
    at::Tensor operator()(const at::Tensor& x) const;

  private:
    LayerNorm norm1_;
    Linear qkv_, proj_;
    at::Tensor bias_;
    LayerNorm norm2_;
    Linear fc1_, fc2_;
};

/// Two layers x + 0.13 relu(conv(block(block(x)))).
///
/// Source: Yang et al. 2022 (MANIQA), Liu et al. 2021 (Swin); metrics.md 10 and 0.5.
class SwinStage {
  public:
    /// prefix  before every name, "swintransformer1."
    /// width   of a token
    SwinStage(StateDict& weights, const std::string& prefix, std::int64_t width,
              const Placement& placement);

    /// x: N x 784 x width, tokens row by row; the result likewise
    at::Tensor operator()(const at::Tensor& x) const;

  private:
    struct Layer {
        SwinBlock straight, shifted;
        Conv conv;
    };
    std::vector<Layer> layers_;
    at::Tensor to_straight_, to_shifted_, to_grid_;  ///< from each order to the next
};

}  // namespace ultrasr
