// Attention between channels, MANIQA's "transposed attention block".
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "data/tensor/layers.h"

namespace ultrasr {

/// x + T(softmax(q k' / sqrt(L)) v) with q, k, v linear in the L values of a channel. T is a quirk
/// that the trained weights need: the C x L result is transposed, then read as C x L again.
///
/// Two products are spared. q k' = x (Wq' Wk) x' + 1 (x Wk' bq)' + what is equal along a row, which
/// the softmax does not see: so one linear layer, folded at load, makes queries for the keys x. And
/// as the rows of a softmax add up to 1, v's bias may be added last.
///
/// Source: Yang et al. 2022 (MANIQA), sec. 3.2; metrics.md 10.
class ChannelAttention {
  public:
    /// key     holds c_q, c_k and c_v, each L x L with bias
    /// length  L
    ChannelAttention(StateDict& weights, const std::string& key, std::int64_t length,
                     const Placement& placement);

    /// x: N x C x L, contiguous
    at::Tensor operator()(const at::Tensor& x) const;

  private:
    /// softmax(q k' / sqrt(L)) v of one picture, C x L
    at::Tensor attend(const at::Tensor& x) const;

    Placement placement_;
    Linear query_;
    at::Tensor value_weight_, value_bias_;
};

}  // namespace ultrasr
