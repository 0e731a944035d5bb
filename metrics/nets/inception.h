// Inception v3 as FID uses it: the TensorFlow graph of 2015-12-05.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "data/tensor/layers.h"

namespace ultrasr {

/// Szegedy et al. 2016 in pytorch-fid's port: average pools do not count what is outside, the last
/// block pools by maximum (metrics.md 5.5). Keys of the port; fc is not needed.
class FidInception {
  public:
    FidInception(StateDict& weights, const Placement& placement);

    static constexpr int side = 299;
    static constexpr int features = 2048;

    /// x        N x 3 x 299 x 299, (level - 128) / 128
    /// returns  N x 2048, float32: the average of the last block over its 8 x 8 places
    at::Tensor forward(const at::Tensor& x) const;

    const Placement& placement() const { return placement_; }

  private:
    /// Convolutions one behind another.
    using Chain = std::vector<Conv>;
    /// Mixed_5b, 5c, 5d (two chains) and 6b ... 6e (two longer ones): beside them one 1 x 1 and one
    /// behind the average pool.
    struct Mixed {
        Conv direct, pooled;
        std::vector<Chain> chains;
    };
    /// Mixed_6a, 7a: halves the sides; the pool is a maximum.
    struct Reduction {
        std::vector<Chain> chains;
    };
    /// Mixed_7b, 7c: chains that fork at their ends.
    struct Forked {
        Conv direct, pooled;
        Conv single, single_a, single_b;
        Conv twice_1, twice_2, twice_a, twice_b;
    };

    Conv conv(StateDict& weights, const std::string& key, at::IntArrayRef shape,
              const ConvShape& conv_shape = {}) const;
    Mixed mixed_5(StateDict& weights, const std::string& key, std::int64_t in,
                  std::int64_t pooled) const;
    Mixed mixed_6(StateDict& weights, const std::string& key, std::int64_t middle) const;
    Forked mixed_7(StateDict& weights, const std::string& key, std::int64_t in) const;

    static at::Tensor run(const Mixed& block, const at::Tensor& x);
    static at::Tensor run(const Reduction& block, const at::Tensor& x);
    static at::Tensor run(const Forked& block, const at::Tensor& x, bool max_pool);

    Placement placement_;
    Chain stem_;  // Conv2d_1a, 2a, 2b, 3b, 4a
    std::vector<Mixed> mixed_5_, mixed_6_;
    Reduction mixed_6a_, mixed_7a_;
    Forked mixed_7b_, mixed_7c_;
};

}  // namespace ultrasr
