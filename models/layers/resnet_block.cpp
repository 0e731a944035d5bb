#include "models/layers/resnet_block.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <algorithm>

namespace ultrasr {
namespace {

const ConvShape same_3x3{.padding = {1, 1}};

StripConv norm_and_conv(const Builder& builder, const std::string& key, const char* number,
                        std::int64_t out, std::int64_t in, const ResnetShape& shape) {
    return {GroupNorm2d(builder.weights, key + ".norm" + number, in, shape.groups, shape.eps,
                        builder.placement),
            AdaptedConv(builder, key + ".conv" + number, out, in, 3, same_3x3),
            builder.placement.dtype};
}

}  // namespace

// ---- ResnetBlock ----

ResnetBlock::ResnetBlock(const Builder& builder, const std::string& key, const ResnetShape& shape)
    : conv1_(norm_and_conv(builder, key, "1", shape.out, shape.in, shape)),
      conv2_(norm_and_conv(builder, key, "2", shape.out, shape.out, shape)) {
    if (shape.in != shape.out) {
        shortcut_.emplace(builder, key + ".conv_shortcut", shape.out, shape.in, 1, ConvShape{});
    }
    if (shape.time_channels > 0) {
        // Float32: folded into a bias it is needed once
        const Placement exact{.device = builder.placement.device};
        time_proj_ = take_linear(builder.weights, key + ".time_emb_proj", shape.out,
                                 shape.time_channels, true, exact);
    }
}

at::Tensor ResnetBlock::operator()(at::Tensor x, const at::Tensor& silu_time) const {
    at::Tensor h = conv1_(x);
    if (silu_time.defined() && time_proj_) {
        h = h + (*time_proj_)(silu_time).to(h.scalar_type()).unsqueeze(2).unsqueeze(3);
    }
    if (shortcut_) x = (*shortcut_)(x);
    return conv2_.add_(h, std::move(x));
}

at::Tensor ResnetBlock::over_rows(const RowSource& x) const {
    return conv2_.in_place_add_(conv1_.over_rows(x), [&](std::int64_t first, std::int64_t count) {
        const at::Tensor rows = x.rows(first, count);
        return shortcut_ ? (*shortcut_)(rows) : rows;
    });
}

void ResnetBlock::fix_time(const at::Tensor& silu_time) {
    if (!time_proj_) return;
    conv1_.add_to_bias((*time_proj_)(silu_time).squeeze(0));
    time_proj_.reset();
}

// ---- Upsample ----

Upsample::Upsample(const Builder& builder, const std::string& key, std::int64_t channels)
    : conv_(builder, key + ".conv", channels, channels, 3, same_3x3) {}

at::Tensor Upsample::operator()(const at::Tensor& x, std::int64_t height,
                                std::int64_t width) const {
    return conv_(at::upsample_nearest2d(x, {height, width}));
}

// ---- Doubling ----

Doubling::Doubling(const Builder& builder, const std::string& key, std::int64_t channels) {
    if (builder.adapters || !builder.placement.inference_only ||
        !builder.placement.device.is_cpu()) {
        plain_.emplace(builder, key, channels);
        return;
    }
    StateDict& weights = builder.weights;
    const at::Tensor w = weights.take(key + ".conv.weight", {channels, channels, 3, 3});
    const at::Tensor b = weights.take(key + ".conv.bias", {channels});
    // The new rows above, at and below a new row lie in two old rows: for an even one in (above,
    // own, own), for an odd one in (own, own, below). So do columns.
    const auto fold = [](const at::Tensor& t, std::int64_t dim, std::size_t parity) {
        const auto tap = [&](std::int64_t i) { return t.narrow(dim, i, 1); };
        return parity == 0 ? at::cat({tap(0), tap(1) + tap(2)}, dim)
                           : at::cat({tap(0) + tap(1), tap(2)}, dim);
    };
    for (const std::size_t row : {0U, 1U}) {
        for (const std::size_t column : {0U, 1U}) {
            phases_[row][column] = Conv(fold(fold(w, 2, row), 3, column), b,
                                        ConvShape{.padding = {0, 1}}, builder.placement);
        }
    }
}

at::Tensor Doubling::doubled(const at::Tensor& x, std::int64_t first, std::int64_t count) const {
    const std::int64_t channels = x.size(1), height = x.size(2), width = x.size(3);

    // The rows and their neighbours, zeros beyond the edge
    const std::int64_t top = std::max<std::int64_t>(first - 1, 0);
    const std::int64_t bottom = std::min(first + count + 1, height);
    at::Tensor strip = x.narrow(2, top, bottom - top);
    if (bottom - top < count + 2) {
        strip = at::constant_pad_nd(strip, {0, 0, top - (first - 1), first + count + 1 - bottom})
                    .contiguous(at::MemoryFormat::ChannelsLast);
    }

    // Each convolution fills every second row and column. It pads one column too many.
    at::Tensor result =
        at::empty({1, channels, 2 * count, 2 * width}, x.options(), at::MemoryFormat::ChannelsLast);
    const at::Tensor places = result.permute({0, 2, 3, 1}).view({count, 2, width, 2, channels});
    for (std::int64_t row = 0; row < 2; ++row) {
        const at::Tensor rows = strip.narrow(2, row, count + 1);
        for (std::int64_t column = 0; column < 2; ++column) {
            const Conv& phase =
                phases_[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)];
            places.select(3, column).select(1, row).copy_(
                phase(rows).narrow(3, column, width).permute({0, 2, 3, 1})[0]);
        }
    }
    return result;
}

at::Tensor Doubling::operator()(const at::Tensor& x) const {
    const std::int64_t channels = x.size(1), height = x.size(2), width = x.size(3);
    if (plain_) return (*plain_)(x, 2 * height, 2 * width);
    at::Tensor result = at::empty({x.size(0), channels, 2 * height, 2 * width}, x.options(),
                                  at::MemoryFormat::ChannelsLast);
    const std::int64_t row_bytes = channels * width * static_cast<std::int64_t>(x.element_size());
    const std::int64_t rows = strip_rows(height, 4 * row_bytes);
    for (std::int64_t n = 0; n < x.size(0); ++n) {
        for (std::int64_t begin = 0; begin < height; begin += rows) {
            const std::int64_t first = std::min(begin, height - rows);  // strips of one size
            const std::int64_t fresh = begin - first;
            result.narrow(0, n, 1)
                .narrow(2, 2 * begin, 2 * (rows - fresh))
                .copy_(doubled(x.narrow(0, n, 1), first, rows)
                           .narrow(2, 2 * fresh, 2 * (rows - fresh)));
        }
    }
    return result;
}

std::optional<RowSource> Doubling::rows(const at::Tensor& x) const {
    const std::int64_t bytes = 4 * x.numel() * static_cast<std::int64_t>(x.element_size());
    if (plain_ || !GroupNorm2d::has_loops(x) || x.size(0) != 1 || strip_bytes() == 0 ||
        bytes < strips_of_a_large_map * strip_bytes()) {
        return std::nullopt;
    }
    return RowSource{.channels = x.size(1),
                     .height = 2 * x.size(2),
                     .width = 2 * x.size(3),
                     .dtype = x.scalar_type(),
                     .rows = [this, x](std::int64_t first, std::int64_t count) {
                         // Whole old rows, then those asked for
                         const std::int64_t begin = first / 2, end = (first + count + 1) / 2;
                         return doubled(x, begin, end - begin).narrow(2, first - 2 * begin, count);
                     }};
}

// ---- Downsample ----

Downsample::Downsample(const Builder& builder, const std::string& key, std::int64_t channels,
                       Padding padding)
    : conv_(builder, key + ".conv", channels, channels, 3,
            padding == Padding::symmetric ? ConvShape{.stride = {2, 2}, .padding = {1, 1}}
                                          : ConvShape{.stride = {2, 2}}),
      padding_(padding) {}

at::Tensor Downsample::operator()(const at::Tensor& x) const {
    if (padding_ == Padding::symmetric) return conv_(x);
    const auto with_edge = [](const at::Tensor& rows, std::int64_t below) {
        return at::constant_pad_nd(rows, {0, 1, 0, below})
            .contiguous(at::MemoryFormat::ChannelsLast);
    };
    const std::int64_t height = x.size(2), out = height / 2;
    const std::int64_t row_bytes =
        x.size(1) * x.size(3) * static_cast<std::int64_t>(x.element_size());
    const std::int64_t rows = strip_bytes() > 0 ? strip_rows(out, 2 * row_bytes) : out;
    if (2 * rows > out || !GroupNorm2d::has_loops(x)) return conv_(with_edge(x, 1));

    // A large map strip by strip, so that no padded copy of it exists
    at::Tensor result;
    for (std::int64_t n = 0; n < x.size(0); ++n) {
        for (std::int64_t begin = 0; begin < out; begin += rows) {
            const std::int64_t first = std::min(begin, out - rows);  // strips of one size
            const std::int64_t fresh = begin - first;
            const std::int64_t bottom = std::min(2 * (first + rows) + 1, height);
            const at::Tensor part =
                conv_(with_edge(x.narrow(0, n, 1).narrow(2, 2 * first, bottom - 2 * first),
                                2 * (first + rows) + 1 - bottom));
            if (!result.defined()) {
                result = at::empty({x.size(0), part.size(1), out, part.size(3)}, part.options(),
                                   at::MemoryFormat::ChannelsLast);
            }
            result.narrow(0, n, 1)
                .narrow(2, begin, rows - fresh)
                .copy_(part.narrow(2, fresh, rows - fresh));
        }
    }
    return result;
}

}  // namespace ultrasr
