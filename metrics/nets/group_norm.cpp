#include "metrics/nets/group_norm.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace ultrasr {
namespace {

bool has_loops(const at::Tensor& x) {
    return x.device().is_cpu() &&
           (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
           x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

/// A norm as gain and shift of each channel of one map: norm(x) = gain x + shift.
class Affine {
  public:
    explicit Affine(std::int64_t channels)
        : gain(static_cast<std::size_t>(channels)), shift(gain.size()), mean_(gain.size()) {}

    std::vector<float> gain, shift;

    /// x: pixels x channels
    template <class T>
    void fit_(const T* x, std::int64_t pixels, const float* weight, const float* bias, double eps) {
        const std::size_t channels = gain.size(), width = channels / GroupNorm::groups;
        const double count = static_cast<double>(pixels) * static_cast<double>(width);
        const auto over_group = [&](std::size_t first) {
            double sum = 0;
            for (std::size_t c = first; c < first + width; ++c) sum += shift[c];
            return sum / count;
        };

        // Find each group's mean
        float* sum = shift.data();
        std::fill_n(sum, channels, 0.0F);
        for (std::int64_t p = 0; p < pixels; ++p) {
            const T* row = x + static_cast<std::size_t>(p) * channels;
            for (std::size_t c = 0; c < channels; ++c) sum[c] += static_cast<float>(row[c]);
        }
        for (std::size_t first = 0; first < channels; first += width) {
            std::fill_n(mean_.begin() + static_cast<std::ptrdiff_t>(first), width,
                        static_cast<float>(over_group(first)));
        }

        // Its variance around that, and what follows for each channel
        const float* mean = mean_.data();
        std::fill_n(sum, channels, 0.0F);
        for (std::int64_t p = 0; p < pixels; ++p) {
            const T* row = x + static_cast<std::size_t>(p) * channels;
            for (std::size_t c = 0; c < channels; ++c) {
                const float d = static_cast<float>(row[c]) - mean[c];
                sum[c] += d * d;
            }
        }
        for (std::size_t first = 0; first < channels; first += width) {
            const auto scale = static_cast<float>(1.0 / std::sqrt(over_group(first) + eps));
            for (std::size_t c = first; c < first + width; ++c) {
                gain[c] = weight[c] * scale;
                shift[c] = bias[c] - mean[c] * gain[c];
            }
        }
    }

  private:
    std::vector<float> mean_;
};

/// out = relu(gain x + shift), pixel by pixel.
template <class T>
void apply_relu(const T* x, std::int64_t pixels, const Affine& affine, T* out) {
    const std::size_t channels = affine.gain.size();
    const float *gain = affine.gain.data(), *shift = affine.shift.data();
    for (std::int64_t p = 0; p < pixels; ++p) {
        const T* from = x + static_cast<std::size_t>(p) * channels;
        T* to = out + static_cast<std::size_t>(p) * channels;
        for (std::size_t c = 0; c < channels; ++c) {
            const float y = std::fma(gain[c], static_cast<float>(from[c]), shift[c]);
            to[c] = static_cast<T>(y > 0.0F ? y : 0.0F);
        }
    }
}

/// out = max(out, in)
template <class T>
void raise(T* out, const T* in, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) out[i] = in[i] > out[i] ? in[i] : out[i];
}

/// Largest of 3 x 3 with stride 2, from height x width to half of both. No value is negative, so
/// the zeros behind the edge change nothing and are left out.
template <class T>
void pool(const T* x, std::int64_t height, std::int64_t width, std::size_t channels, T* out) {
    for (std::int64_t i = 0; i < height; i += 2) {
        for (std::int64_t j = 0; j < width; j += 2) {
            const auto at_place = [&](std::int64_t row, std::int64_t column) {
                return x + static_cast<std::size_t>(row * width + column) * channels;
            };
            std::copy_n(at_place(i, j), channels, out);
            for (std::int64_t y = i; y < std::min(i + 3, height); ++y) {
                for (std::int64_t z = j; z < std::min(j + 3, width); ++z) {
                    raise(out, at_place(y, z), channels);
                }
            }
            out += channels;
        }
    }
}

/// Calls work(map, pixels, channels, n) for every map of the batch, on all threads.
template <class T, class Work>
void for_each_map(const at::Tensor& x, const Work& work) {
    const T* data = x.const_data_ptr<T>();
    const std::int64_t channels = x.size(1), pixels = x.size(2) * x.size(3);
    at::parallel_for(0, x.size(0), 1, [&](std::int64_t first, std::int64_t last) {
        Affine affine(channels), other(channels);
        std::vector<T> scratch(static_cast<std::size_t>(pixels * channels));
        for (std::int64_t n = first; n < last; ++n) {
            work(data + n * pixels * channels, n, affine, other, scratch);
        }
    });
}

template <class Work>
void with_type(const at::Tensor& x, const Work& work) {
    if (x.scalar_type() == at::kFloat) {
        work(float{});
    } else {
        work(at::BFloat16{});
    }
}

}  // namespace

GroupNorm::GroupNorm(StateDict& weights, const std::string& key, std::int64_t channels, double eps,
                     const Placement& placement)
    : weight_cpu_(weights.take(key + ".weight", {channels}).contiguous()),
      bias_cpu_(weights.take(key + ".bias", {channels}).contiguous()),
      eps_(eps) {
    weight_ = weight_cpu_.to(placement.device, placement.dtype);
    bias_ = bias_cpu_.to(placement.device, placement.dtype);
}

at::Tensor GroupNorm::plain(const at::Tensor& x) const {
    return at::group_norm(x, groups, weight_, bias_, eps_);
}

at::Tensor GroupNorm::plain_relu(const at::Tensor& x) const { return at::relu(plain(x)); }

at::Tensor GroupNorm::plain_relu_pool(const at::Tensor& x) const {
    return at::max_pool2d(at::constant_pad_nd(plain_relu(x), {0, 1, 0, 1}), {3, 3}, {2, 2});
}

at::Tensor GroupNorm::plain_add_relu(const at::Tensor& x, const GroupNorm& other_norm,
                                     const at::Tensor& other) const {
    return at::relu(plain(x) + other_norm.plain(other));
}

at::Tensor GroupNorm::relu(const at::Tensor& x) const {
    if (!has_loops(x)) return plain_relu(x);
    at::Tensor result = at::empty_like(x);
    with_type(x, [&]<class T>(T) {
        const std::int64_t pixels = x.size(2) * x.size(3), step = pixels * x.size(1);
        const float *weight = weight_cpu_.const_data_ptr<float>(),
                    *bias = bias_cpu_.const_data_ptr<float>();
        T* out = result.mutable_data_ptr<T>();
        for_each_map<T>(x, [&](const T* map, std::int64_t n, Affine& affine, auto&, auto&) {
            affine.fit_(map, pixels, weight, bias, eps_);
            apply_relu(map, pixels, affine, out + n * step);
        });
    });
    return result;
}

at::Tensor GroupNorm::relu_pool(const at::Tensor& x) const {
    if (!has_loops(x)) return plain_relu_pool(x);
    const std::int64_t channels = x.size(1), height = x.size(2), width = x.size(3);
    at::Tensor result = at::empty({x.size(0), channels, height / 2, width / 2}, x.options(),
                                  at::MemoryFormat::ChannelsLast);
    with_type(x, [&]<class T>(T) {
        const std::int64_t pixels = height * width, step = pixels / 4 * channels;
        const float *weight = weight_cpu_.const_data_ptr<float>(),
                    *bias = bias_cpu_.const_data_ptr<float>();
        T* out = result.mutable_data_ptr<T>();
        for_each_map<T>(x, [&](const T* map, std::int64_t n, Affine& affine, auto&,
                               std::vector<T>& scratch) {
            affine.fit_(map, pixels, weight, bias, eps_);
            apply_relu(map, pixels, affine, scratch.data());
            pool(scratch.data(), height, width, static_cast<std::size_t>(channels), out + n * step);
        });
    });
    return result;
}

at::Tensor GroupNorm::add_relu(const at::Tensor& x, const GroupNorm& other_norm,
                               const at::Tensor& other) const {
    if (!has_loops(x) || !has_loops(other)) return plain_add_relu(x, other_norm, other);
    at::Tensor result = at::empty_like(x);
    with_type(x, [&]<class T>(T) {
        const std::int64_t channels = x.size(1), pixels = x.size(2) * x.size(3);
        const float *weight = weight_cpu_.const_data_ptr<float>(),
                    *bias = bias_cpu_.const_data_ptr<float>();
        const float *other_weight = other_norm.weight_cpu_.const_data_ptr<float>(),
                    *other_bias = other_norm.bias_cpu_.const_data_ptr<float>();
        const T* from_other = other.const_data_ptr<T>();
        T* out = result.mutable_data_ptr<T>();
        for_each_map<T>(
            x, [&](const T* a, std::int64_t n, Affine& affine, Affine& other_affine, auto&) {
                const T* b = from_other + n * pixels * channels;
                affine.fit_(a, pixels, weight, bias, eps_);
                other_affine.fit_(b, pixels, other_weight, other_bias, other_norm.eps_);
                const float *gain = affine.gain.data(), *other_gain = other_affine.gain.data();
                float* shift = affine.shift.data();
                for (std::size_t c = 0; c < affine.shift.size(); ++c)
                    shift[c] += other_affine.shift[c];
                T* to = out + n * pixels * channels;
                for (std::int64_t p = 0; p < pixels; ++p) {
                    for (std::int64_t c = 0; c < channels; ++c) {
                        const float y =
                            std::fma(gain[c], static_cast<float>(*a++),
                                     std::fma(other_gain[c], static_cast<float>(*b++), shift[c]));
                        *to++ = static_cast<T>(y > 0.0F ? y : 0.0F);
                    }
                }
            });
    });
    return result;
}

}  // namespace ultrasr
