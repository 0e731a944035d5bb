// CLIPIQA: how much closer to "good image" than to "bad image" CLIP places a picture.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "metrics/nets/clip_image.h"

namespace ultrasr {

/// Wang et al. 2023, with CLIP RN50 and pyiqa's prompts. Source: metrics.md 8.
class ClipIqaNet {
  public:
    /// Prompts, context vectors (half stand before the words, half behind), their width.
    static constexpr std::array<std::int64_t, 3> learned_shape{2, 16, 512};

    /// clip     the tensors of RN50.pt
    /// learned  context vectors of CLIPIQA+, which then asks with one pair of prompts; undefined:
    ///          five fixed pairs
    ClipIqaNet(StateDict& clip, const Placement& placement, const at::Tensor& learned = {});

    /// rgb      1 x 3 x H x W, [0,1], float32, on the placement's device; sides of at least 31
    /// returns  0 ... 1: the mean odds of the good prompts; higher is better
    double score(const at::Tensor& rgb) const;

  private:
    ClipImage image_;
    at::Tensor contrasts_;  ///< what separates the prompts of each pair: pairs x 1024, double, CPU
};

}  // namespace ultrasr
