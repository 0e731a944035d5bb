// Where a network computes, and in which numbers.
#pragma once
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string_view>

#include "data/compute.h"

namespace ultrasr {

struct Placement {
    c10::Device device{c10::kCPU};
    c10::ScalarType dtype = c10::kFloat;  ///< of activations and weights
    /// bf16 on a CPU without bf16 convolutions: weights and activations are rounded to bf16, each
    /// convolution sums in float32, as the instructions would. Same accuracy, no gain in speed.
    bool emulated = false;
    /// No gradients will be asked for: layers may drop what only those need.
    bool inference_only = false;
};

/// Opens `cpu`, `cuda` or `cuda:N`. LibTorch's CUDA part is loaded here, beside its CPU part.
///
/// throws Error(usage) on another word; Error(device) when the CUDA part or the GPU is missing
c10::Device open_device(std::string_view name);

/// Device and numbers for options, and LibTorch's thread count. Warns once when bf16 is asked for
/// and this CPU has no instructions for it.
///
/// throws like open_device; Error(device) for fp16 on a CPU
Placement place(const ComputeOptions& options);

/// While one lives, blocks of memory are taken from the system one by one and go back to it when
/// they are freed. For weights: made beside what they are made from, they would leave holes that
/// nothing fits into (a quarter of Stable Diffusion's size). Networks that run want the opposite,
/// which holds otherwise: fresh pages cost time.
class ReturnFreedMemory {
  public:
    ReturnFreedMemory();
    ~ReturnFreedMemory();
    ReturnFreedMemory(const ReturnFreedMemory&) = delete;
    ReturnFreedMemory& operator=(const ReturnFreedMemory&) = delete;
};

/// "cpu", "cuda:0" and "fp32", "bf16", "bf16 (emulated)", "fp16", as results print them.
std::string device_name(const Placement& placement);
std::string dtype_name(const Placement& placement);

}  // namespace ultrasr
