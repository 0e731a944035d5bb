#include "metrics/nets/maniqa_net.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

namespace ultrasr {
namespace {

constexpr std::int64_t width1 = 768, width2 = 384;  // of tokens after the two stages

}  // namespace

ManiqaNet::Stage ManiqaNet::take_stage(StateDict& weights, int number, std::int64_t in,
                                       std::int64_t out, const Placement& placement) {
    const auto attention = [&](int i) {
        return ChannelAttention(weights, fmt::format("tablock{}.{}.", number, i), Vit::tokens,
                                placement);
    };
    const std::string conv = fmt::format("conv{}", number);
    const std::string swin = fmt::format("swintransformer{}.", number);
    weights.ignore(swin + "downsample.");
    return {{attention(0), attention(1)},
            Linear(weights.take(conv + ".weight", {out, in, 1, 1}).view({out, in}),
                   weights.take(conv + ".bias", {out}), placement),
            SwinStage(weights, swin, out, placement)};
}

ManiqaNet::ManiqaNet(StateDict& weights, const Placement& placement)
    : vit_(weights, "vit.", placement),
      stage1_(take_stage(weights, 1, Vit::channels, width1, placement)),
      stage2_(take_stage(weights, 2, width1, width2, placement)) {
    for (const char* unused : {"vit.blocks.10.", "vit.blocks.11.", "vit.norm.", "vit.head."}) {
        weights.ignore(unused);
    }

    // Put the two heads beside each other; each reads its own half of the hidden values
    const auto take_both = [&](const char* part, at::IntArrayRef shape) {
        return std::array{weights.take(fmt::format("fc_score.{}", part), shape),
                          weights.take(fmt::format("fc_weight.{}", part), shape)};
    };
    hidden_ = Linear(at::cat(take_both("0.weight", {width2, width2})),
                     at::cat(take_both("0.bias", {width2})), placement);
    const auto [score, weight] = take_both("3.weight", {1, width2});
    const at::Tensor none = at::zeros({1, width2});
    head_weight_ =
        at::cat({at::cat({score, none}, 1), at::cat({none, weight}, 1)}).to(placement.device);
    head_bias_ = at::cat(take_both("3.bias", {1})).to(placement.device);
}

at::Tensor ManiqaNet::run(const Stage& stage, const at::Tensor& channels) {
    const at::Tensor x = stage.attention[1](stage.attention[0](channels));
    return stage.swin(stage.mix(x.transpose(1, 2).contiguous()));
}

TokenScores ManiqaNet::operator()(const at::Tensor& crops) const {
    at::Tensor x = run(stage1_, vit_((crops - 0.5) / 0.5));
    x = run(stage2_, x.transpose(1, 2).contiguous());

    // Float32 from here on
    const at::Tensor heads = at::linear(hidden_.relu(x).to(at::kFloat), head_weight_, head_bias_);
    return {at::relu(heads.select(-1, 0)), at::sigmoid(heads.select(-1, 1))};
}

}  // namespace ultrasr
