// DISTS, structure and texture similarity of deep features, as one number a picture and as a loss.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <vector>

#include "data/base/fwd.h"
#include "data/tensor/state_dict.h"
#include "metrics/nets/vgg.h"

namespace ultrasr {

/// The learned weights of the 1475 channels; keys alpha and beta, [1, 1475, 1, 1].
class DistsWeights {
  public:
    DistsWeights(StateDict& weights, const Placement& placement);

    /// The picture itself, then VGG16's five stages.
    static constexpr std::array<std::int64_t, 6> channels{3, 64, 128, 256, 512, 512};

    /// sum over a map's channels of alpha S1 + beta S2, alpha and beta divided by the sum of all.
    /// Gradients flow.
    ///
    /// map      0 the picture in [0,1], 1 ... 5 the stages
    /// a, b     N x C x H x W
    /// returns  [N], float32
    at::Tensor similarity(std::size_t map, const at::Tensor& a, const at::Tensor& b) const;

    /// The same for one picture on the CPU, moments in double in one pass, in an order that no
    /// thread count changes. a, b: 1 x C x H x W, channels-last, float32 or bf16.
    double fused_similarity(std::size_t map, const at::Tensor& a, const at::Tensor& b) const;

  private:
    std::array<at::Tensor, 6> alpha_, beta_;  // [C] on the device, float32, normalised
    std::array<std::vector<double>, 6> alpha_cpu_, beta_cpu_;
};

/// L2 pooling in place of VGG's maximum: sqrt(blur(x^2) + 1e-12), the 3 x 3 binomial window with
/// stride 2 and zeros outside. N x C x H x W to N x C x ceil(H/2) x ceil(W/2). Gradients flow; one
/// CPU picture without gradients goes through a loop without intermediate maps.
at::Tensor l2_pool(const at::Tensor& x);

/// 1 - sum over the six maps of their similarity, differentiable.
///
/// sr, hr   ImageBatch::nchw, equal sizes; values outside [0,1] are taken as they are
/// returns  [N], float32; 0 for equal pictures
/// throws   Error(input) on sizes that differ
/// Source: Ding et al. 2020; metrics.md 9.
at::Tensor dists(const Vgg16& net, const DistsWeights& weights, const ImageBatch& sr,
                 const ImageBatch& hr);

}  // namespace ultrasr
