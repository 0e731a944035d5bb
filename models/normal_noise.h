// Standard normal numbers that depend on nothing but a stream.
#pragma once
#include <ATen/core/Tensor.h>

#include "data/base/random.h"

namespace ultrasr {

/// shape filled from the stream, float32, on the CPU. Box and Muller 1958.
at::Tensor normal_noise(at::IntArrayRef shape, Rng& rng);

}  // namespace ultrasr
