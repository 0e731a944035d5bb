// The vision transformer ViT-B/8 at 224 x 224 pixels, as far as MANIQA reads it.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "data/tensor/layers.h"

namespace ultrasr {

/// x + attention(norm(x)), then x + mlp(norm(x)); twelve heads of 64.
class VitBlock {
  public:
    VitBlock(StateDict& weights, const std::string& key, const Placement& placement);

    /// x: N x tokens x 768
    at::Tensor operator()(const at::Tensor& x) const;

  private:
    Placement placement_;
    LayerNorm norm1_;
    Linear qkv_, proj_;
    LayerNorm norm2_;
    Linear fc1_, fc2_;
};

/// Source: Dosovitskiy et al. 2021; tensors under timm's names. Blocks 10 and 11, the last norm
/// and the head are not asked for.
class Vit {
  public:
    static constexpr std::int64_t side = 224, patch = 8, width = 768;
    static constexpr std::int64_t grid = side / patch, tokens = grid * grid;
    static constexpr std::int64_t channels = 4 * width;  ///< of what comes out

    /// prefix  before every name, "vit."
    Vit(StateDict& weights, const std::string& prefix, const Placement& placement);

    /// crops    N x 3 x 224 x 224, [-1,1], float32, on the placement's device
    /// returns  what blocks 6, 7, 8 and 9 put out, without the class token: N x 3072 x 784
    at::Tensor operator()(const at::Tensor& crops) const;

  private:
    Placement placement_;
    at::Tensor cls_, positions_;  ///< [1,1,768] with its position added; [1,784,768]
    Linear embed_;
    std::vector<VitBlock> blocks_;
};

}  // namespace ultrasr
