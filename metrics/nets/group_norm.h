// Group normalisation with what follows it in one pass: on a CPU a loop over channels-last maps,
// elsewhere LibTorch's operators.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "data/tensor/device.h"
#include "data/tensor/state_dict.h"

namespace ultrasr {

/// Wu and He 2018, in 32 groups; the variance is the biased one, all statistics are float32.
class GroupNorm {
  public:
    GroupNorm() = default;

    /// key  holds .weight and .bias, [channels]
    GroupNorm(StateDict& weights, const std::string& key, std::int64_t channels, double eps,
              const Placement& placement);

    static constexpr std::int64_t groups = 32;

    /// relu(norm(x)); x: N x channels x H x W, channels-last, as the result.
    at::Tensor relu(const at::Tensor& x) const;

    /// The largest of each 3 x 3 of relu(norm(x)), stride 2, with a row and a column of zeros
    /// behind the last ones; H and W are even.
    at::Tensor relu_pool(const at::Tensor& x) const;

    /// relu(norm(x) + other_norm(other))
    at::Tensor add_relu(const at::Tensor& x, const GroupNorm& other_norm,
                        const at::Tensor& other) const;

    /// The same three in LibTorch's operators.
    at::Tensor plain_relu(const at::Tensor& x) const;
    at::Tensor plain_relu_pool(const at::Tensor& x) const;
    at::Tensor plain_add_relu(const at::Tensor& x, const GroupNorm& other_norm,
                              const at::Tensor& other) const;

  private:
    at::Tensor plain(const at::Tensor& x) const;

    at::Tensor weight_, bias_;          ///< of the placement
    at::Tensor weight_cpu_, bias_cpu_;  ///< float32, for the loops
    double eps_ = 0.0;
};

}  // namespace ultrasr
