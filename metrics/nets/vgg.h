// VGG16's convolutions, as LPIPS and DISTS use them.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "data/tensor/layers.h"
#include "metrics/metric.h"

namespace ultrasr {

/// Simonyan and Zisserman 2015, configuration D; keys features.<i>.{weight,bias} of torchvision.
class Vgg16 {
  public:
    Vgg16(StateDict& weights, const Placement& placement);

    static constexpr std::array<std::int64_t, 5> channels{64, 128, 256, 512, 512};

    /// Called with the stage 0 ... 4 and its map after the last ReLU (relu1_2, 2_2, 3_3, 4_3, 5_3).
    using Tap = std::function<void(std::size_t stage, const at::Tensor& map)>;
    /// What stands between two stages; halves the sides.
    using Pool = std::function<at::Tensor(const at::Tensor& map)>;

    /// x     N x 3 x H x W, normalised by ImageNet's mean and deviation, any floating type
    /// pool  in place of VGG's own 2 x 2 maximum
    void forward(const at::Tensor& x, const Pool& pool, const Tap& tap) const;

    /// The first stage alone (relu1_2), which does not depend on the pool.
    at::Tensor first_stage(const at::Tensor& x) const;
    /// The other stages; `map` is what first_stage gave.
    void later_stages(const at::Tensor& map, const Pool& pool, const Tap& tap) const;

    const Placement& placement() const { return placement_; }

  private:
    at::Tensor stage(std::size_t s, at::Tensor x) const;

    Placement placement_;
    std::array<std::vector<Conv>, 5> convs_;
};

/// (x - mean) / std per channel of RGB [0,1], channels-last, in the placement's type.
///
/// Mean and deviation are ImageNet's (0.485, 0.456, 0.406), (0.229, 0.224, 0.225). LPIPS'
/// (2x - 1 - shift) / scale is the same map: shift = 2 mean - 1 and scale = 2 std exactly
/// (metrics.md 0.1; measured difference 2e-8).
at::Tensor imagenet_normalised(const at::Tensor& rgb, const Placement& placement);

/// 2 x 2 maximum, stride 2, floor.
at::Tensor max_pool_2x2(const at::Tensor& x);

/// One backbone for all metrics of this process that read the same file to the same place, and the
/// first stage of the pictures they both look at.
class SharedVgg16 {
  public:
    explicit SharedVgg16(std::unique_ptr<const Vgg16> net) : net_(std::move(net)) {}

    /// The network loaded for those options, or the one another metric holds already.
    static std::shared_ptr<SharedVgg16> load(const MetricInfo& metric, const MetricOptions& options,
                                             std::vector<WeightRecord>& records);

    const Vgg16& net() const { return *net_; }

    /// first_stage of the picture, N = 1. Kept for the next caller while more than one metric
    /// shares the network and it is no larger than 256 MiB; no gradients.
    at::Tensor first_stage(const Image& image) const;

  private:
    struct Cache;
    std::unique_ptr<const Vgg16> net_;
    std::vector<WeightRecord> records_;
    std::weak_ptr<SharedVgg16> self_;
    mutable std::shared_ptr<Cache> cache_;
};

}  // namespace ultrasr
