// CLIP's text tower: what a prompt, given as token ids, means.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "data/tensor/layers.h"

namespace ultrasr {

/// Radford et al. 2021; keys transformer.*, token_embedding.weight, ... of OpenAI's RN50.pt. Always
/// float32: a metric asks once and keeps the answer.
class ClipText {
  public:
    ClipText(StateDict& weights, const Placement& placement);

    static constexpr std::int64_t start_token = 49406, end_token = 49407;
    static constexpr std::int64_t context = 77;  ///< tokens of the longest prompt
    static constexpr std::int64_t width = 512, features = 1024;

    /// Rows of the table of tokens. returns N x 512, positions not yet added.
    at::Tensor embed(std::span<const std::int64_t> ids) const;

    /// prompts  each T x 512 with T <= 77: start token, text, end token; later tokens never matter,
    ///          so they are left out
    /// returns  a row a prompt, N x 1024, not normalised
    at::Tensor forward(const std::vector<at::Tensor>& prompts) const;

  private:
    struct Norm {
        at::Tensor weight, bias;
        at::Tensor operator()(const at::Tensor& x) const;
    };
    struct Block {
        Norm ln_1, ln_2;
        Linear in_proj, out_proj, c_fc, c_proj;

        at::Tensor operator()(const at::Tensor& x) const;
    };

    Placement placement_;
    at::Tensor token_embedding_, positional_embedding_, text_projection_;
    std::array<Block, 12> blocks_;
    Norm ln_final_;
};

}  // namespace ultrasr
