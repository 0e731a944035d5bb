#include "models/vae.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/exp.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <optional>

#include "data/base/error.h"
#include "data/tensor/attention.h"
#include "models/layers/config_reader.h"
#include "models/layers/norm_silu.h"
#include "models/layers/resnet_block.h"

namespace ultrasr {

VaeConfig VaeConfig::from_json(const Json& json, std::string_view what) {
    const ConfigReader config(json, what);
    VaeConfig c;
    config.demand_text("_class_name", {"AutoencoderKL"});
    config.demand_text("act_fn", {"silu"});
    config.demand_nothing("latents_mean");
    config.demand_nothing("latents_std");
    c.in_channels = config.integer("in_channels", 3);
    c.out_channels = config.integer("out_channels", 3);
    c.latent_channels = config.integer("latent_channels", 4);
    c.block_out_channels = config.integers("block_out_channels", {64});
    const std::size_t levels = c.block_out_channels.size();
    const std::vector<bool> plain(levels, true);
    config.kinds("down_block_types", levels, "DownEncoderBlock2D", "DownEncoderBlock2D", plain);
    config.kinds("up_block_types", levels, "UpDecoderBlock2D", "UpDecoderBlock2D", plain);
    c.layers_per_block = config.integer("layers_per_block", 1);
    c.norm_groups = config.integer("norm_num_groups", 32);
    c.scaling_factor = config.number("scaling_factor", 0.18215);
    c.shift_factor = config.number("shift_factor", 0.0);
    c.quant_conv = config.flag("use_quant_conv", true);
    c.post_quant_conv = config.flag("use_post_quant_conv", true);
    c.mid_attention = config.flag("mid_block_add_attention", true);
    require(c.scaling_factor > 0.0, "{}: \"scaling_factor\" is {}; it is a positive number", what,
            c.scaling_factor);
    return c;
}

namespace {

constexpr double norm_eps = 1e-6;  // fixed in diffusers' AutoencoderKL
const ConvShape same_3x3{.padding = {1, 1}};

void tell(const Taps& taps, const std::string& name, const at::Tensor& value) {
    if (taps) taps(name, value);
}

/// One head as wide as the map has channels, over all its pixels.
class MidAttention {
  public:
    MidAttention(const Builder& builder, const std::string& key, std::int64_t channels,
                 std::int64_t groups)
        : placement_(builder.placement),
          norm_(builder.weights, key + ".group_norm", channels, groups, norm_eps,
                builder.placement),
          to_q_(builder, key + ".to_q", channels, channels, true),
          to_k_(builder, key + ".to_k", channels, channels, true),
          to_v_(builder, key + ".to_v", channels, channels, true),
          to_out_(builder, key + ".to_out.0", channels, channels, true) {}

    at::Tensor operator()(const at::Tensor& x) const {
        const auto as_tokens = [](const at::Tensor& map) {
            return map.permute({0, 2, 3, 1}).flatten(1, 2);
        };
        const at::Tensor normed = as_tokens(norm_(x));
        const auto one_head = [&](const AdaptedLinear& to) { return to(normed).unsqueeze(2); };
        const at::Tensor attended =
            attention(one_head(to_q_), one_head(to_k_), one_head(to_v_), placement_);
        return to_out_.add(attended, as_tokens(x))
            .view({x.size(0), x.size(2), x.size(3), -1})
            .permute({0, 3, 1, 2});
    }

  private:
    Placement placement_;
    GroupNorm2d norm_;
    AdaptedLinear to_q_, to_k_, to_v_, to_out_;
};

/// resnet, attention, resnet
struct Middle {
    ResnetBlock before, after;
    std::optional<MidAttention> attention;

    Middle(const Builder& builder, const std::string& key, std::int64_t channels,
           const VaeConfig& c) {
        const ResnetShape shape{
            .in = channels, .out = channels, .groups = c.norm_groups, .eps = norm_eps};
        before = ResnetBlock(builder, key + ".resnets.0", shape);
        if (c.mid_attention) {
            attention.emplace(builder, key + ".attentions.0", channels, c.norm_groups);
        }
        after = ResnetBlock(builder, key + ".resnets.1", shape);
    }

    at::Tensor operator()(at::Tensor x, const Taps& taps, const std::string& name) const {
        x = before(std::move(x));
        tell(taps, name + ".resnets.0", x);
        if (attention) {
            x = (*attention)(x);
            tell(taps, name + ".attentions.0", x);
        }
        x = after(std::move(x));
        tell(taps, name + ".resnets.1", x);
        tell(taps, name, x);
        return x;
    }
};

struct Level {
    std::vector<ResnetBlock> resnets;
    std::optional<Downsample> down;
    std::optional<Doubling> up;
};

}  // namespace

struct Vae::Net {
    VaeConfig config;
    Placement placement, exact;

    AdaptedConv encoder_in;
    std::vector<Level> down_blocks;
    Middle encoder_middle;
    StripConv encoder_tail;
    std::optional<AdaptedConv> quant_conv;

    std::optional<AdaptedConv> post_quant_conv;
    AdaptedConv decoder_in;
    Middle decoder_middle;
    std::vector<Level> up_blocks;
    StripConv decoder_tail;
    BlockRunner runner;

    Net(const Builder& builder, const VaeConfig& c);

    /// h is given away.
    at::Tensor run(const ResnetBlock& resnet, at::Tensor h, const Taps& taps) const {
        if (!runner || taps || !c10::GradMode::is_enabled()) return resnet(std::move(h));
        return runner([&resnet](at::ArrayRef<at::Tensor> in) { return resnet(in[0].clone()); },
                      {std::move(h)});
    }
};

Vae::Net::Net(const Builder& builder, const VaeConfig& c)
    : config(c),
      placement(builder.placement),
      exact(builder.placement),
      encoder_in(builder, "encoder.conv_in", c.block_out_channels.front(), c.in_channels, 3,
                 same_3x3),
      encoder_middle(builder, "encoder.mid_block", c.block_out_channels.back(), c),
      decoder_in(builder, "decoder.conv_in", c.block_out_channels.back(), c.latent_channels, 3,
                 same_3x3),
      decoder_middle(builder, "decoder.mid_block", c.block_out_channels.back(), c) {
    exact.dtype = at::kFloat;
    exact.emulated = false;
    const Builder exact_builder{builder.weights, exact, builder.adapters};
    const std::vector<std::int64_t>& channels = c.block_out_channels;
    const std::size_t levels = channels.size();
    const auto resnet = [&](const std::string& key, std::int64_t j, std::int64_t in,
                            std::int64_t out) {
        return ResnetBlock(builder, fmt::format("{}.resnets.{}", key, j),
                           {.in = in, .out = out, .groups = c.norm_groups, .eps = norm_eps});
    };
    const auto tail = [&](const std::string& key, std::int64_t in, std::int64_t out) {
        return StripConv(GroupNorm2d(builder.weights, key + ".conv_norm_out", in, c.norm_groups,
                                     norm_eps, exact),
                         AdaptedConv(exact_builder, key + ".conv_out", out, in, 3, same_3x3),
                         at::kFloat);
    };

    std::int64_t width = channels.front();
    for (std::size_t i = 0; i < levels; ++i) {
        const std::string key = fmt::format("encoder.down_blocks.{}", i);
        Level& block = down_blocks.emplace_back();
        for (std::int64_t j = 0; j < c.layers_per_block; ++j) {
            block.resnets.push_back(resnet(key, j, width, channels[i]));
            width = channels[i];
        }
        if (i + 1 < levels) {
            block.down.emplace(builder, key + ".downsamplers.0", width,
                               Downsample::Padding::bottom_right);
        }
    }
    encoder_tail = tail("encoder", width, 2 * c.latent_channels);
    if (c.quant_conv) {
        quant_conv.emplace(exact_builder, "quant_conv", 2 * c.latent_channels,
                           2 * c.latent_channels, 1, ConvShape{});
    }

    if (c.post_quant_conv) {
        post_quant_conv.emplace(exact_builder, "post_quant_conv", c.latent_channels,
                                c.latent_channels, 1, ConvShape{});
    }
    for (std::size_t i = 0; i < levels; ++i) {
        const std::string key = fmt::format("decoder.up_blocks.{}", i);
        Level& block = up_blocks.emplace_back();
        for (std::int64_t j = 0; j <= c.layers_per_block; ++j) {
            const std::int64_t out = channels[levels - 1 - i];
            block.resnets.push_back(resnet(key, j, width, out));
            width = out;
        }
        if (i + 1 < levels) block.up.emplace(builder, key + ".upsamplers.0", width);
    }
    decoder_tail = tail("decoder", width, c.out_channels);
}

at::Tensor Posterior::sample(const at::Tensor& noise) const {
    return mean + scale * at::exp(0.5 * logvar) * noise.to(mean.device());
}

Vae::Vae(StateDict& weights, const VaeConfig& config, const Placement& placement,
         AdapterTable* adapters)
    : net_(std::make_unique<Net>(Builder{weights, placement, adapters}, config)) {}
Vae::~Vae() = default;
Vae::Vae(Vae&&) noexcept = default;
Vae& Vae::operator=(Vae&&) noexcept = default;

void Vae::run_blocks_by(BlockRunner runner) { net_->runner = std::move(runner); }

const VaeConfig& Vae::config() const { return net_->config; }

Shapes Vae::tensor_shapes(const VaeConfig& config) {
    return shapes_taken([&](StateDict& weights, const Placement& nowhere) {
        const Vae net(weights, config, nowhere);
    });
}

Posterior Vae::encode(const at::Tensor& rgb, const Taps& taps) const {
    const Net& net = *net_;
    const VaeConfig& c = net.config;
    require(rgb.dim() == 4 && rgb.size(1) == c.in_channels && rgb.size(2) % c.factor() == 0 &&
                rgb.size(3) % c.factor() == 0,
            "the VAE takes pictures of {} channels with sides that are multiples of {}",
            c.in_channels, c.factor());
    at::Tensor h = net.encoder_in(to_activation(2.0 * rgb - 1.0, net.placement));
    tell(taps, "encoder.conv_in", h);
    for (std::size_t i = 0; i < net.down_blocks.size(); ++i) {
        const Level& block = net.down_blocks[i];
        const std::string key = taps ? fmt::format("encoder.down_blocks.{}", i) : "";
        for (std::size_t j = 0; j < block.resnets.size(); ++j) {
            h = net.run(block.resnets[j], std::move(h), taps);
            if (taps) taps(fmt::format("{}.resnets.{}", key, j), h);
        }
        if (block.down) {
            h = (*block.down)(h);
            if (taps) taps(key + ".downsamplers.0", h);
        }
    }
    h = net.encoder_middle(std::move(h), taps, "encoder.mid_block");
    if (taps) taps("encoder.conv_norm_out", net.encoder_tail.normed(h));
    h = net.encoder_tail(h);
    tell(taps, "encoder.conv_out", h);
    if (net.quant_conv) h = (*net.quant_conv)(h);
    tell(taps, "quant_conv", h);
    const std::int64_t latent = c.latent_channels;
    return {.mean = ((h.narrow(1, 0, latent) - c.shift_factor) * c.scaling_factor).contiguous(),
            .logvar = at::clamp(h.narrow(1, latent, latent), -30.0, 20.0).contiguous(),
            .scale = c.scaling_factor};
}

at::Tensor Vae::decode(const at::Tensor& z, const Taps& taps) const {
    const Net& net = *net_;
    const VaeConfig& c = net.config;
    require(z.dim() == 4 && z.size(1) == c.latent_channels, "the VAE takes latents of {} channels",
            c.latent_channels);
    at::Tensor h = to_activation(z / c.scaling_factor + c.shift_factor, net.exact);
    if (net.post_quant_conv) h = (*net.post_quant_conv)(h);
    tell(taps, "post_quant_conv", h);
    h = net.decoder_in(to_activation(h, net.placement));
    tell(taps, "decoder.conv_in", h);
    h = net.decoder_middle(std::move(h), taps, "decoder.mid_block");
    std::optional<RowSource> rows;  // a map too large to exist
    for (std::size_t i = 0; i < net.up_blocks.size(); ++i) {
        const Level& block = net.up_blocks[i];
        const std::string key = taps ? fmt::format("decoder.up_blocks.{}", i) : "";
        for (std::size_t j = 0; j < block.resnets.size(); ++j) {
            const ResnetBlock& resnet = block.resnets[j];
            h = rows ? resnet.over_rows(*rows) : net.run(resnet, std::move(h), taps);
            rows.reset();
            if (taps) taps(fmt::format("{}.resnets.{}", key, j), h);
        }
        if (!block.up) continue;
        if (!taps) rows = block.up->rows(h);
        if (!rows) h = (*block.up)(h);
        if (taps) taps(key + ".upsamplers.0", h);
    }
    if (taps) taps("decoder.conv_norm_out", net.decoder_tail.normed(h));
    const at::Tensor x = net.decoder_tail(h);
    tell(taps, "decoder.conv_out", x);
    return x * 0.5 + 0.5;
}

}  // namespace ultrasr
