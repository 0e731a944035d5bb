#include "models/layers/norm_silu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/silu.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "data/base/error.h"
#include "models/layers/norm_loops.h"
#include "models/layers/norm_silu_cuda.h"
#include "models/layers/norm_silu_gradient.h"
#include "models/layers/silu.h"

namespace ultrasr {
namespace {

std::atomic<std::int64_t> strip_bytes_{16 << 20};

// ---- loops ----

/// Mean and summed squared deviation of a piece, channel by channel.
struct Moments {
    double pixels = 0.0;
    std::vector<double> mean, m2;

    explicit Moments(std::size_t channels) : mean(channels), m2(channels) {}
};

/// Chan, Golub and LeVeque 1979: the moments of two pieces together.
void merge_(double& pixels, std::vector<double>& mean, std::vector<double>& m2, double more,
            const double* mean_b, const double* m2_b) {
    const double total = pixels + more;
    for (std::size_t c = 0; c < mean.size(); ++c) {
        const double delta = mean_b[c] - mean[c];
        mean[c] += delta * more / total;
        m2[c] += m2_b[c] + delta * delta * pixels * more / total;
    }
    pixels = total;
}

/// A block of pixels, in chunks that stay in the cache for the second look.
template <class T>
Moments moments_of(const T* x, std::int64_t pixels, std::size_t channels) {
    Moments block(channels);
    std::vector<float> mean(channels), sum(channels);
    std::vector<double> chunk_mean(channels), chunk_m2(channels);
    const std::int64_t chunk =
        std::clamp<std::int64_t>(8192 / static_cast<std::int64_t>(channels), 4, 64);
    for (std::int64_t first = 0; first < pixels; first += chunk) {
        const std::int64_t count = std::min(chunk, pixels - first);
        const T* rows = x + static_cast<std::size_t>(first) * channels;
        const float share = 1.0F / static_cast<float>(count);
        std::fill(sum.begin(), sum.end(), 0.0F);
        for (std::int64_t p = 0; p < count; ++p) {
            const T* row = rows + static_cast<std::size_t>(p) * channels;
            for (std::size_t c = 0; c < channels; ++c) sum[c] += load(row[c]);
        }
        for (std::size_t c = 0; c < channels; ++c) mean[c] = sum[c] * share;
        std::fill(sum.begin(), sum.end(), 0.0F);
        for (std::int64_t p = 0; p < count; ++p) {
            const T* row = rows + static_cast<std::size_t>(p) * channels;
            for (std::size_t c = 0; c < channels; ++c) {
                const float d = load(row[c]) - mean[c];
                sum[c] += d * d;
            }
        }
        for (std::size_t c = 0; c < channels; ++c) {
            chunk_mean[c] = static_cast<double>(mean[c]);
            chunk_m2[c] = static_cast<double>(sum[c]);
        }
        merge_(block.pixels, block.mean, block.m2, static_cast<double>(count), chunk_mean.data(),
               chunk_m2.data());
    }
    return block;
}

/// out = gain x + shift, or SiLU of it, for a run of pixels.
template <bool with_silu, class In, class Out>
void apply(const In* x, std::int64_t pixels, std::size_t channels, const float* gain,
           const float* shift, Out* out) {
    for (std::int64_t p = 0; p < pixels; ++p) {
        for (std::size_t c = 0; c < channels; ++c) {
            const float v = load(x[c]);
            store(with_silu ? scaled_silu(v, gain[c], shift[c]) : std::fma(gain[c], v, shift[c]),
                  out[c]);
        }
        x += channels;
        out += channels;
    }
}

/// The whole batch, each picture with its own gains.
template <bool with_silu>
at::Tensor apply_all(const at::Tensor& x, const ChannelAffine& affine) {
    at::Tensor result = at::empty_like(x, at::MemoryFormat::ChannelsLast);
    const std::int64_t rows = x.size(2), width = x.size(3);
    const auto channels = static_cast<std::size_t>(x.size(1));
    with_type(x.scalar_type(), [&]<class T>(T) {
        const T* from = x.const_data_ptr<T>();
        T* to = result.mutable_data_ptr<T>();
        const std::size_t step = static_cast<std::size_t>(width) * channels;
        at::parallel_for(0, x.size(0) * rows, 4, [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t row = first; row < last; ++row) {
                const std::size_t n = static_cast<std::size_t>(row / rows);
                apply<with_silu>(from + static_cast<std::size_t>(row) * step, width, channels,
                                 affine.gain.data() + n * channels,
                                 affine.shift.data() + n * channels,
                                 to + static_cast<std::size_t>(row) * step);
            }
        });
    });
    return result;
}

/// silu(norm()) of rows [first - 1, first + count + 1) of a map of that height, zeros where it has
/// none. `rows` holds those that exist.
at::Tensor padded_strip(const at::Tensor& rows, std::int64_t first, std::int64_t count,
                        std::int64_t height, const ChannelAffine& affine, c10::ScalarType type) {
    const std::int64_t width = rows.size(3);
    const auto channels = static_cast<std::size_t>(rows.size(1));
    const std::size_t step = static_cast<std::size_t>(width) * channels;
    at::Tensor strip = at::empty({1, rows.size(1), count + 2, width}, rows.options().dtype(type),
                                 at::MemoryFormat::ChannelsLast);
    const std::int64_t top = std::max<std::int64_t>(first - 1, 0);
    with_type(rows.scalar_type(), [&]<class In>(In) {
        with_type(type, [&]<class Out>(Out) {
            const In* from = rows.const_data_ptr<In>();
            Out* to = strip.mutable_data_ptr<Out>();
            at::parallel_for(0, count + 2, 1, [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t i = begin; i < end; ++i) {
                    const std::int64_t row = first - 1 + i;
                    Out* out = to + static_cast<std::size_t>(i) * step;
                    if (row < 0 || row >= height) {
                        std::fill_n(out, step, Out(0.0F));
                    } else {
                        apply<true>(from + static_cast<std::size_t>(row - top) * step, width,
                                    channels, affine.gain.data(), affine.shift.data(), out);
                    }
                }
            });
        });
    });
    return strip;
}

std::int64_t bytes_of(c10::ScalarType type) {
    return static_cast<std::int64_t>(c10::elementSize(type));
}

}  // namespace

std::int64_t strip_bytes() { return strip_bytes_; }
void set_strip_bytes(std::int64_t bytes) { strip_bytes_ = bytes; }

std::int64_t strip_rows(std::int64_t height, std::int64_t bytes_a_row) {
    return std::min(
        height, std::max<std::int64_t>(4, strip_bytes_ / std::max<std::int64_t>(1, bytes_a_row)));
}

RowSource rows_of(const at::Tensor& map) {
    return {.channels = map.size(1),
            .height = map.size(2),
            .width = map.size(3),
            .dtype = map.scalar_type(),
            .rows = [map](std::int64_t first, std::int64_t count) {
                return map.narrow(2, first, count);
            }};
}

// ---- GroupStatistics ----

GroupStatistics::GroupStatistics(std::int64_t channels, std::int64_t groups)
    : groups_(groups),
      mean_(static_cast<std::size_t>(channels)),
      m2_(static_cast<std::size_t>(channels)) {}

void GroupStatistics::add(const at::Tensor& rows) {
    constexpr std::int64_t block = 1024;  // pixels
    const std::int64_t pixels = rows.size(2) * rows.size(3);
    const std::size_t channels = mean_.size();
    std::vector<Moments> blocks(static_cast<std::size_t>((pixels + block - 1) / block), Moments(0));
    with_type(rows.scalar_type(), [&]<class T>(T) {
        const T* x = rows.const_data_ptr<T>();
        at::parallel_for(0, static_cast<std::int64_t>(blocks.size()), 1,
                         [&](std::int64_t begin, std::int64_t end) {
                             for (std::int64_t i = begin; i < end; ++i) {
                                 blocks[static_cast<std::size_t>(i)] =
                                     moments_of(x + static_cast<std::size_t>(i * block) * channels,
                                                std::min(block, pixels - i * block), channels);
                             }
                         });
    });
    for (const Moments& b : blocks) {
        merge_(pixels_, mean_, m2_, b.pixels, b.mean.data(), b.m2.data());
    }
}

void GroupStatistics::append_affine(const at::Tensor& weight, const at::Tensor& bias, double eps,
                                    ChannelAffine& affine) const {
    const float* w = weight.const_data_ptr<float>();
    const float* b = bias.const_data_ptr<float>();
    const std::size_t channels = mean_.size(), width = channels / static_cast<std::size_t>(groups_);
    for (std::size_t first = 0; first < channels; first += width) {
        double mean = 0.0, m2 = 0.0;
        for (std::size_t c = first; c < first + width; ++c) mean += mean_[c];
        mean /= static_cast<double>(width);
        for (std::size_t c = first; c < first + width; ++c) {
            const double d = mean_[c] - mean;
            m2 += m2_[c] + pixels_ * d * d;
        }
        const double scale = 1.0 / std::sqrt(m2 / (pixels_ * static_cast<double>(width)) + eps);
        for (std::size_t c = first; c < first + width; ++c) {
            const double gain = static_cast<double>(w[c]) * scale;
            affine.gain.push_back(static_cast<float>(gain));
            affine.shift.push_back(static_cast<float>(static_cast<double>(b[c]) - mean * gain));
        }
    }
}

// ---- GroupNorm2d ----

GroupNorm2d::GroupNorm2d(StateDict& weights, const std::string& key, std::int64_t channels,
                         std::int64_t groups, double eps, const Placement& placement)
    : weight_cpu_(weights.take(key + ".weight", {channels}).contiguous()),
      bias_cpu_(weights.take(key + ".bias", {channels}).contiguous()),
      channels_(channels),
      groups_(groups),
      eps_(eps) {
    require(groups > 0 && channels % groups == 0,
            "{} has {} channels, which do not divide into the {} groups of the config's "
            "norm_num_groups",
            key, channels, groups);
    // A GPU's kernel takes them as they are
    const c10::ScalarType type = placement.device.is_cuda() ? at::kFloat : placement.dtype;
    const bool trained = weight_cpu_.requires_grad();  // then it lies where it is needed
    weight_ = trained ? weight_cpu_ : weight_cpu_.to(placement.device, type);
    bias_ = trained ? bias_cpu_ : bias_cpu_.to(placement.device, type);
}

bool GroupNorm2d::has_loops(const at::Tensor& x) {
    return x.device().is_cpu() && needs_no_gradient(x) &&
           (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
           x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor GroupNorm2d::plain(const at::Tensor& x) const {
    // The parameters follow the map: a float32 head norms a map that was bf16
    return at::group_norm(x, groups_, weight_.to(x.scalar_type()), bias_.to(x.scalar_type()), eps_);
}

at::Tensor GroupNorm2d::plain_silu(const at::Tensor& x) const { return at::silu(plain(x)); }

void GroupNorm2d::append_affine(const GroupStatistics& statistics, ChannelAffine& affine) const {
    statistics.append_affine(weight_cpu_, bias_cpu_, eps_, affine);
}

ChannelAffine GroupNorm2d::affine_of(const at::Tensor& x) const {
    ChannelAffine affine;
    for (std::int64_t n = 0; n < x.size(0); ++n) {
        GroupStatistics picture = statistics();
        picture.add(x.narrow(0, n, 1));
        append_affine(picture, affine);
    }
    return affine;
}

at::Tensor GroupNorm2d::on_gpu(const at::Tensor& x, bool silu, c10::ScalarType out) const {
    return run_norm_kernel(x, weight_, bias_,
                           {.groups = groups_, .eps = eps_, .silu = silu, .out = out});
}

bool GroupNorm2d::needs_gradient(const at::Tensor& x) const {
    return !needs_no_gradient(x) || !needs_no_gradient(weight_);
}

at::Tensor GroupNorm2d::with_gradient(const at::Tensor& x, bool silu) const {
    if (!has_gradient_loops(x)) return silu ? plain_silu(x) : plain(x);
    return norm_silu_with_gradient(x, weight_cpu_, bias_cpu_,
                                   {.groups = groups_, .eps = eps_, .silu = silu});
}

at::Tensor GroupNorm2d::operator()(const at::Tensor& x) const {
    if (needs_gradient(x)) return with_gradient(x, false);
    if (norm_kernel_takes(x)) return on_gpu(x, false, x.scalar_type());
    return has_loops(x) ? apply_all<false>(x, affine_of(x)) : plain(x);
}

at::Tensor GroupNorm2d::silu(const at::Tensor& x) const {
    if (needs_gradient(x)) return with_gradient(x, true);
    if (norm_kernel_takes(x)) return on_gpu(x, true, x.scalar_type());
    return has_loops(x) ? apply_all<true>(x, affine_of(x)) : plain_silu(x);
}

at::Tensor GroupNorm2d::silu(const at::Tensor& x, c10::ScalarType type) const {
    if (type == at::kFloat && needs_no_gradient(weight_) && norm_kernel_takes(x)) {
        return on_gpu(x, true, type);
    }
    return silu(x.to(type));
}

// ---- StripConv ----

StripConv::StripConv(GroupNorm2d norm, AdaptedConv conv, c10::ScalarType conv_type)
    : norm_(std::move(norm)),
      conv_(std::move(conv)),
      strip_conv_(conv_.plain().for_strips()),
      conv_type_(conv_type) {}

void StripConv::add_to_bias(const at::Tensor& more) {
    conv_.set_plain(conv_.plain().with_more_bias(more));
    strip_conv_ = conv_.plain().for_strips();
}

bool StripConv::in_strips(const at::Tensor& x) const {
    const std::int64_t row = x.size(1) * x.size(3) * bytes_of(x.scalar_type());
    return strip_bytes_ > 0 && !conv_.adapted() && needs_no_gradient(norm_.weight_) &&
           GroupNorm2d::has_loops(x) && x.size(2) >= 2 * strip_rows(x.size(2), row);
}

ChannelAffine StripConv::affine_of(const RowSource& x, std::int64_t rows) const {
    GroupStatistics statistics = norm_.statistics();
    for (std::int64_t first = 0; first < x.height; first += rows) {
        statistics.add(x.rows(first, std::min(rows, x.height - first)));
    }
    ChannelAffine affine;
    norm_.append_affine(statistics, affine);
    return affine;
}

void StripConv::run_strips(const RowSource& x, const at::Tensor& into, bool add) const {
    const std::int64_t rows = strip_rows(x.height, x.channels * x.width * bytes_of(x.dtype));
    const ChannelAffine affine = affine_of(x, rows);

    // Strips of one size, since weights are laid out for a size: the last one reaches up into its
    // neighbour, of which only what is new counts
    for (std::int64_t begin = 0; begin < x.height; begin += rows) {
        const std::int64_t first = std::min(begin, x.height - rows);
        const std::int64_t fresh = begin - first;
        const std::int64_t top = std::max<std::int64_t>(first - 1, 0);
        const std::int64_t bottom = std::min(first + rows + 1, x.height);
        const at::Tensor strip =
            padded_strip(x.rows(top, bottom - top), first, rows, x.height, affine, conv_type_);
        const at::Tensor part = into.narrow(2, begin, rows - fresh);
        if (add && fresh == 0) {
            strip_conv_.add_(strip, part);
        } else if (add) {
            part.add_(strip_conv_(strip).narrow(2, fresh, rows - fresh));
        } else {
            part.copy_(strip_conv_(strip).narrow(2, fresh, rows - fresh));
        }
    }
}

at::Tensor StripConv::in_place_add_(at::Tensor x, const Rows& other) const {
    const std::int64_t height = x.size(2);
    const std::int64_t rows = strip_rows(height, x.size(1) * x.size(3) * bytes_of(x.scalar_type()));
    const ChannelAffine affine = affine_of(rows_of(x), rows);
    at::Tensor above;  // the row over the strip, as it was
    for (std::int64_t first = 0; first < height; first += rows) {
        const std::int64_t count = std::min(rows, height - first);
        at::Tensor source = x.narrow(2, first, std::min(count + 1, height - first));
        if (above.defined()) {
            source = at::cat({above, source}, 2).contiguous(at::MemoryFormat::ChannelsLast);
        }
        const at::Tensor strip = padded_strip(source, first, count, height, affine, conv_type_);
        above = x.narrow(2, first + count - 1, 1).clone();
        const at::Tensor part = x.narrow(2, first, count);
        part.copy_(other(first, count));
        strip_conv_.add_(strip, part);
    }
    return x;
}

at::Tensor StripConv::operator()(const at::Tensor& x) const {
    if (!in_strips(x)) return conv_(norm_.silu(x, conv_type_));
    at::Tensor result;
    for (std::int64_t n = 0; n < x.size(0); ++n) {
        const RowSource rows = rows_of(x.narrow(0, n, 1));
        if (!result.defined()) {
            result = at::empty({x.size(0), strip_conv_.out_channels(), x.size(2), x.size(3)},
                               x.options().dtype(conv_type_), at::MemoryFormat::ChannelsLast);
        }
        run_strips(rows, result.narrow(0, n, 1), false);
    }
    return result;
}

at::Tensor StripConv::add_(const at::Tensor& x, at::Tensor other) const {
    if (!in_strips(x) || !needs_no_gradient(other) ||
        !other.is_contiguous(at::MemoryFormat::ChannelsLast)) {
        return conv_.add_(norm_.silu(x, conv_type_), other);
    }
    for (std::int64_t n = 0; n < x.size(0); ++n) {
        run_strips(rows_of(x.narrow(0, n, 1)), other.narrow(0, n, 1), true);
    }
    return other;
}

at::Tensor StripConv::over_rows(const RowSource& x) const {
    at::Tensor result =
        at::empty({1, strip_conv_.out_channels(), x.height, x.width},
                  at::TensorOptions().dtype(conv_type_), at::MemoryFormat::ChannelsLast);
    run_strips(x, result, false);
    return result;
}

}  // namespace ultrasr
