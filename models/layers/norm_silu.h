// Group normalisation, SiLU and the convolution behind them: what the VAE and the UNet consist of.
// On a CPU the three run strip by strip, so that neither the normalised map nor a padded one ever
// exists whole; the statistics are those of the whole map, so strips change nothing but the order
// of sums.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "models/layers/adapted.h"

namespace ultrasr {

/// Gain and shift of each channel of each picture of a batch: norm(x) = gain x + shift.
struct ChannelAffine {
    std::vector<float> gain, shift;  ///< N * channels
};

/// Mean and variance of groups of channels over a map that comes in pieces.
class GroupStatistics {
  public:
    GroupStatistics(std::int64_t channels, std::int64_t groups);

    /// rows: 1 x channels x R x W, channels-last, float32 or bf16. Sums do not depend on the number
    /// of threads; they do (by rounding) on how the map is cut.
    void add(const at::Tensor& rows);

    /// Appends the gains and shifts that make mean 0 and (biased) variance 1 of every group, then
    /// scale by weight and bias, [channels], float32.
    void append_affine(const at::Tensor& weight, const at::Tensor& bias, double eps,
                       ChannelAffine& affine) const;

  private:
    std::int64_t groups_;
    double pixels_ = 0.0;
    std::vector<double> mean_, m2_;  ///< of each channel so far
};

/// Wu and He 2018; eps and the number of groups as the model has them. Statistics are float32 or
/// better whatever the type of the maps.
class GroupNorm2d {
  public:
    GroupNorm2d() = default;

    /// key  holds .weight and .bias, [channels]
    GroupNorm2d(StateDict& weights, const std::string& key, std::int64_t channels,
                std::int64_t groups, double eps, const Placement& placement);

    /// norm(x), silu(norm(x)). x: N x channels x H x W, channels-last, as the result.
    at::Tensor operator()(const at::Tensor& x) const;
    at::Tensor silu(const at::Tensor& x) const;
    /// The latter in another type.
    at::Tensor silu(const at::Tensor& x, c10::ScalarType type) const;

    /// The same in LibTorch's operators, for every device and with gradients.
    at::Tensor plain(const at::Tensor& x) const;
    at::Tensor plain_silu(const at::Tensor& x) const;

    std::int64_t channels() const { return channels_; }

    /// The loops of this file can take x.
    static bool has_loops(const at::Tensor& x);

  private:
    friend class StripConv;
    GroupStatistics statistics() const { return {channels_, groups_}; }
    void append_affine(const GroupStatistics& statistics, ChannelAffine& affine) const;
    ChannelAffine affine_of(const at::Tensor& x) const;
    at::Tensor on_gpu(const at::Tensor& x, bool silu, c10::ScalarType out) const;
    bool needs_gradient(const at::Tensor& x) const;
    at::Tensor with_gradient(const at::Tensor& x, bool silu) const;

    at::Tensor weight_, bias_;          ///< of the placement, float32 on a GPU
    at::Tensor weight_cpu_, bias_cpu_;  ///< float32
    std::int64_t channels_ = 0, groups_ = 1;
    double eps_ = 0.0;
};

/// A map that need not exist whole: rows on demand.
struct RowSource {
    std::int64_t channels = 0, height = 0, width = 0;
    c10::ScalarType dtype = c10::kFloat;
    /// rows [first, first + count) as 1 x channels x count x width, channels-last
    std::function<at::Tensor(std::int64_t first, std::int64_t count)> rows;
};

/// Bytes of a strip of a map of that many bytes a row. 0: no strips, maps are taken whole.
/// Tests and benchmarks set it; it stands at 16 MiB.
std::int64_t strip_bytes();
void set_strip_bytes(std::int64_t bytes);

/// conv(silu(norm(x))) for a 3 x 3 convolution of stride 1 and padding 1.
class StripConv {
  public:
    StripConv() = default;

    /// conv_type  of the convolution's input and result; float32 behind a bf16 map makes an exact
    ///            head
    StripConv(GroupNorm2d norm, AdaptedConv conv, c10::ScalarType conv_type);

    /// x: N x in x H x W, channels-last. returns N x out x H x W.
    at::Tensor operator()(const at::Tensor& x) const;

    /// conv(silu(norm(x))) + other, written into `other` where no gradient is asked for.
    at::Tensor add_(const at::Tensor& x, at::Tensor other) const;

    /// Reads a map that exists in rows only, twice: once for its statistics.
    ///
    /// returns  1 x out x height x width
    at::Tensor over_rows(const RowSource& x) const;

    /// conv(silu(norm(x))) + other, written into x, strip by strip; of one picture, and as many
    /// channels out as in. `other` gives rows [first, first + count) of what is added.
    using Rows = std::function<at::Tensor(std::int64_t first, std::int64_t count)>;
    at::Tensor in_place_add_(at::Tensor x, const Rows& other) const;

    /// norm(x) alone, for who listens in.
    at::Tensor normed(const at::Tensor& x) const { return norm_(x.to(conv_type_)); }

    /// Adds `more`, [out], float32, to the convolution's bias.
    void add_to_bias(const at::Tensor& more);

  private:
    bool in_strips(const at::Tensor& x) const;

    /// Writes conv(silu(norm(x))) into `into`, or adds it there.
    void run_strips(const RowSource& x, const at::Tensor& into, bool add) const;
    ChannelAffine affine_of(const RowSource& x, std::int64_t rows) const;

    GroupNorm2d norm_;
    AdaptedConv conv_;
    Conv strip_conv_;
    c10::ScalarType conv_type_ = c10::kFloat;
};

/// Maps of so many strips and more are computed row by row again rather than stored, where they
/// can.
constexpr std::int64_t strips_of_a_large_map = 64;

/// Rows of a strip so that it has about strip_bytes(): at least 4, at most `height`.
std::int64_t strip_rows(std::int64_t height, std::int64_t bytes_a_row);

/// A 1 x C x H x W channels-last map as rows.
RowSource rows_of(const at::Tensor& map);

}  // namespace ultrasr
