#include "models/text/text_encoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "models/layers/config_reader.h"

namespace ultrasr {

TextEncoderConfig TextEncoderConfig::from_json(const Json& json, std::string_view what) {
    const ConfigReader config(json, what);
    config.demand_text("model_type", {"clip_text_model"});
    config.demand_text("hidden_act", {"gelu", "quick_gelu"});
    TextEncoderConfig c;
    c.vocab_size = config.integer("vocab_size", 49408);
    c.hidden_size = config.integer("hidden_size", 512);
    c.intermediate_size = config.integer("intermediate_size", 2048);
    c.num_hidden_layers = config.integer("num_hidden_layers", 12);
    c.num_attention_heads = config.integer("num_attention_heads", 8);
    c.max_position_embeddings = config.integer("max_position_embeddings", 77);
    c.layer_norm_eps = config.number("layer_norm_eps", 1e-5);
    c.hidden_act = config.has("hidden_act") && json.at("hidden_act") == "gelu"
                       ? Activation::gelu
                       : Activation::quick_gelu;
    require(c.hidden_size % c.num_attention_heads == 0,
            "{}: \"hidden_size\" is {}; supported: multiples of \"num_attention_heads\", {}", what,
            c.hidden_size, c.num_attention_heads);
    return c;
}

TextEncoder::TextEncoder(StateDict& weights, const TextEncoderConfig& config,
                         const Placement& placement)
    : config_(config), placement_(placement) {
    const std::int64_t width = config.hidden_size;
    const bool bare = weights.contains("embeddings.token_embedding.weight");
    const std::string model = bare ? "" : "text_model.";
    weights.ignore(model + "embeddings.position_ids");
    token_embedding_ =
        weights.take(model + "embeddings.token_embedding.weight", {config.vocab_size, width});
    position_embedding_ = weights
                              .take(model + "embeddings.position_embedding.weight",
                                    {config.max_position_embeddings, width})
                              .to(placement.device, placement.dtype);
    for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
        layers_.push_back(take_layer(weights, fmt::format("{}encoder.layers.{}.", model, i)));
    }
    final_layer_norm_ =
        LayerNorm(weights, model + "final_layer_norm", width, config.layer_norm_eps, placement);
}

TextEncoder::Layer TextEncoder::take_layer(StateDict& weights, const std::string& key) const {
    const std::int64_t width = config_.hidden_size;
    const auto linear = [&](const char* name, std::int64_t out, std::int64_t in) {
        return take_linear(weights, key + name, out, in, true, placement_);
    };
    const auto norm = [&](const char* name) {
        return LayerNorm(weights, key + name, width, config_.layer_norm_eps, placement_);
    };
    const auto stacked = [&](const char* ending, at::IntArrayRef shape) {
        const auto part = [&](const char* name) {
            return weights.take(fmt::format("{}self_attn.{}.{}", key, name, ending), shape);
        };
        const at::Tensor q = part("q_proj"), k = part("k_proj");
        return at::cat({q, k, part("v_proj")});
    };
    return {.layer_norm1 = norm("layer_norm1"),
            .layer_norm2 = norm("layer_norm2"),
            .qkv = Linear(stacked("weight", {width, width}), stacked("bias", {width}), placement_),
            .out_proj = linear("self_attn.out_proj", width, width),
            .fc1 = linear("mlp.fc1", config_.intermediate_size, width),
            .fc2 = linear("mlp.fc2", width, config_.intermediate_size)};
}

at::Tensor TextEncoder::embed(const std::vector<std::vector<std::int64_t>>& prompts) const {
    require(!prompts.empty(), "the text encoder was given no prompt");
    std::vector<std::int64_t> ids;
    const std::size_t length = prompts.front().size();
    for (const auto& prompt : prompts) {
        require(prompt.size() == length, "the prompts of a batch have {} and {} tokens", length,
                prompt.size());
        for (const std::int64_t id : prompt) {
            require(id >= 0 && id < config_.vocab_size,
                    "token id {} lies outside the text encoder's {} tokens; tokenizer and text "
                    "encoder belong to different models",
                    id, config_.vocab_size);
        }
        ids.insert(ids.end(), prompt.begin(), prompt.end());
    }
    const auto t = static_cast<std::int64_t>(length);
    require(t >= 1 && t <= config_.max_position_embeddings,
            "a prompt has {} tokens, the text encoder takes 1 to {}; tokenizer and text encoder "
            "belong to different models",
            t, config_.max_position_embeddings);
    const at::Tensor index = at::tensor(ids, at::kLong);
    const at::Tensor rows = token_embedding_.index_select(0, index.to(token_embedding_.device()));
    return rows.view({-1, t, config_.hidden_size}).to(placement_.device, placement_.dtype) +
           position_embedding_.narrow(0, 0, t);
}

at::Tensor TextEncoder::run(const Layer& layer, const at::Tensor& x) const {
    // Attend, looking back only
    const std::int64_t n = x.size(0), t = x.size(1), heads = config_.num_attention_heads;
    const at::Tensor qkv =
        layer.qkv(layer.layer_norm1(x)).view({n, t, 3, heads, config_.hidden_size / heads});
    const auto part = [&](std::int64_t i) { return qkv.select(2, i).transpose(1, 2); };
    const at::Tensor attended =
        at::scaled_dot_product_attention(part(0), part(1), part(2), {}, 0.0, /*is_causal=*/true)
            .transpose(1, 2)
            .reshape({n, t, config_.hidden_size});
    const at::Tensor y = layer.out_proj.add(attended, x);

    // Think about each token
    const at::Tensor normed = layer.layer_norm2(y);
    if (config_.hidden_act == TextEncoderConfig::Activation::gelu) {
        return layer.fc2.add(layer.fc1.gelu(normed), y);
    }
    const at::Tensor hidden = layer.fc1(normed);
    return layer.fc2.add(hidden * at::sigmoid(1.702 * hidden), y);
}

at::Tensor TextEncoder::operator()(const std::vector<std::vector<std::int64_t>>& prompts,
                                   const Taps& taps) const {
    const auto tell = [&](const std::string& name, const at::Tensor& value) {
        if (taps) taps(name, value);
    };
    at::Tensor x = embed(prompts);
    tell("embeddings", x);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        x = run(layers_[i], x);
        tell(fmt::format("encoder.layers.{}", i), x);
    }
    x = final_layer_norm_(x);
    tell("final_layer_norm", x);
    return x;
}

}  // namespace ultrasr
