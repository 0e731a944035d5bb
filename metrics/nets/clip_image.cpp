#include "metrics/nets/clip_image.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmv.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <array>

namespace ultrasr {
namespace {

constexpr double batch_norm_eps = 1e-5;
constexpr std::int64_t pool_width = 2048, pool_heads = 32;
constexpr double pool_scale = 0.125;  // 1 / sqrt(2048 / 32)

// Of the pictures that CLIP was trained on: R, G, B
constexpr std::array<double, 3> mean{0.48145466, 0.4578275, 0.40821073};
constexpr std::array<double, 3> deviation{0.26862954, 0.26130258, 0.27577711};

at::Tensor per_channel(const std::array<double, 3>& values, const at::Tensor& like) {
    return at::tensor(at::ArrayRef<double>(values), at::kDouble)
        .to(like.device(), at::kFloat)
        .view({1, 3, 1, 1});
}

at::Tensor halved(const at::Tensor& x) { return at::avg_pool2d(x, {2, 2}); }

}  // namespace

at::Tensor attend_once(const at::Tensor& tokens, const at::Tensor& query,
                       const at::Tensor& key_weight, const at::Tensor& value_weight,
                       const at::Tensor& value_bias, std::int64_t heads) {
    const std::int64_t width = tokens.size(1), head_width = width / heads;
    // The keys' bias shifts all logits of a head alike: the softmax does not see it
    const at::Tensor probe =
        at::bmm(query.view({heads, 1, head_width}), key_weight.view({heads, head_width, width}));
    const at::Tensor odds = at::softmax(at::matmul(probe.squeeze(1), tokens.t()), 1);
    const at::Tensor mixed = at::matmul(odds, tokens).view({heads, width, 1});
    return at::bmm(value_weight.view({heads, head_width, width}), mixed).view({width}) + value_bias;
}

ClipImage::ClipImage(StateDict& weights, const Placement& placement) : placement_(placement) {
    const auto conv = [&](const std::string& path, const std::string& name, const std::string& norm,
                          at::IntArrayRef shape, const ConvShape& how = {}) {
        weights.ignore(path + norm + ".num_batches_tracked");
        return take_conv_norm(weights, path + name, path + norm, shape, batch_norm_eps, how,
                              placement);
    };

    // The stem
    conv1_ = conv("visual.", "conv1", "bn1", {32, 3, 3, 3}, {.stride = {2, 2}, .padding = {1, 1}});
    conv2_ = conv("visual.", "conv2", "bn2", {32, 32, 3, 3}, {.padding = {1, 1}});
    conv3_ = conv("visual.", "conv3", "bn3", {64, 32, 3, 3}, {.padding = {1, 1}});

    // The four stages
    constexpr std::array depth{3, 4, 6, 3};
    std::int64_t in = 64;
    for (std::size_t s = 0; s < depth.size(); ++s) {
        const std::int64_t inner = std::int64_t{64} << s, out = 4 * inner;
        for (int i = 0; i < depth[s]; ++i) {
            const std::string path = fmt::format("visual.layer{}.{}.", s + 1, i);
            Bottleneck& block = blocks_.emplace_back();
            block.halve = s > 0 && i == 0;
            block.conv1 = conv(path, "conv1", "bn1", {inner, in, 1, 1});
            block.conv2 = conv(path, "conv2", "bn2", {inner, inner, 3, 3}, {.padding = {1, 1}});
            block.conv3 = conv(path, "conv3", "bn3", {out, inner, 1, 1});
            if (i == 0) {
                block.downsample = conv(path, "downsample.0", "downsample.1", {out, in, 1, 1});
            }
            in = out;
        }
    }

    // The pooling
    const auto take = [&](const char* name, at::IntArrayRef shape) {
        return weights.take(std::string("visual.attnpool.") + name, shape).to(placement.device);
    };
    const std::array<std::int64_t, 2> square{pool_width, pool_width};
    query_weight_ = take("q_proj.weight", square);
    query_bias_ = take("q_proj.bias", {pool_width});
    key_weight_ = take("k_proj.weight", square);
    take("k_proj.bias", {pool_width});  // see attend_once
    value_weight_ = take("v_proj.weight", square);
    value_bias_ = take("v_proj.bias", {pool_width});
    out_weight_ = take("c_proj.weight", {features, pool_width});
    out_bias_ = take("c_proj.bias", {features});
}

at::Tensor ClipImage::Bottleneck::operator()(const at::Tensor& x) const {
    at::Tensor y = conv2.relu(conv1.relu(x));
    if (halve) y = halved(y);
    const at::Tensor shortcut = downsample ? (*downsample)(halve ? halved(x) : x) : x;
    return conv3.add_relu_(y, shortcut);
}

at::Tensor ClipImage::maps(const at::Tensor& rgb) const {
    const at::Tensor normalised = (rgb - per_channel(mean, rgb)) / per_channel(deviation, rgb);
    at::Tensor x = conv1_.relu(to_activation(normalised, placement_));
    x = halved(conv3_.relu(conv2_.relu(x)));
    for (const Bottleneck& block : blocks_) x = block(x);
    return x;
}

at::Tensor ClipImage::forward(const at::Tensor& rgb) const {
    // Pool in float32: positions as rows, their mean, which asks, in front
    const at::Tensor positions =
        maps(rgb)[0].permute({1, 2, 0}).reshape({-1, pool_width}).to(at::kFloat);
    const at::Tensor mean_token = positions.mean({0}, true);
    const at::Tensor query = at::addmv(query_bias_, query_weight_, mean_token[0]) * pool_scale;
    const at::Tensor pooled = attend_once(at::cat({mean_token, positions}), query, key_weight_,
                                          value_weight_, value_bias_, pool_heads);
    return at::addmv(out_bias_, out_weight_, pooled);
}

}  // namespace ultrasr
