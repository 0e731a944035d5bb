#include "models/layers/norm_silu_gradient.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "models/layers/norm_loops.h"
#include "models/layers/norm_silu.h"
#include "models/layers/silu.h"

namespace ultrasr {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t block_pixels = 1024;

/// A channel's numbers of one picture: normalised = rstd x + shift, then weight and bias.
struct Channels {
    const float *rstd, *shift, *weight, *bias;
};

/// The derivative of silu(u) times d; of u itself where there is no SiLU.
template <bool with_silu>
inline float through_silu(float d, float u) {
    if constexpr (!with_silu) return d;
    const float s = 1.0F / (1.0F + exp_float(-u));
    return d * s * (1.0F + u * (1.0F - s));
}

/// out = silu(weight (rstd x + shift) + bias)
template <bool with_silu, class T>
void forward_block(const T* x, std::int64_t pixels, std::size_t channels, const Channels& k,
                   T* out) {
    for (std::int64_t p = 0; p < pixels; ++p, x += channels, out += channels) {
        for (std::size_t c = 0; c < channels; ++c) {
            const float u =
                std::fma(k.weight[c], std::fma(k.rstd[c], load(x[c]), k.shift[c]), k.bias[c]);
            store(with_silu ? silu(u) : u, out[c]);
        }
    }
}

/// Sums of du and du * normalised, channel by channel, over a block.
template <bool with_silu, class T>
void sums_of_block(const T* x, const T* d, std::int64_t pixels, std::size_t channels,
                   const Channels& k, double* sum, double* product) {
    constexpr std::int64_t chunk = 64;  // pixels summed in float32
    std::vector<float> part(2 * channels);
    for (std::int64_t first = 0; first < pixels; first += chunk) {
        std::fill(part.begin(), part.end(), 0.0F);
        float *a = part.data(), *b = part.data() + channels;
        for (std::int64_t p = first; p < std::min(first + chunk, pixels); ++p) {
            const T* row = x + static_cast<std::size_t>(p) * channels;
            const T* d_row = d + static_cast<std::size_t>(p) * channels;
            for (std::size_t c = 0; c < channels; ++c) {
                const float normed = std::fma(k.rstd[c], load(row[c]), k.shift[c]);
                const float du = through_silu<with_silu>(load(d_row[c]),
                                                         std::fma(k.weight[c], normed, k.bias[c]));
                a[c] += du;
                b[c] = std::fma(du, normed, b[c]);
            }
        }
        for (std::size_t c = 0; c < channels; ++c) {
            sum[c] += static_cast<double>(a[c]);
            product[c] += static_cast<double>(b[c]);
        }
    }
}

/// dx = rstd (weight du - mean - normalised * slope), the latter two a channel's group's.
template <bool with_silu, class T>
void backward_block(const T* x, const T* d, std::int64_t pixels, std::size_t channels,
                    const Channels& k, const float* mean, const float* slope, T* dx) {
    for (std::int64_t p = 0; p < pixels; ++p, x += channels, d += channels, dx += channels) {
        for (std::size_t c = 0; c < channels; ++c) {
            const float normed = std::fma(k.rstd[c], load(x[c]), k.shift[c]);
            const float du =
                through_silu<with_silu>(load(d[c]), std::fma(k.weight[c], normed, k.bias[c]));
            const float inner = std::fma(k.weight[c], du, -mean[c]);
            store(k.rstd[c] * std::fma(-normed, slope[c], inner), dx[c]);
        }
    }
}

/// Calls work(n, first pixel, pixels, block index) for each block of every picture.
template <class Work>
void for_blocks(std::int64_t pictures, std::int64_t pixels, const Work& work) {
    const std::int64_t blocks = (pixels + block_pixels - 1) / block_pixels;
    at::parallel_for(0, pictures * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t first = i % blocks * block_pixels;
            work(i / blocks, first, std::min(block_pixels, pixels - first), i);
        }
    });
}

template <class Work>
void with_silu_or_not(bool silu, const Work& work) {
    if (silu) {
        work(std::true_type{});
    } else {
        work(std::false_type{});
    }
}

class NormSilu : public torch::autograd::Function<NormSilu> {
  public:
    static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                              const at::Tensor& weight, const at::Tensor& bias, std::int64_t groups,
                              double eps, bool silu) {
        const std::int64_t n = x.size(0), channels = x.size(1), pixels = x.size(2) * x.size(3);

        // Gain and shift of a norm without weight and bias: 1 / deviation and -mean / deviation
        ChannelAffine affine;
        const at::Tensor one = at::ones({channels}), zero = at::zeros({channels});
        for (std::int64_t i = 0; i < n; ++i) {
            GroupStatistics picture(channels, groups);
            picture.add(x.narrow(0, i, 1));
            picture.append_affine(one, zero, eps, affine);
        }
        const at::Tensor norms = at::empty({2, n, channels}, at::kFloat);
        std::copy(affine.gain.begin(), affine.gain.end(), norms[0].mutable_data_ptr<float>());
        std::copy(affine.shift.begin(), affine.shift.end(), norms[1].mutable_data_ptr<float>());

        at::Tensor result = at::empty_like(x, at::MemoryFormat::ChannelsLast);
        const auto width = static_cast<std::size_t>(channels);
        with_type(x.scalar_type(), [&]<class T>(T) {
            with_silu_or_not(silu, [&](auto with) {
                const T* from = x.const_data_ptr<T>();
                T* to = result.mutable_data_ptr<T>();
                for_blocks(
                    n, pixels,
                    [&](std::int64_t i, std::int64_t first, std::int64_t count, std::int64_t) {
                        const std::size_t at = static_cast<std::size_t>(i * pixels + first) * width;
                        forward_block<with.value>(from + at, count, width,
                                                  channels_of(norms, i, weight, bias), to + at);
                    });
            });
        });
        context->save_for_backward({x, weight, bias, norms});
        context->saved_data["groups"] = groups;
        context->saved_data["silu"] = silu;
        return result;
    }

    static variable_list backward(AutogradContext* context, const variable_list& gradients) {
        const variable_list saved = context->get_saved_variables();
        const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &norms = saved[3];
        const std::int64_t groups = context->saved_data["groups"].toInt();
        const bool silu = context->saved_data["silu"].toBool();
        const at::Tensor d =
            gradients[0].to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
        const std::int64_t n = x.size(0), pixels = x.size(2) * x.size(3);
        const auto channels = static_cast<std::size_t>(x.size(1));
        const std::size_t blocks =
            static_cast<std::size_t>((pixels + block_pixels - 1) / block_pixels);

        at::Tensor dx = at::empty_like(x, at::MemoryFormat::ChannelsLast);
        std::vector<double> sums(static_cast<std::size_t>(n) * blocks * channels * 2);
        std::vector<double> d_weight(channels), d_bias(channels);
        std::vector<float> mean(static_cast<std::size_t>(n) * channels), slope(mean.size());
        with_type(x.scalar_type(), [&]<class T>(T) {
            with_silu_or_not(silu, [&](auto with) {
                const T* from = x.const_data_ptr<T>();
                const T* d_from = d.const_data_ptr<T>();
                for_blocks(n, pixels,
                           [&](std::int64_t i, std::int64_t first, std::int64_t count,
                               std::int64_t block) {
                               const std::size_t at =
                                   static_cast<std::size_t>(i * pixels + first) * channels;
                               double* sum =
                                   sums.data() + static_cast<std::size_t>(block) * channels * 2;
                               sums_of_block<with.value>(from + at, d_from + at, count, channels,
                                                         channels_of(norms, i, weight, bias), sum,
                                                         sum + channels);
                           });
                group_means(sums, n, blocks, groups, pixels, weight, mean, slope, d_weight, d_bias);
                T* to = dx.mutable_data_ptr<T>();
                for_blocks(
                    n, pixels,
                    [&](std::int64_t i, std::int64_t first, std::int64_t count, std::int64_t) {
                        const std::size_t at =
                            static_cast<std::size_t>(i * pixels + first) * channels;
                        const std::size_t row = static_cast<std::size_t>(i) * channels;
                        backward_block<with.value>(from + at, d_from + at, count, channels,
                                                   channels_of(norms, i, weight, bias),
                                                   mean.data() + row, slope.data() + row, to + at);
                    });
            });
        });
        const auto as_tensor = [&](const std::vector<double>& values) {
            at::Tensor t = at::empty({x.size(1)}, at::kFloat);
            std::transform(values.begin(), values.end(), t.mutable_data_ptr<float>(),
                           [](double v) { return static_cast<float>(v); });
            return t;
        };
        return {dx, as_tensor(d_weight), as_tensor(d_bias), {}, {}, {}};
    }

  private:
    static Channels channels_of(const at::Tensor& norms, std::int64_t picture,
                                const at::Tensor& weight, const at::Tensor& bias) {
        const float* first = norms.const_data_ptr<float>() + picture * norms.size(2);
        return {.rstd = first,
                .shift = first + norms.size(1) * norms.size(2),
                .weight = weight.const_data_ptr<float>(),
                .bias = bias.const_data_ptr<float>()};
    }

    /// Means over a group of weight du and of weight du * normalised, for each channel in it; sums
    /// over the batch for weight and bias.
    static void group_means(const std::vector<double>& sums, std::int64_t n, std::size_t blocks,
                            std::int64_t groups, std::int64_t pixels, const at::Tensor& weight,
                            std::vector<float>& mean, std::vector<float>& slope,
                            std::vector<double>& d_weight, std::vector<double>& d_bias) {
        const std::size_t channels = d_weight.size();
        const std::size_t width = channels / static_cast<std::size_t>(groups);
        const float* w = weight.const_data_ptr<float>();
        std::vector<double> sum(channels), product(channels);
        for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
            std::fill(sum.begin(), sum.end(), 0.0);
            std::fill(product.begin(), product.end(), 0.0);
            for (std::size_t b = 0; b < blocks; ++b) {
                const double* part = sums.data() + (i * blocks + b) * channels * 2;
                for (std::size_t c = 0; c < channels; ++c) {
                    sum[c] += part[c];
                    product[c] += part[channels + c];
                }
            }
            for (std::size_t first = 0; first < channels; first += width) {
                double m = 0.0, s = 0.0;
                for (std::size_t c = first; c < first + width; ++c) {
                    d_bias[c] += sum[c];
                    d_weight[c] += product[c];
                    m += static_cast<double>(w[c]) * sum[c];
                    s += static_cast<double>(w[c]) * product[c];
                }
                const double count = static_cast<double>(pixels) * static_cast<double>(width);
                for (std::size_t c = first; c < first + width; ++c) {
                    mean[i * channels + c] = static_cast<float>(m / count);
                    slope[i * channels + c] = static_cast<float>(s / count);
                }
            }
        }
    }
};

}  // namespace

bool has_gradient_loops(const at::Tensor& x) {
    return x.device().is_cpu() && x.dim() == 4 && x.numel() > 0 &&
           (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
           x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor norm_silu_with_gradient(const at::Tensor& x, const at::Tensor& weight,
                                   const at::Tensor& bias, const NormSiluOptions& options) {
    return NormSilu::apply(x, weight, bias, options.groups, options.eps, options.silu);
}

}  // namespace ultrasr
