// Weights by formula: every tensor's values follow from its name and place alone, so that Python
// makes the same ones for the reference (tests/golden/generated_weights.py states the formula) and
// none need to be stored.
#pragma once
#include <ATen/core/Tensor.h>

#include "data/tensor/state_dict.h"
#include "metrics/net_metric.h"

namespace ultrasr::test {

/// Values by the rules of generated_weights.py, float32.
at::Tensor generated_tensor(const std::string& name, at::IntArrayRef shape);

/// A checkpoint that holds whatever is asked for.
StateDict generated_weights();

/// The same with what the official file stores as float16 rounded to it (CLIP's RN50.pt).
StateDict generated_clip_weights();

/// The above for every metric's files.
std::shared_ptr<const WeightSource> generated_source();

}  // namespace ultrasr::test
