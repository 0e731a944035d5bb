#include "models/unet.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/sin.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "data/base/error.h"
#include "models/layers/config_reader.h"
#include "models/layers/norm_silu.h"
#include "models/layers/resnet_block.h"
#include "models/layers/transformer.h"

namespace ultrasr {

UNetConfig UNetConfig::from_json(const Json& json, std::string_view what) {
    const ConfigReader config(json, what);
    UNetConfig c;
    config.demand_text("_class_name", {"UNet2DConditionModel"});
    config.demand_text("act_fn", {"silu"});
    config.demand_text("mid_block_type", {"UNetMidBlock2DCrossAttn"});
    config.demand_text("time_embedding_type", {"positional"});
    config.demand_text("resnet_time_scale_shift", {"default"});
    for (const char* key : {"center_input_sample", "only_cross_attention", "dual_cross_attention",
                            "class_embeddings_concat", "resnet_skip_time_act"}) {
        config.demand_false(key);
    }
    for (const char* key :
         {"class_embed_type", "addition_embed_type", "encoder_hid_dim", "encoder_hid_dim_type",
          "num_class_embeds", "time_cond_proj_dim", "timestep_post_act", "time_embedding_dim",
          "time_embedding_act_fn", "cross_attention_norm", "mid_block_only_cross_attention",
          "reverse_transformer_layers_per_block"}) {
        config.demand_nothing(key);
    }
    config.demand_number("mid_block_scale_factor", 1.0);
    config.demand_number("downsample_padding", 1.0);
    config.demand_number("conv_in_kernel", 3.0);
    config.demand_number("conv_out_kernel", 3.0);
    config.demand_number("dropout", 0.0);

    c.in_channels = config.integer("in_channels", c.in_channels);
    c.out_channels = config.integer("out_channels", c.out_channels);
    c.block_out_channels = config.integers("block_out_channels", c.block_out_channels);
    const std::size_t levels = c.block_out_channels.size();
    c.down_attention = config.kinds("down_block_types", levels, "CrossAttnDownBlock2D",
                                    "DownBlock2D", c.down_attention);
    c.up_attention =
        config.kinds("up_block_types", levels, "CrossAttnUpBlock2D", "UpBlock2D", c.up_attention);
    // diffusers' naming: attention_head_dim counts heads unless num_attention_heads says otherwise
    const char* heads =
        config.has("num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
    c.heads = config.integers_each(heads, levels, 8);
    c.layers_per_block = config.integers_each("layers_per_block", levels, 2);
    c.transformer_layers = config.integers_each("transformer_layers_per_block", levels, 1);
    c.cross_attention_dim = config.integer("cross_attention_dim", 1280);
    c.norm_groups = config.integer("norm_num_groups", 32);
    c.norm_eps = config.number("norm_eps", 1e-5);
    c.linear_projection = config.flag("use_linear_projection", false);
    c.flip_sin_to_cos = config.flag("flip_sin_to_cos", true);
    c.freq_shift = config.number("freq_shift", 0.0);
    for (std::size_t i = 0; i < levels; ++i) {
        require(c.block_out_channels[i] % c.heads[i] == 0,
                "{}: level {} has {} channels, which do not divide into {} attention heads", what,
                i, c.block_out_channels[i], c.heads[i]);
    }
    return c;
}

namespace {

/// DownBlock2D, CrossAttnDownBlock2D, their twins going up, and the middle: resnets, each with a
/// transformer behind it where the block has attention.
struct Level {
    std::vector<ResnetBlock> resnets;
    std::vector<Transformer2d> attentions;
    std::optional<Downsample> down;
    std::optional<Upsample> up;
};

void tell(const Taps& taps, const std::string& name, const at::Tensor& value) {
    if (taps) taps(name, value);
}

/// The sinusoids of timesteps, [N] float32, as N x width. Vaswani et al. 2017; computed in float32
/// as diffusers does.
at::Tensor sinusoids(const at::Tensor& t, std::int64_t width, const UNetConfig& config) {
    const std::int64_t half = width / 2;
    const at::Tensor f =
        at::exp(-std::log(10000.0) * at::arange(half, at::TensorOptions().dtype(at::kFloat)) /
                (static_cast<double>(half) - config.freq_shift));
    const at::Tensor angle = t.unsqueeze(1) * f;
    return config.flip_sin_to_cos ? at::cat({at::cos(angle), at::sin(angle)}, 1)
                                  : at::cat({at::sin(angle), at::cos(angle)}, 1);
}

at::Tensor one_timestep(std::int64_t t) {
    return at::full({1}, t, at::TensorOptions().dtype(at::kFloat));
}

}  // namespace

struct UNet::Net {
    UNetConfig config;
    Placement placement, exact;
    AdaptedConv conv_in;
    std::optional<Linear> time_1, time_2;  ///< empty after fix_timestep()
    bool fixed_prompt = false;
    std::vector<Level> down_blocks, up_blocks;
    Level mid_block;
    StripConv tail;  ///< conv_norm_out, SiLU, conv_out
    BlockRunner runner;

    Net(const Builder& builder, const UNetConfig& c);
    at::Tensor silu_time(const at::Tensor& t, const Taps& taps) const;

    /// Resnet j of a level and its transformer. h is given away. key: the level's name, for taps.
    at::Tensor unit(const Level& level, std::size_t j, at::Tensor h, const at::Tensor& time,
                    const at::Tensor& prompt, const Taps& taps, const std::string& key) const;
};

UNet::Net::Net(const Builder& builder, const UNetConfig& c)
    : config(c), placement(builder.placement), exact(builder.placement) {
    exact.dtype = at::kFloat;
    exact.emulated = false;
    const Builder exact_builder{builder.weights, exact, builder.adapters};
    const std::vector<std::int64_t>& channels = c.block_out_channels;
    const std::size_t levels = channels.size();
    const std::int64_t time_channels = 4 * channels.front();
    const ConvShape same{.padding = {1, 1}};

    conv_in = AdaptedConv(exact_builder, "conv_in", channels.front(), c.in_channels, 3, same);
    time_1 = take_linear(builder.weights, "time_embedding.linear_1", time_channels,
                         channels.front(), true, exact);
    time_2 = take_linear(builder.weights, "time_embedding.linear_2", time_channels, time_channels,
                         true, exact);

    const auto resnet = [&](const std::string& key, std::int64_t in, std::int64_t out) {
        return ResnetBlock(builder, key,
                           {.in = in,
                            .out = out,
                            .groups = c.norm_groups,
                            .eps = c.norm_eps,
                            .time_channels = time_channels});
    };
    const auto transformer = [&](const std::string& key, std::size_t i) {
        return Transformer2d(builder, key,
                             {.channels = channels[i],
                              .heads = c.heads[i],
                              .context = c.cross_attention_dim,
                              .layers = c.transformer_layers[i],
                              .groups = c.norm_groups,
                              .conv_projections = !c.linear_projection});
    };

    // Down; what each step leaves for the way up
    std::vector<std::int64_t> skips{channels.front()};
    std::int64_t width = channels.front();
    for (std::size_t i = 0; i < levels; ++i) {
        const std::string key = fmt::format("down_blocks.{}", i);
        Level& block = down_blocks.emplace_back();
        for (std::int64_t j = 0; j < c.layers_per_block[i]; ++j) {
            block.resnets.push_back(
                resnet(fmt::format("{}.resnets.{}", key, j), width, channels[i]));
            width = channels[i];
            if (c.down_attention[i]) {
                block.attentions.push_back(transformer(fmt::format("{}.attentions.{}", key, j), i));
            }
            skips.push_back(width);
        }
        if (i + 1 < levels) {
            block.down.emplace(builder, key + ".downsamplers.0", width,
                               Downsample::Padding::symmetric);
            skips.push_back(width);
        }
    }

    mid_block.resnets.push_back(resnet("mid_block.resnets.0", width, width));
    mid_block.attentions.push_back(transformer("mid_block.attentions.0", levels - 1));
    mid_block.resnets.push_back(resnet("mid_block.resnets.1", width, width));

    // Up; levels run backwards
    for (std::size_t i = 0; i < levels; ++i) {
        const std::size_t at = levels - 1 - i;
        const std::string key = fmt::format("up_blocks.{}", i);
        Level& block = up_blocks.emplace_back();
        for (std::int64_t j = 0; j <= c.layers_per_block[at]; ++j) {
            const std::int64_t skip = skips.back();
            skips.pop_back();
            block.resnets.push_back(
                resnet(fmt::format("{}.resnets.{}", key, j), width + skip, channels[at]));
            width = channels[at];
            if (c.up_attention[i]) {
                block.attentions.push_back(
                    transformer(fmt::format("{}.attentions.{}", key, j), at));
            }
        }
        if (i + 1 < levels) block.up.emplace(builder, key + ".upsamplers.0", width);
    }

    tail = StripConv(
        GroupNorm2d(builder.weights, "conv_norm_out", width, c.norm_groups, c.norm_eps, exact),
        AdaptedConv(exact_builder, "conv_out", c.out_channels, width, 3, same), at::kFloat);
}

at::Tensor UNet::Net::unit(const Level& level, std::size_t j, at::Tensor h, const at::Tensor& time,
                           const at::Tensor& prompt, const Taps& taps,
                           const std::string& key) const {
    const ResnetBlock* resnet = &level.resnets[j];
    const Transformer2d* attention = j < level.attentions.size() ? &level.attentions[j] : nullptr;
    if (runner && !taps && c10::GradMode::is_enabled()) {
        const Block block = [resnet, attention](at::ArrayRef<at::Tensor> in) {
            const at::Tensor x = (*resnet)(in[0].clone(), in[1]);
            return attention ? (*attention)(x, in[2], {}, "") : x;
        };
        return runner(block, {std::move(h), time, prompt});
    }
    h = (*resnet)(std::move(h), time);
    if (taps) taps(fmt::format("{}.resnets.{}", key, j), h);
    if (attention) {
        const std::string name = taps ? fmt::format("{}.attentions.{}", key, j) : "";
        h = (*attention)(h, prompt, taps, name);
        tell(taps, name, h);
    }
    return h;
}

at::Tensor UNet::Net::silu_time(const at::Tensor& t, const Taps& taps) const {
    if (!time_1) return {};
    const at::Tensor waves =
        sinusoids(t, config.block_out_channels.front(), config).to(placement.device);
    tell(taps, "time_proj", waves);
    const at::Tensor time = (*time_2)(at::silu((*time_1)(waves)));
    tell(taps, "time_embedding", time);
    return at::silu(time);
}

UNet::UNet(StateDict& weights, const UNetConfig& config, const Placement& placement,
           AdapterTable* adapters)
    : net_(std::make_unique<Net>(Builder{weights, placement, adapters}, config)) {}
UNet::~UNet() = default;
UNet::UNet(UNet&&) noexcept = default;
UNet& UNet::operator=(UNet&&) noexcept = default;

const UNetConfig& UNet::config() const { return net_->config; }

Shapes UNet::tensor_shapes(const UNetConfig& config) {
    return shapes_taken([&](StateDict& weights, const Placement& nowhere) {
        const UNet net(weights, config, nowhere);
    });
}

void UNet::fix_timestep(std::int64_t t) {
    const at::Tensor time = net_->silu_time(one_timestep(t), {});
    const auto fix = [&](std::vector<ResnetBlock>& resnets) {
        for (ResnetBlock& resnet : resnets) resnet.fix_time(time);
    };
    for (Level& level : net_->down_blocks) fix(level.resnets);
    fix(net_->mid_block.resnets);
    for (Level& level : net_->up_blocks) fix(level.resnets);
    net_->time_1.reset();
    net_->time_2.reset();
}

void UNet::fix_prompt(const at::Tensor& context) {
    const at::Tensor c = context.to(net_->placement.device, net_->placement.dtype);
    const auto fix = [&](std::vector<Transformer2d>& attentions) {
        for (Transformer2d& attention : attentions) attention.fix_context(c);
    };
    for (Level& level : net_->down_blocks) fix(level.attentions);
    fix(net_->mid_block.attentions);
    for (Level& level : net_->up_blocks) fix(level.attentions);
    net_->fixed_prompt = true;
}

void UNet::run_blocks_by(BlockRunner runner) { net_->runner = std::move(runner); }

at::Tensor UNet::forward(const at::Tensor& z, std::int64_t t, const at::Tensor& context,
                         const Taps& taps) const {
    return forward(z, one_timestep(t), context, taps);
}

at::Tensor UNet::forward(const at::Tensor& z, const at::Tensor& t, const at::Tensor& context,
                         const Taps& taps) const {
    const Net& net = *net_;
    require(z.dim() == 4 && z.size(1) == net.config.in_channels,
            "the UNet takes latents of {} channels, these have {}", net.config.in_channels,
            z.dim() == 4 ? z.size(1) : 0);
    const at::Tensor prompt =
        net.fixed_prompt ? at::Tensor() : context.to(net.placement.device, net.placement.dtype);
    require(t.dim() == 1 && (t.size(0) == 1 || t.size(0) == z.size(0)),
            "{} timesteps for {} latents", t.numel(), z.size(0));
    const at::Tensor time = net.silu_time(t.to(at::kCPU, at::kFloat), taps);

    at::Tensor h = net.conv_in(to_activation(z, net.exact));
    tell(taps, "conv_in", h);
    h = to_activation(h, net.placement);
    std::vector<at::Tensor> skips{h};

    for (std::size_t i = 0; i < net.down_blocks.size(); ++i) {
        const Level& block = net.down_blocks[i];
        const std::string key = taps ? fmt::format("down_blocks.{}", i) : "";
        for (std::size_t j = 0; j < block.resnets.size(); ++j) {
            h = net.unit(block, j, h.clone(), time, prompt, taps, key);
            skips.push_back(h);
        }
        if (block.down) {
            h = (*block.down)(h);
            if (taps) taps(key + ".downsamplers.0", h);
            skips.push_back(h);
        }
        tell(taps, key, h);
    }

    h = net.unit(net.mid_block, 0, h.clone(), time, prompt, taps, "mid_block");
    h = net.unit(net.mid_block, 1, std::move(h), time, prompt, taps, "mid_block");
    tell(taps, "mid_block", h);

    for (std::size_t i = 0; i < net.up_blocks.size(); ++i) {
        const Level& block = net.up_blocks[i];
        const std::string key = taps ? fmt::format("up_blocks.{}", i) : "";
        for (std::size_t j = 0; j < block.resnets.size(); ++j) {
            h = at::cat({h, skips.back()}, 1).contiguous(at::MemoryFormat::ChannelsLast);
            skips.pop_back();
            h = net.unit(block, j, std::move(h), time, prompt, taps, key);
        }
        if (block.up) {
            // To the size of what the way down left; odd sizes do not double
            h = (*block.up)(h, skips.back().size(2), skips.back().size(3));
            if (taps) taps(key + ".upsamplers.0", h);
        }
        tell(taps, key, h);
    }

    if (taps) taps("conv_norm_out", net.tail.normed(h));
    const at::Tensor result = net.tail(h);
    tell(taps, "conv_out", result);
    return result;
}

}  // namespace ultrasr
