#include "metrics/nets/swin.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

namespace ultrasr {
namespace {

constexpr double swin_eps = 1e-5;
constexpr std::int64_t hidden = 768;  // of the MLP, whatever the width
constexpr double layer_gain = 0.13;   // of the checkpoint for PIPAL
constexpr float masked = -100.0F;

constexpr std::int64_t grid = Vit::grid, tokens = Vit::tokens;
constexpr std::int64_t window_tokens = swin_window * swin_window;
constexpr std::int64_t windows_across = grid / swin_window;
constexpr std::int64_t windows = windows_across * windows_across;
constexpr std::int64_t offsets = 2 * swin_window - 1;  // -3 ... 3

/// `to` seen from `from`: gathering with it turns the one order into the other.
at::Tensor between(const std::vector<std::int64_t>& from, const std::vector<std::int64_t>& to,
                   const Placement& placement) {
    std::vector<std::int64_t> place_in_from(from.size()), result(to.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
        place_in_from[static_cast<std::size_t>(from[i])] = static_cast<std::int64_t>(i);
    }
    for (std::size_t i = 0; i < to.size(); ++i) {
        result[i] = place_in_from[static_cast<std::size_t>(to[i])];
    }
    return at::tensor(result, at::kLong).to(placement.device);
}

/// Which of three bands of the rolled grid a row or column lies in: 0 before the last window; in
/// the last window 1 for what belongs there, 2 for what was rolled in from the other end.
std::int64_t band(std::int64_t i, std::int64_t shift) {
    return i < grid - swin_window ? 0 : i < grid - shift ? 1 : 2;
}

}  // namespace

std::vector<std::int64_t> swin_window_order(std::int64_t shift) {
    std::vector<std::int64_t> order;
    order.reserve(tokens);
    for (std::int64_t window = 0; window < windows; ++window) {
        for (std::int64_t i = 0; i < window_tokens; ++i) {
            const std::int64_t y = window / windows_across * swin_window + i / swin_window;
            const std::int64_t x = window % windows_across * swin_window + i % swin_window;
            order.push_back((y + shift) % grid * grid + (x + shift) % grid);
        }
    }
    return order;
}

at::Tensor swin_logit_bias(const at::Tensor& table, std::int64_t shift) {
    const std::int64_t heads = table.size(1);
    const std::int64_t count = shift > 0 ? windows : 1;
    at::Tensor bias = at::empty({count, heads, window_tokens, window_tokens}, at::kFloat);
    const at::Tensor rows = table.contiguous();
    const float* from = rows.const_data_ptr<float>();
    float* to = bias.mutable_data_ptr<float>();
    for (std::int64_t window = 0; window < count; ++window) {
        const std::int64_t top = window / windows_across * swin_window;
        const std::int64_t left = window % windows_across * swin_window;
        const auto region = [&](std::int64_t i) {
            return 3 * band(top + i / swin_window, shift) + band(left + i % swin_window, shift);
        };
        for (std::int64_t head = 0; head < heads; ++head) {
            for (std::int64_t q = 0; q < window_tokens; ++q) {
                for (std::int64_t k = 0; k < window_tokens; ++k) {
                    const std::int64_t dy = q / swin_window - k / swin_window;
                    const std::int64_t dx = q % swin_window - k % swin_window;
                    const std::int64_t row =
                        (dy + swin_window - 1) * offsets + dx + swin_window - 1;
                    const bool apart = shift > 0 && region(q) != region(k);
                    *to++ = from[row * heads + head] + (apart ? masked : 0.0F);
                }
            }
        }
    }
    return bias;
}

SwinBlock::SwinBlock(StateDict& weights, const std::string& key, std::int64_t width,
                     std::int64_t shift, const Placement& placement)
    : norm1_(weights, key + "norm1", width, swin_eps, placement),
      qkv_(take_linear(weights, key + "attn.qkv", 3 * width, width, true, placement)),
      proj_(take_linear(weights, key + "attn.proj", width, width, true, placement)),
      bias_(swin_logit_bias(weights.take(key + "attn.relative_position_bias_table",
                                         {offsets * offsets, swin_heads}),
                            shift)
                .to(placement.device, placement.dtype)),
      norm2_(weights, key + "norm2", width, swin_eps, placement),
      fc1_(take_linear(weights, key + "mlp.fc1", hidden, width, true, placement)),
      fc2_(take_linear(weights, key + "mlp.fc2", width, hidden, true, placement)) {
    // Follow from the geometry
    weights.ignore(key + "attn.relative_position_index");
    if (shift > 0) weights.ignore(key + "attn_mask");
}

at::Tensor SwinBlock::operator()(const at::Tensor& x) const {
    // Split into windows and heads: 3 x (N windows) x heads x 16 x width / heads
    const std::int64_t n = x.size(0), width = x.size(2);
    const at::Tensor qkv = qkv_(norm1_(x))
                               .view({n * windows, window_tokens, 3, swin_heads, -1})
                               .permute({2, 0, 3, 1, 4});

    // Attend; the scale is one over the root of a head's width
    const bool repeat = bias_.size(0) > 1 && n > 1;
    const at::Tensor bias = repeat ? bias_.repeat({n, 1, 1, 1}) : bias_;
    const at::Tensor attended =
        at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], bias).transpose(1, 2);

    const at::Tensor y = proj_.add(attended.reshape({n, tokens, width}), x);
    return fc2_.add(fc1_.gelu(norm2_(y)), y);
}

SwinStage::SwinStage(StateDict& weights, const std::string& prefix, std::int64_t width,
                     const Placement& placement) {
    constexpr std::int64_t shift = swin_window / 2;
    for (int i = 0; i < 2; ++i) {
        const std::string key = fmt::format("{}layers.{}.", prefix, i);
        layers_.push_back({SwinBlock(weights, key + "blocks.0.", width, 0, placement),
                           SwinBlock(weights, key + "blocks.1.", width, shift, placement),
                           take_conv(weights, key + "conv", {width, width, 3, 3}, true,
                                     {.padding = {1, 1}}, placement)});
    }

    // Tokens stay in window order through a block
    std::vector<std::int64_t> rows(tokens);
    for (std::int64_t i = 0; i < tokens; ++i) rows[static_cast<std::size_t>(i)] = i;
    const auto straight = swin_window_order(0), shifted = swin_window_order(shift);
    to_straight_ = between(rows, straight, placement);
    to_shifted_ = between(straight, shifted, placement);
    to_grid_ = between(shifted, rows, placement);
}

at::Tensor SwinStage::operator()(const at::Tensor& x) const {
    const std::int64_t n = x.size(0), width = x.size(2);
    at::Tensor result = x;
    for (const Layer& layer : layers_) {
        at::Tensor y = layer.straight(result.index_select(1, to_straight_));
        y = layer.shifted(y.index_select(1, to_shifted_)).index_select(1, to_grid_);
        const at::Tensor picture = y.view({n, grid, grid, width}).permute({0, 3, 1, 2});
        y = layer.conv.relu(picture).permute({0, 2, 3, 1}).reshape({n, tokens, width});
        result = at::add(result, y, layer_gain);
    }
    return result;
}

}  // namespace ultrasr
