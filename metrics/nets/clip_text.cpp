#include "metrics/nets/clip_text.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>

#include "data/base/error.h"

namespace ultrasr {
namespace {

constexpr std::int64_t heads = 8;
constexpr std::int64_t vocabulary = 49408;
constexpr double layer_norm_eps = 1e-5;

/// Hendrycks and Gimpel's cheap approximation of the GELU, which CLIP was trained with.
at::Tensor quick_gelu(const at::Tensor& x) { return x * at::sigmoid(1.702 * x); }

}  // namespace

ClipText::ClipText(StateDict& weights, const Placement& placement)
    : placement_{.device = placement.device} {
    const auto take = [&](const std::string& name, at::IntArrayRef shape) {
        return weights.take(name, shape).to(placement_.device);
    };
    const auto norm = [&](const std::string& key) {
        return Norm{take(key + ".weight", {width}), take(key + ".bias", {width})};
    };
    token_embedding_ = weights.take("token_embedding.weight", {vocabulary, width});
    positional_embedding_ = take("positional_embedding", {context, width});
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
        const std::string key = fmt::format("transformer.resblocks.{}.", i);
        const auto linear = [&](const char* name, std::int64_t out, std::int64_t in) {
            return take_linear(weights, key + name, out, in, true, placement_);
        };
        blocks_[i] = {
            .ln_1 = norm(key + "ln_1"),
            .ln_2 = norm(key + "ln_2"),
            .in_proj = Linear(weights.take(key + "attn.in_proj_weight", {3 * width, width}),
                              weights.take(key + "attn.in_proj_bias", {3 * width}), placement_),
            .out_proj = linear("attn.out_proj", width, width),
            .c_fc = linear("mlp.c_fc", 4 * width, width),
            .c_proj = linear("mlp.c_proj", width, 4 * width)};
    }
    ln_final_ = norm("ln_final");
    text_projection_ = take("text_projection", {width, features});
}

at::Tensor ClipText::Norm::operator()(const at::Tensor& x) const {
    return at::layer_norm(x, {width}, weight, bias, layer_norm_eps);
}

at::Tensor ClipText::Block::operator()(const at::Tensor& x) const {
    const std::int64_t n = x.size(0), t = x.size(1);
    const at::Tensor qkv = in_proj(ln_1(x)).view({n, t, 3, heads, width / heads});
    const auto part = [&](std::int64_t i) { return qkv.select(2, i).transpose(1, 2); };
    const at::Tensor attended =
        at::scaled_dot_product_attention(part(0), part(1), part(2), {}, 0.0, /*is_causal=*/true)
            .transpose(1, 2)
            .reshape({n, t, width});
    const at::Tensor y = out_proj.add(attended, x);
    return c_proj.add(quick_gelu(c_fc(ln_2(y))), y);
}

at::Tensor ClipText::embed(std::span<const std::int64_t> ids) const {
    const at::Tensor index =
        at::tensor(at::ArrayRef<std::int64_t>(ids.data(), ids.size()), at::kLong);
    return token_embedding_.index_select(0, index).to(placement_.device);
}

at::Tensor ClipText::forward(const std::vector<at::Tensor>& prompts) const {
    // Fill up to the longest: a token looks back only, so no prompt sees its filling
    std::int64_t longest = 0;
    for (const at::Tensor& prompt : prompts) longest = std::max(longest, prompt.size(0));
    require(longest <= context, "a prompt has {} tokens, CLIP takes {}", longest, context);
    at::Tensor x = at::zeros({static_cast<std::int64_t>(prompts.size()), longest, width},
                             positional_embedding_.options());
    for (std::size_t i = 0; i < prompts.size(); ++i) {
        x[static_cast<std::int64_t>(i)].narrow(0, 0, prompts[i].size(0)).copy_(prompts[i]);
    }
    x = x + positional_embedding_.narrow(0, 0, longest);
    for (const Block& block : blocks_) x = block(x);

    // Read each prompt at its end
    std::vector<at::Tensor> ends;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
        ends.push_back(x[static_cast<std::int64_t>(i)][prompts[i].size(0) - 1]);
    }
    return at::matmul(ln_final_(at::stack(ends)), text_projection_);
}

}  // namespace ultrasr
