#include "metrics/nets/vit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include "data/tensor/attention.h"

namespace ultrasr {
namespace {

constexpr double vit_eps = 1e-6;  // metrics.md 10
constexpr std::int64_t heads = 12;
constexpr std::int64_t hidden = 3072;
constexpr int first_tap = 6, last_tap = 9;  // counted from 0

}  // namespace

VitBlock::VitBlock(StateDict& weights, const std::string& key, const Placement& placement)
    : placement_(placement),
      norm1_(weights, key + "norm1", Vit::width, vit_eps, placement),
      qkv_(take_linear(weights, key + "attn.qkv", 3 * Vit::width, Vit::width, true, placement)),
      proj_(take_linear(weights, key + "attn.proj", Vit::width, Vit::width, true, placement)),
      norm2_(weights, key + "norm2", Vit::width, vit_eps, placement),
      fc1_(take_linear(weights, key + "mlp.fc1", hidden, Vit::width, true, placement)),
      fc2_(take_linear(weights, key + "mlp.fc2", Vit::width, hidden, true, placement)) {}

at::Tensor VitBlock::operator()(const at::Tensor& x) const {
    const at::Tensor qkv =
        qkv_(norm1_(x)).view({x.size(0), x.size(1), 3, heads, Vit::width / heads});
    const at::Tensor attended =
        attention(qkv.select(2, 0), qkv.select(2, 1), qkv.select(2, 2), placement_);
    const at::Tensor y = proj_.add(attended, x);
    return fc2_.add(fc1_.gelu(norm2_(y)), y);
}

Vit::Vit(StateDict& weights, const std::string& prefix, const Placement& placement)
    : placement_(placement) {
    // Fold the class token's position into it
    const at::Tensor positions = weights.take(prefix + "pos_embed", {1, tokens + 1, width});
    const at::Tensor cls = weights.take(prefix + "cls_token", {1, 1, width});
    cls_ = (cls + positions.slice(1, 0, 1)).to(placement.device, placement.dtype);
    positions_ = positions.slice(1, 1).to(placement.device, placement.dtype);

    // The patches do not overlap: their convolution is a linear layer
    const std::string key = prefix + "patch_embed.proj";
    embed_ = Linear(weights.take(key + ".weight", {width, 3, patch, patch}).view({width, -1}),
                    weights.take(key + ".bias", {width}), placement);

    for (int i = 0; i <= last_tap; ++i) {
        blocks_.emplace_back(weights, fmt::format("{}blocks.{}.", prefix, i), placement);
    }
}

at::Tensor Vit::operator()(const at::Tensor& crops) const {
    // Cut patches, row by row, channel before row before column inside one
    const std::int64_t n = crops.size(0);
    const at::Tensor patches = crops.view({n, 3, grid, patch, grid, patch})
                                   .permute({0, 2, 4, 1, 3, 5})
                                   .reshape({n, tokens, 3 * patch * patch})
                                   .to(placement_.dtype);

    // Run the blocks and keep four, channels first
    at::Tensor x = at::cat({cls_.expand({n, 1, width}), embed_(patches) + positions_}, 1);
    at::Tensor taps = at::empty({n, channels, tokens}, x.options());
    for (int i = 0; i <= last_tap; ++i) {
        x = blocks_[static_cast<std::size_t>(i)](x);
        if (i < first_tap) continue;
        taps.slice(1, (i - first_tap) * width, (i - first_tap + 1) * width)
            .copy_(x.slice(1, 1).transpose(1, 2));
    }
    return taps;
}

}  // namespace ultrasr
