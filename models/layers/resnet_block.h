// ResnetBlock2D, Upsample2D and Downsample2D as diffusers calls them: the convolutional parts that
// the UNet and the VAE share.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "models/layers/norm_silu.h"

namespace ultrasr {

struct ResnetShape {
    std::int64_t in = 0, out = 0;
    std::int64_t groups = 32;
    double eps = 1e-5;
    std::int64_t time_channels = 0;  ///< of the time embedding; 0: the block has none
};

/// x + conv2(silu(norm2(conv1(silu(norm1(x))) + time))), x through a 1 x 1 convolution where the
/// channels differ.
class ResnetBlock {
  public:
    ResnetBlock() = default;
    ResnetBlock(const Builder& builder, const std::string& key, const ResnetShape& shape);

    /// x           N x in x H x W, channels-last. Given away: its memory may take the result.
    /// silu_time   silu of the time embedding, N x time_channels; undefined in a VAE, and after
    ///             fix_time()
    at::Tensor operator()(at::Tensor x, const at::Tensor& silu_time = {}) const;

    /// The same for one map that exists in rows only, which are asked for three times.
    at::Tensor over_rows(const RowSource& x) const;

    /// Folds the time's share, a constant for each channel, into the bias of conv1.
    ///
    /// silu_time  1 x time_channels
    void fix_time(const at::Tensor& silu_time);

  private:
    StripConv conv1_, conv2_;
    std::optional<AdaptedConv> shortcut_;
    std::optional<Linear> time_proj_;
};

/// Nearest to twice the size (or near it), then a 3 x 3 convolution.
class Upsample {
  public:
    Upsample() = default;
    Upsample(const Builder& builder, const std::string& key, std::int64_t channels);

    /// x: N x C x h x w. returns N x C x height x width.
    at::Tensor operator()(const at::Tensor& x, std::int64_t height, std::int64_t width) const;

  private:
    AdaptedConv conv_;
};

/// The same for exactly twice the size. Without gradients and adapters as four 2 x 2 convolutions
/// of the small map, one for each of the four places a new pixel can have in an old one: the same
/// sums with equal pixels' weights added beforehand, 16 products in place of 36.
class Doubling {
  public:
    Doubling() = default;
    Doubling(const Builder& builder, const std::string& key, std::int64_t channels);

    /// x: N x C x h x w. returns N x C x 2 h x 2 w.
    at::Tensor operator()(const at::Tensor& x) const;

    /// Of one picture, computed as its rows are asked for. Empty where it has to exist whole (no
    /// loops for x, or small enough).
    std::optional<RowSource> rows(const at::Tensor& x) const;

  private:
    /// Old rows [first, first + count) of one picture become 1 x C x 2 count x 2 w.
    at::Tensor doubled(const at::Tensor& x, std::int64_t first, std::int64_t count) const;

    std::optional<Upsample> plain_;
    std::array<std::array<Conv, 2>, 2> phases_;  ///< by the parity of the new row and column
};

/// A 3 x 3 convolution of stride 2.
class Downsample {
  public:
    enum class Padding {
        symmetric,    ///< one pixel all around: the UNet
        bottom_right  ///< one row below, one column at the right: the VAE
    };

    Downsample() = default;
    Downsample(const Builder& builder, const std::string& key, std::int64_t channels,
               Padding padding);

    at::Tensor operator()(const at::Tensor& x) const;

  private:
    AdaptedConv conv_;
    Padding padding_ = Padding::symmetric;
};

}  // namespace ultrasr
