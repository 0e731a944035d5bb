// LPIPS, the learned perceptual distance, as one number a picture and as a loss.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <memory>

#include "data/base/fwd.h"
#include "data/tensor/state_dict.h"
#include "metrics/nets/alexnet.h"
#include "metrics/nets/vgg.h"

namespace ultrasr {

/// The learned weights of the five taps; keys lin<k>.model.1.weight [1, C, 1, 1].
class LpipsHeads {
  public:
    LpipsHeads(StateDict& weights, std::array<std::int64_t, 5> channels,
               const Placement& placement);

    /// One tap's share of the distance: the mean over pixels of sum_c w_c (a_c/|a| - b_c/|b|)^2,
    /// 1e-10 added to each norm. Gradients flow.
    ///
    /// a, b     N x C x H x W
    /// returns  [N], float32
    at::Tensor distance(std::size_t tap, const at::Tensor& a, const at::Tensor& b) const;

    /// The same sum for one picture on the CPU, without intermediate maps, added in double in an
    /// order that no thread count changes. a, b: 1 x C x H x W, channels-last, float32 or bf16.
    double fused_distance(std::size_t tap, const at::Tensor& a, const at::Tensor& b) const;

  private:
    std::array<at::Tensor, 5> weights_;      // [1, C, 1, 1] on the device, float32
    std::array<at::Tensor, 5> weights_cpu_;  // [C]
};

/// LPIPS version 0.1 with AlexNet or VGG16, differentiable.
///
/// sr, hr   ImageBatch::nchw, equal sizes, [0,1] (values outside are taken as they are: a loss must
///          see them); sides of at least 31 (AlexNet) or 16 (VGG16)
/// returns  [N], float32
/// throws   Error(input) on sizes that differ or are too small
/// Source: Zhang et al. 2018; metrics.md 4.
at::Tensor lpips(const AlexNet& net, const LpipsHeads& heads, const ImageBatch& sr,
                 const ImageBatch& hr);
at::Tensor lpips(const Vgg16& net, const LpipsHeads& heads, const ImageBatch& sr,
                 const ImageBatch& hr);

}  // namespace ultrasr
