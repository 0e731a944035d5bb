// Group normalisation and SiLU in one step with their gradients, on a CPU: what training spends
// most time on beside convolutions.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ultrasr {

struct NormSiluOptions {
    std::int64_t groups = 32;
    double eps = 1e-5;
    bool silu = true;  ///< else the normalisation alone
};

/// silu(norm(x)), differentiable once in x, weight and bias. Keeps x and two numbers a channel; the
/// normalised map and the one before SiLU are computed again for the backward pass. The same bits
/// for any number of threads.
///
/// x             N x C x H x W, channels-last, float32 or bf16, CPU; the result is of the same kind
/// weight, bias  [C], float32
at::Tensor norm_silu_with_gradient(const at::Tensor& x, const at::Tensor& weight,
                                   const at::Tensor& bias, const NormSiluOptions& options);

/// x is of the kind above.
bool has_gradient_loops(const at::Tensor& x);

}  // namespace ultrasr
