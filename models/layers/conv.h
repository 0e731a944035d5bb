// The one convolution of the GAN networks: 3 x 3, stride 1, zero padding 1.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "data/tensor/layers.h"
#include "data/tensor/named_tensors.h"

namespace ultrasr {

class Conv3x3 {
  public:
    /// Takes `key`.weight and `key`.bias, float32, to the placement's device and numbers.
    Conv3x3(const NamedTensors& weights, const std::string& key, const Placement& placement);

    /// x: N x in x H x W as to_activation() makes it. returns N x out x H x W of the same kind.
    at::Tensor operator()(const at::Tensor& x) const { return conv_(x); }

    /// The same, then leaky ReLU with the slope 0.2.
    at::Tensor leaky(const at::Tensor& x) const { return conv_.leaky_relu(x, 0.2); }

  private:
    Conv conv_;
};

}  // namespace ultrasr
