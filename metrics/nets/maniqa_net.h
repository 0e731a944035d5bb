// MANIQA's network: scores and their weights for the tokens of a crop.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>

#include "metrics/nets/channel_attention.h"
#include "metrics/nets/swin.h"
#include "metrics/nets/vit.h"

namespace ultrasr {

/// Of every token of every crop: N x 784, float32.
struct TokenScores {
    at::Tensor score;   ///< >= 0
    at::Tensor weight;  ///< (0,1)
};

/// Source: Yang et al. 2022, "MANIQA: Multi-dimension attention network for no-reference image
/// quality assessment"; metrics.md 10. The checkpoint for PIPAL.
class ManiqaNet {
  public:
    /// Takes what it needs under the official names, and ignores what the file holds beside.
    ManiqaNet(StateDict& weights, const Placement& placement);

    /// crops: N x 3 x 224 x 224, RGB [0,1], float32, on the placement's device
    TokenScores operator()(const at::Tensor& crops) const;

  private:
    struct Stage {
        std::array<ChannelAttention, 2> attention;
        Linear mix;  ///< the 1 x 1 convolution
        SwinStage swin;
    };
    /// channels: N x C x 784 to tokens: N x 784 x C'
    static at::Tensor run(const Stage& stage, const at::Tensor& channels);
    static Stage take_stage(StateDict& weights, int number, std::int64_t in, std::int64_t out,
                            const Placement& placement);

    Vit vit_;
    Stage stage1_, stage2_;
    Linear hidden_;                       ///< of both heads, score first
    at::Tensor head_weight_, head_bias_;  ///< of both, [2,768] and [2], float32
};

}  // namespace ultrasr
