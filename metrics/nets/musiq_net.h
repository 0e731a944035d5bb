// MUSIQ's network: a small convolutional stem on each patch, a transformer over all patches.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/tensor/layers.h"
#include "metrics/nets/group_norm.h"

namespace ultrasr {

/// Weights of a convolution brought to mean 0 and deviation 1 for each output channel:
/// (w - mean) / (std + 1e-5), std with n - 1. In double, once.
///
/// weight  out x in x kh x kw
at::Tensor standardised(const at::Tensor& weight);

/// softmax(q k' / 8) v in each of 6 heads.
///
/// queries      Q x 384
/// keys_values  T x 768, the keys of all heads first
/// returns      Q x 384
at::Tensor musiq_attention(const at::Tensor& queries, const at::Tensor& keys_values);

/// The same through oneDNN, head by head; for a CPU.
at::Tensor musiq_attention_by_head(const at::Tensor& queries, const at::Tensor& keys_values,
                                   const Placement& placement);

/// Ke et al. 2021; keys as in pyiqa's checkpoints.
class MusiqNet {
  public:
    static constexpr std::int64_t width = 384;

    /// outputs  of the head: 1 (a score), or 10 (odds of the scores 1 ... 10, AVA)
    MusiqNet(StateDict& weights, std::int64_t outputs, const Placement& placement);

    /// patches  N x 3 x 37 x 37 of musiq_patches()
    /// returns  N x 384
    at::Tensor embed(const at::Tensor& patches) const;

    /// What is added to the tokens of a version of the picture (0, 1, 2) for their places in it.
    ///
    /// cells    N indices of the 10 x 10 grid
    /// returns  N x 384
    at::Tensor places(const std::vector<std::int64_t>& cells, std::int64_t version) const;

    /// tokens   of all versions, T x 384, places added
    /// returns  the score
    ///
    /// The reference fills the two small versions up to 49 and 144 tokens and gives pairs with a
    /// filler the logit -1000. Beside any logit above -896 its exponential is 0 in float32, so
    /// fillers are left out here.
    double score(const at::Tensor& tokens) const;

  private:
    struct Norm {
        at::Tensor weight, bias;
        at::Tensor operator()(const at::Tensor& x) const;
    };
    struct Block {
        Norm norm1, norm2;
        Linear query, key_value, out, fc1, fc2;

        /// x: T x 384; answers for the first `rows` of them.
        at::Tensor operator()(const at::Tensor& x, std::int64_t rows,
                              const Placement& placement) const;
    };

    /// patches: N x 3 x 37 x 37; returns N x 256 x 8 x 8.
    at::Tensor stem(const at::Tensor& patches) const;

    Norm take_norm(StateDict& weights, const std::string& key) const;
    Block take_block(StateDict& weights, const std::string& key) const;

    Placement placement_;
    Conv conv_root_, conv1_, conv2_, conv3_, conv_proj_;
    GroupNorm gn_root_, gn1_, gn2_, gn3_, gn_proj_;
    Linear embedding_;
    at::Tensor position_emb_, scale_emb_, cls_;
    std::array<Block, 14> blocks_;
    Norm encoder_norm_;
    at::Tensor head_weight_, head_bias_;  ///< float32
};

}  // namespace ultrasr
