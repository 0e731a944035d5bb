#include "models/layers/transformer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>

#include <fmt/format.h>

#include "data/tensor/attention.h"

namespace ultrasr {
namespace {

constexpr double group_norm_eps = 1e-6;  // fixed in diffusers' Transformer2DModel
constexpr double layer_norm_eps = 1e-5;

void tell(const Taps& taps, const std::string& name, const at::Tensor& value) {
    if (taps) taps(name, value);
}

/// N x T x C as N x T x heads x C / heads
at::Tensor by_heads(const at::Tensor& tokens, std::int64_t heads) {
    return tokens.unflatten(2, {heads, tokens.size(2) / heads});
}

}  // namespace

// ---- AttentionLayer ----

AttentionLayer::AttentionLayer(const Builder& builder, const std::string& key,
                               std::int64_t channels, std::int64_t heads, std::int64_t context)
    : placement_(builder.placement), heads_(heads) {
    const std::int64_t from = context > 0 ? context : channels;
    if (context > 0 || builder.adapters) {
        to_q_.emplace(builder, key + ".to_q", channels, channels, false);
        to_k_.emplace(builder, key + ".to_k", channels, from, false);
        to_v_.emplace(builder, key + ".to_v", channels, from, false);
    } else {
        const auto take = [&](const char* name) {
            return builder.weights.take(key + name, {channels, channels});
        };
        qkv_.emplace(at::cat({take(".to_q.weight"), take(".to_k.weight"), take(".to_v.weight")}),
                     at::Tensor(), placement_);
    }
    to_out_ = AdaptedLinear(builder, key + ".to_out.0", channels, channels, true);
}

void AttentionLayer::fix_context(const at::Tensor& context) {
    if (!to_k_) return;
    fixed_keys_ = (*to_k_)(context);
    fixed_values_ = (*to_v_)(context);
    to_k_.reset();
    to_v_.reset();
}

at::Tensor AttentionLayer::add(const at::Tensor& x, const at::Tensor& context,
                               const at::Tensor& other, const Taps& taps,
                               const std::string& name) const {
    at::Tensor q, k, v;
    if (qkv_) {
        const at::Tensor all = (*qkv_)(x);
        const std::int64_t channels = all.size(2) / 3;
        q = all.narrow(2, 0, channels);
        k = all.narrow(2, channels, channels);
        v = all.narrow(2, 2 * channels, channels);
    } else {
        const at::Tensor& from = context.defined() ? context : x;
        q = (*to_q_)(x);
        k = to_k_ ? (*to_k_)(from) : fixed_keys_.expand({x.size(0), -1, -1});
        v = to_v_ ? (*to_v_)(from) : fixed_values_.expand({x.size(0), -1, -1});
    }
    tell(taps, name + ".to_q", q);
    tell(taps, name + ".to_k", k);
    tell(taps, name + ".to_v", v);
    const at::Tensor attended =
        attention(by_heads(q, heads_), by_heads(k, heads_), by_heads(v, heads_), placement_);
    if (taps) taps(name, to_out_(attended));
    return to_out_.add(attended, other);
}

// ---- GatedFeedForward ----

GatedFeedForward::GatedFeedForward(const Builder& builder, const std::string& key,
                                   std::int64_t channels)
    : inner_(4 * channels) {
    if (builder.adapters) {
        proj_.emplace(builder, key + ".net.0.proj", 2 * inner_, channels, true);
    } else {
        const at::Tensor w =
            builder.weights.take(key + ".net.0.proj.weight", {2 * inner_, channels});
        const at::Tensor b = builder.weights.take(key + ".net.0.proj.bias", {2 * inner_});
        value_.emplace(w.narrow(0, 0, inner_), b.narrow(0, 0, inner_), builder.placement);
        gate_.emplace(w.narrow(0, inner_, inner_), b.narrow(0, inner_, inner_), builder.placement);
    }
    out_ = AdaptedLinear(builder, key + ".net.2", channels, inner_, true);
}

at::Tensor GatedFeedForward::add(const at::Tensor& x, const at::Tensor& other) const {
    if (!proj_) return out_.add(value_->mul(x, gate_->gelu(x)), other);
    const at::Tensor both = (*proj_)(x);
    return out_.add(both.narrow(2, 0, inner_) * at::gelu(both.narrow(2, inner_, inner_)), other);
}

// ---- Transformer2d ----

Transformer2d::Transformer2d(const Builder& builder, const std::string& key,
                             const TransformerShape& shape)
    : norm_(builder.weights, key + ".norm", shape.channels, shape.groups, group_norm_eps,
            builder.placement),
      proj_in_(builder, key + ".proj_in", shape.channels, shape.channels, true,
               shape.conv_projections),
      proj_out_(builder, key + ".proj_out", shape.channels, shape.channels, true,
                shape.conv_projections) {
    for (std::int64_t i = 0; i < shape.layers; ++i) {
        const std::string block = fmt::format("{}.transformer_blocks.{}", key, i);
        const auto norm = [&](const char* name) {
            return LayerNorm(builder.weights, block + name, shape.channels, layer_norm_eps,
                             builder.placement);
        };
        blocks_.push_back(
            {.norm1 = norm(".norm1"),
             .norm2 = norm(".norm2"),
             .norm3 = norm(".norm3"),
             .attn1 = {builder, block + ".attn1", shape.channels, shape.heads, 0},
             .attn2 = {builder, block + ".attn2", shape.channels, shape.heads, shape.context},
             .ff = {builder, block + ".ff", shape.channels}});
    }
}

void Transformer2d::fix_context(const at::Tensor& context) {
    for (Block& block : blocks_) block.attn2.fix_context(context);
}

at::Tensor Transformer2d::operator()(const at::Tensor& x, const at::Tensor& context,
                                     const Taps& taps, const std::string& name) const {
    // Pixels of a channels-last map are tokens as they lie
    const std::int64_t n = x.size(0), height = x.size(2), width = x.size(3);
    const auto as_tokens = [](const at::Tensor& map) {
        return map.permute({0, 2, 3, 1}).flatten(1, 2);
    };
    at::Tensor tokens = proj_in_(as_tokens(norm_(x)));
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
        const Block& block = blocks_[i];
        const std::string at = taps ? fmt::format("{}.transformer_blocks.{}", name, i) : "";
        const at::Tensor norm1 = block.norm1(tokens);
        tell(taps, at + ".norm1", norm1);
        tokens = block.attn1.add(norm1, {}, tokens, taps, at + ".attn1");
        const at::Tensor norm2 = block.norm2(tokens);
        tell(taps, at + ".norm2", norm2);
        tokens = block.attn2.add(norm2, context, tokens, taps, at + ".attn2");
        const at::Tensor norm3 = block.norm3(tokens);
        tell(taps, at + ".norm3", norm3);
        const at::Tensor after = block.ff.add(norm3, tokens);
        tell(taps, at + ".ff", after - tokens);
        tell(taps, at, after);
        tokens = after;
    }
    const at::Tensor result = proj_out_.add(tokens, as_tokens(x));
    return result.view({n, height, width, -1}).permute({0, 3, 1, 2});
}

}  // namespace ultrasr
