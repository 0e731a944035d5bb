// A network of fixed scale, as tiling and the scale policies see it.
#pragma once
#include <ATen/core/Tensor.h>

namespace ultrasr {

class UpscaleNet {
  public:
    virtual ~UpscaleNet() = default;

    /// Runs the network.
    ///
    /// rgb      N x 3 x H x W, float32, [0,1], any device; H and W multiples of multiple()
    /// returns  N x 3 x sH x sW, float32, on the network's device, not clamped
    virtual at::Tensor forward(const at::Tensor& rgb) const = 0;

    virtual int scale() const = 0;

    /// An output block depends on no LR pixel farther from its own LR pixels than this.
    virtual int receptive_radius() const = 0;

    /// What both sides of the input must be multiples of.
    virtual int multiple() const { return 1; }
};

}  // namespace ultrasr
