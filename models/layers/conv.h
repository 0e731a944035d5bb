// The one convolution of the GAN networks: 3 x 3, stride 1, zero padding 1.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "models/device.h"
#include "models/load_weights.h"

namespace ultrasr {

/// Pictures flow channels-last: oneDNN and cuDNN take them so without reordering.
at::Tensor to_activation(const at::Tensor& nchw, const Placement& placement);

class Conv3x3 {
  public:
    /// Takes `key`.weight and `key`.bias, float32, to the placement's device and numbers.
    Conv3x3(const NamedTensors& weights, const std::string& key, const Placement& placement);

    /// x: N x in x H x W as to_activation() makes it. returns N x out x H x W of the same kind.
    at::Tensor operator()(const at::Tensor& x) const;

    /// The same, then leaky ReLU with the slope 0.2.
    at::Tensor leaky(const at::Tensor& x) const;

  private:
    at::Tensor weight_;
    at::Tensor bias_;
    bool emulated_;
};

}  // namespace ultrasr
