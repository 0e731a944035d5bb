// AlexNet's convolutions, as LPIPS uses them.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <vector>

#include "data/tensor/layers.h"

namespace ultrasr {

/// Krizhevsky 2014 ("one weird trick"); keys features.<i>.{weight,bias} of torchvision.
class AlexNet {
  public:
    AlexNet(StateDict& weights, const Placement& placement);

    static constexpr std::array<std::int64_t, 5> channels{64, 192, 384, 256, 256};

    /// Called with the stage 0 ... 4 and its map after the ReLU.
    using Tap = std::function<void(std::size_t stage, const at::Tensor& map)>;

    /// x: N x 3 x H x W, normalised by ImageNet's mean and deviation; sides of at least 31.
    void forward(const at::Tensor& x, const Tap& tap) const;

    const Placement& placement() const { return placement_; }

  private:
    Placement placement_;
    std::vector<Conv> convs_;
};

}  // namespace ultrasr
