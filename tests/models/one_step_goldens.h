// Golden files of the one-step networks (tests/golden/make_one_step.py): inputs and weights by
// formula, summaries of what diffusers' modules returned.
#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "data/base/json.h"
#include "data/tensor/named_tensors.h"
#include "models/layers/taps.h"

namespace ultrasr::test {

/// The file of that name in tests/golden/one_step.
Json one_step_golden(const std::string& file);

/// An input of a case, by formula.
at::Tensor golden_input(const Json& golden_case, const std::string& name);

/// Collects copies of what a network tells.
struct Listener {
    NamedTensors heard;
    Taps taps();
};

/// The largest difference of `value` from a golden summary (shape, mean, std, max_abs, samples),
/// relative to max(1, max_abs); infinity where the shapes differ or something is not finite.
double distance_to_summary(const at::Tensor& value, const Json& summary);

/// Checks every tap of a case that `wanted` accepts against what was heard.
void check_taps(const Json& golden_case, const NamedTensors& heard, double tolerance);

/// Largest difference from whole golden values, relative to max(1, largest value).
double distance_to_values(const at::Tensor& value, const Json& values);

/// max |a - b|
double largest_difference(const at::Tensor& a, const at::Tensor& b);

}  // namespace ultrasr::test
