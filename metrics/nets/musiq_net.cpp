#include "metrics/nets/musiq_net.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>

namespace ultrasr {
namespace {

constexpr std::int64_t heads = 6, head_width = 64;
constexpr double attention_scale = 0.125;       // 1 / sqrt(64)
constexpr std::int64_t hidden = 1152;           // of a block's two-layer part
constexpr std::int64_t map_size = 8 * 8 * 256;  // of the stem's result
constexpr double layer_norm_eps = 1e-6;
constexpr double root_norm_eps = 1e-6, block_norm_eps = 1e-4;
constexpr double standardisation_eps = 1e-5;

Conv take_standardised(StateDict& weights, const std::string& key, at::IntArrayRef shape,
                       const ConvShape& conv, const Placement& placement) {
    return {standardised(weights.take(key + ".weight", shape)), at::Tensor(), conv, placement};
}

/// Rows of several linear layers behind each other as one.
Linear take_stacked(StateDict& weights, const std::vector<std::string>& keys,
                    const Placement& placement) {
    std::vector<at::Tensor> w, b;
    for (const std::string& key : keys) {
        w.push_back(weights.take(key + ".weight", {MusiqNet::width, MusiqNet::width}));
        b.push_back(weights.take(key + ".bias", {MusiqNet::width}));
    }
    return {at::cat(w), at::cat(b), placement};
}

bool multiplies_faster_by_head(const at::Tensor& tokens) {
    // Measured: equal at 450 tokens, 1.5 times as fast at 1500, 1.7 times at 6000
    return tokens.is_cpu() && tokens.scalar_type() == at::kFloat && tokens.size(0) >= 1024;
}

}  // namespace

at::Tensor musiq_attention(const at::Tensor& queries, const at::Tensor& keys_values) {
    const at::Tensor q = queries.view({1, -1, heads, head_width});
    const at::Tensor kv = keys_values.view({1, -1, 2, heads, head_width});
    return at::scaled_dot_product_attention(q.transpose(1, 2), kv.select(2, 0).transpose(1, 2),
                                            kv.select(2, 1).transpose(1, 2))
        .transpose(1, 2)
        .reshape({-1, MusiqNet::width});
}

at::Tensor musiq_attention_by_head(const at::Tensor& queries, const at::Tensor& keys_values,
                                   const Placement& placement) {
    constexpr std::int64_t queries_at_once = 128;  // 3 MB of odds at 6000 tokens
    const std::int64_t count = queries.size(0);
    const at::Tensor q = queries.view({count, heads, head_width});
    const at::Tensor kv = keys_values.view({-1, 2, heads, head_width});
    at::Tensor result = at::empty({count, heads, head_width}, queries.options());
    for (std::int64_t head = 0; head < heads; ++head) {
        // The second factor of each product takes a weight's place
        const Linear keys(kv.select(1, 0).select(1, head), {}, placement);
        const Linear values(kv.select(1, 1).select(1, head).t(), {}, placement);
        const at::Tensor asked = (q.select(1, head) * attention_scale).contiguous();
        for (std::int64_t first = 0; first < count; first += queries_at_once) {
            const std::int64_t n = std::min(queries_at_once, count - first);
            const at::Tensor odds = at::softmax(keys(asked.narrow(0, first, n)), -1);
            result.narrow(0, first, n).select(1, head).copy_(values(odds));
        }
    }
    return result.view({count, MusiqNet::width});
}

at::Tensor standardised(const at::Tensor& weight) {
    const at::Tensor w = weight.to(at::kDouble);
    const at::Tensor centred = w - w.mean({1, 2, 3}, true);
    const at::Tensor deviation = w.std(at::OptionalIntArrayRef({1, 2, 3}), true, true);
    return (centred / (deviation + standardisation_eps)).to(at::kFloat);
}

MusiqNet::MusiqNet(StateDict& weights, std::int64_t outputs, const Placement& placement)
    : placement_(placement) {
    const auto conv = [&](const char* key, at::IntArrayRef shape, const ConvShape& how = {}) {
        return take_standardised(weights, key, shape, how, placement);
    };
    const auto norm = [&](const char* key, std::int64_t channels, double eps) {
        return GroupNorm(weights, key, channels, eps, placement);
    };
    const auto to_device = [&](const at::Tensor& t, c10::ScalarType type) {
        return t.to(placement.device, type);
    };

    // The stem
    conv_root_ = conv("conv_root", {64, 3, 7, 7}, {.stride = {2, 2}});
    gn_root_ = norm("gn_root", 64, root_norm_eps);
    conv1_ = conv("block1.conv1", {64, 64, 1, 1});
    gn1_ = norm("block1.gn1", 64, block_norm_eps);
    conv2_ = conv("block1.conv2", {64, 64, 3, 3}, {.padding = {1, 1}});
    gn2_ = norm("block1.gn2", 64, block_norm_eps);
    conv3_ = conv("block1.conv3", {256, 64, 1, 1});
    gn3_ = norm("block1.gn3", 256, block_norm_eps);
    conv_proj_ = conv("block1.conv_proj", {256, 64, 1, 1});
    gn_proj_ = norm("block1.gn_proj", 256, block_norm_eps);
    embedding_ = take_linear(weights, "embedding", width, map_size, true, placement);

    // The transformer
    const std::string encoder = "transformer_encoder.";
    position_emb_ = to_device(
        weights.take(encoder + "posembed_input.position_emb", {1, 100, width})[0], at::kFloat);
    scale_emb_ =
        to_device(weights.take(encoder + "scaleembed_input.scale_emb", {3, width}), at::kFloat);
    cls_ =
        to_device(weights.take(encoder + "cls", {1, 1, width}).view({1, width}), placement.dtype);
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
        blocks_[i] = take_block(weights, fmt::format("{}transformer.encoderblock_{}.", encoder, i));
    }
    encoder_norm_ = take_norm(weights, encoder + "encoder_norm");

    // The head
    const std::string head = outputs == 1 ? "head" : "head.0";
    head_weight_ = to_device(weights.take(head + ".weight", {outputs, width}), at::kFloat);
    head_bias_ = to_device(weights.take(head + ".bias", {outputs}), at::kFloat);
}

MusiqNet::Norm MusiqNet::take_norm(StateDict& weights, const std::string& key) const {
    const auto part = [&](const char* name) {
        return weights.take(key + name, {width}).to(placement_.device, placement_.dtype);
    };
    return {part(".weight"), part(".bias")};
}

MusiqNet::Block MusiqNet::take_block(StateDict& weights, const std::string& key) const {
    const std::string attention = key + "attention.";
    return {
        .norm1 = take_norm(weights, key + "norm1"),
        .norm2 = take_norm(weights, key + "norm2"),
        .query = take_stacked(weights, {attention + "query"}, placement_),
        .key_value = take_stacked(weights, {attention + "key", attention + "value"}, placement_),
        .out = take_linear(weights, attention + "out", width, width, true, placement_),
        .fc1 = take_linear(weights, key + "mlp.fc1", hidden, width, true, placement_),
        .fc2 = take_linear(weights, key + "mlp.fc2", width, hidden, true, placement_)};
}

at::Tensor MusiqNet::Norm::operator()(const at::Tensor& x) const {
    return at::layer_norm(x, {width}, weight, bias, layer_norm_eps);
}

at::Tensor MusiqNet::Block::operator()(const at::Tensor& x, std::int64_t rows,
                                       const Placement& placement) const {
    const at::Tensor normed = norm1(x);
    const at::Tensor queries = query(normed.narrow(0, 0, rows)), keys_values = key_value(normed);
    const at::Tensor attended = multiplies_faster_by_head(queries)
                                    ? musiq_attention_by_head(queries, keys_values, placement)
                                    : musiq_attention(queries, keys_values);
    const at::Tensor y = out.add(attended, x.narrow(0, 0, rows));
    return fc2.add(fc1.gelu(norm2(y)), y);
}

at::Tensor MusiqNet::stem(const at::Tensor& patches) const {
    at::Tensor x = gn_root_.relu_pool(conv_root_(to_activation(patches, placement_)));
    const at::Tensor shortcut = conv_proj_(x);
    x = gn1_.relu(conv1_(x));
    x = gn2_.relu(conv2_(x));
    return gn3_.add_relu(conv3_(x), gn_proj_, shortcut);
}

at::Tensor MusiqNet::embed(const at::Tensor& patches) const {
    // Few patches pass the stem at once, so that their maps stay in the cache; many the embedding,
    // so that its 25 MB of weights are read seldom
    const std::int64_t at_once = patches.is_cpu() ? 16 : patches.size(0);
    std::vector<at::Tensor> maps;
    for (std::int64_t first = 0; first < patches.size(0); first += at_once) {
        const std::int64_t n = std::min(at_once, patches.size(0) - first);
        // Row, column, channel: the order in memory already
        maps.push_back(
            stem(patches.narrow(0, first, n)).permute({0, 2, 3, 1}).reshape({n, map_size}));
    }
    return embedding_(maps.size() == 1 ? maps.front() : at::cat(maps));
}

at::Tensor MusiqNet::places(const std::vector<std::int64_t>& cells, std::int64_t version) const {
    const at::Tensor index = at::tensor(cells, at::kLong).to(placement_.device);
    return (position_emb_.index_select(0, index) + scale_emb_[version]).to(placement_.dtype);
}

double MusiqNet::score(const at::Tensor& tokens) const {
    at::Tensor x = at::cat({cls_, tokens});
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
        // The head reads the first token alone
        x = blocks_[i](x, i + 1 < blocks_.size() ? x.size(0) : 1, placement_);
    }
    const at::Tensor cls = encoder_norm_(x)[0].to(at::kFloat);
    const at::Tensor result = at::linear(cls, head_weight_, head_bias_);
    if (result.size(0) == 1) return result.item<double>();
    const at::Tensor odds = at::softmax(result, 0);
    return (odds * at::arange(1, result.size(0) + 1, odds.options())).sum().item<double>();
}

}  // namespace ultrasr
