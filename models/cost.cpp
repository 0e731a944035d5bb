#include "models/cost.h"

#include <functional>
#include <string_view>

#include "data/base/error.h"
#include "models/text/text_encoder.h"
#include "models/unet.h"
#include "models/vae.h"

namespace ultrasr {
namespace {

/// "down_blocks.2.resnets.0..." with prefix "down_blocks." is 2.
std::int64_t number_behind(std::string_view name, std::string_view prefix) {
    std::int64_t number = 0;
    for (const char c : name.substr(prefix.size())) {
        if (c < '0' || c > '9') break;
        number = 10 * number + (c - '0');
    }
    return number;
}

bool contains(std::string_view name, std::string_view part) {
    return name.find(part) != std::string_view::npos;
}

/// The level (0: the largest maps) of a layer's output in a network that goes down and up again.
/// Layers outside the blocks stand on level `outside`.
std::int64_t level_of(std::string_view name, std::int64_t levels, std::int64_t outside) {
    if (name.starts_with("down_blocks.")) {
        return number_behind(name, "down_blocks.") + (contains(name, "downsamplers.") ? 1 : 0);
    }
    if (name.starts_with("up_blocks.")) {
        const std::int64_t level = levels - 1 - number_behind(name, "up_blocks.");
        return level - (contains(name, "upsamplers.") ? 1 : 0);
    }
    return name.starts_with("mid_block.") ? levels - 1 : outside;
}

std::int64_t numel(const std::vector<std::int64_t>& shape) {
    std::int64_t n = 1;
    for (const std::int64_t side : shape) n *= side;
    return n;
}

/// Adds what tensors of one part cost: `places` says on how many pixels the layer works.
void add_layers(PartCost& cost, const Shapes& tensors, std::string_view prefix,
                const std::function<std::int64_t(std::string_view name)>& places) {
    for (const auto& [full_name, shape] : tensors) {
        if (!full_name.starts_with(prefix)) continue;
        const std::string_view name = std::string_view(full_name).substr(prefix.size());
        cost.parameters += numel(shape);
        if (shape.size() == 4) cost.convolutions += numel(shape) * places(name);
        if (shape.size() == 2) cost.linear += numel(shape) * places(name);
    }
}

/// The VAE's encoder or decoder.
PartCost vae_part(const VaeConfig& config, std::int64_t height, std::int64_t width,
                  const char* name, const char* prefix, const char* latent_conv,
                  const char* picture_conv) {
    const auto levels = static_cast<std::int64_t>(config.block_out_channels.size());
    const auto pixels = [&](std::int64_t level) { return (height >> level) * (width >> level); };
    const std::int64_t latents = pixels(levels - 1);
    const Shapes tensors = Vae::tensor_shapes(config);
    PartCost cost{.name = name};
    add_layers(cost, tensors, prefix, [&](std::string_view layer) {
        const bool on_picture = layer.starts_with(picture_conv);
        return pixels(level_of(layer, levels, on_picture ? 0 : levels - 1));
    });
    add_layers(cost, tensors, latent_conv, [&](std::string_view) { return latents; });
    if (config.mid_attention) {
        cost.self_attention = 2 * latents * latents * config.block_out_channels.back();
    }
    return cost;
}

}  // namespace

std::int64_t Cost::parameters() const {
    std::int64_t sum = 0;
    for (const PartCost& part : parts) sum += part.parameters;
    return sum;
}

std::int64_t Cost::macs() const {
    std::int64_t sum = 0;
    for (const PartCost& part : parts) sum += part.once ? 0 : part.macs();
    return sum;
}

std::int64_t Cost::layers() const {
    std::int64_t sum = 0;
    for (const PartCost& part : parts) sum += part.once ? 0 : part.layers();
    return sum;
}

PartCost unet_cost(const UNetConfig& config, std::int64_t height, std::int64_t width,
                   std::int64_t tokens) {
    const auto levels = static_cast<std::int64_t>(config.block_out_channels.size());
    const auto pixels = [&](std::int64_t level) {
        // A convolution of stride 2 with padding on both sides rounds up
        const auto halved = [&](std::int64_t side) {
            for (std::int64_t i = 0; i < level; ++i) side = (side + 1) / 2;
            return side;
        };
        return halved(height) * halved(width);
    };
    const Shapes tensors = UNet::tensor_shapes(config);
    PartCost cost{.name = "unet"};
    add_layers(cost, tensors, "", [&](std::string_view name) -> std::int64_t {
        if (contains(name, "time_emb")) return 1;  // time_embedding, time_emb_proj
        if (contains(name, "attn2.to_k.") || contains(name, "attn2.to_v.")) return 0;
        return pixels(level_of(name, levels, 0));
    });
    for (const auto& [name, shape] : tensors) {
        if (contains(name, "attn2.to_k.") || contains(name, "attn2.to_v.")) {
            cost.context += numel(shape) * tokens;
        }
        // A query's width is the heads' together: two products of it with every key and value
        const std::int64_t queries = pixels(level_of(name, levels, 0));
        if (contains(name, "attn1.to_q.")) {
            cost.self_attention += 2 * queries * queries * shape.front();
        }
        if (contains(name, "attn2.to_q.")) {
            cost.cross_attention += 2 * queries * tokens * shape.front();
        }
    }
    return cost;
}

PartCost vae_encoder_cost(const VaeConfig& config, std::int64_t height, std::int64_t width) {
    return vae_part(config, height, width, "encode", "encoder.", "quant_conv.", "conv_in.");
}

PartCost vae_decoder_cost(const VaeConfig& config, std::int64_t height, std::int64_t width) {
    return vae_part(config, height, width, "decode", "decoder.", "post_quant_conv.", "conv_out.");
}

PartCost text_encoder_cost(const TextEncoderConfig& c) {
    const std::int64_t d = c.hidden_size, tokens = c.max_position_embeddings;
    const std::int64_t matrices = 4 * d * d + 2 * d * c.intermediate_size;
    const std::int64_t biases = 4 * d + c.intermediate_size + d, norms = 4 * d;
    return {.name = "text",
            .parameters = c.vocab_size * d + tokens * d +
                          c.num_hidden_layers * (matrices + biases + norms) + 2 * d,
            .linear = c.num_hidden_layers * matrices * tokens,
            .self_attention = c.num_hidden_layers * 2 * tokens * tokens * d};
}

}  // namespace ultrasr
