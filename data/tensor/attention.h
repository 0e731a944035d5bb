// Attention of transformers, without ever holding all scores.
#pragma once
#include <ATen/core/Tensor.h>

#include "data/tensor/device.h"

namespace ultrasr {

/// softmax(q k' / sqrt(d)) v in every head, no mask.
///
/// q        N x T x heads x d;  k, v  N x S x heads x d; any strides, the placement's type
/// returns  N x T x (heads d), contiguous
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const Placement& placement);

/// The same in LibTorch's fused operator, for every device, type and with gradients.
at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

/// The same head by head through oneDNN's matrix products, a block of queries at a time: on a CPU
/// in 0.6 (float32) to 0.25 (bf16, heads of 512) of the fused operator's time.
at::Tensor attention_by_head(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const Placement& placement);

}  // namespace ultrasr
