// Intermediate results of a network, told to whoever listens.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

namespace ultrasr {

/// Called with diffusers' module name and what that module returned; an empty function listens to
/// nothing. The tensor is the network's own: a listener copies what it keeps.
using Taps = std::function<void(const std::string& name, const at::Tensor& value)>;

}  // namespace ultrasr
