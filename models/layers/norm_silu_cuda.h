// Group normalisation and SiLU of channels-last maps in one go on a CUDA GPU: the map is read twice
// and written once, in any of float32, float16 and bf16, with statistics in float32.
#pragma once
#include <ATen/core/Tensor.h>

namespace ultrasr {

/// This build has the kernels, and x is theirs: on a CUDA GPU, N x C x H x W channels-last, one of
/// the three types, no gradient asked for.
bool norm_kernel_takes(const at::Tensor& x);

struct NormKernelOptions {
    std::int64_t groups = 1;
    double eps = 0.0;
    bool silu = false;
    c10::ScalarType out = c10::kFloat;  ///< the type of x, or float32
};

/// norm(x), or silu(norm(x)), channels-last. On a GPU without waiting, on the stream that is
/// current there; for a map on a CPU the kernels' blocks run in loops: the same bits, slowly, for
/// tests.
///
/// weight, bias  [channels], float32, on x's device
at::Tensor run_norm_kernel(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const NormKernelOptions& options);

}  // namespace ultrasr
