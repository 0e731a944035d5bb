// The two layers that cost time, convolution and linear, with what follows them fused in. On a CPU
// they go through oneDNN with weights laid out once for it; with gradients or on a GPU through
// LibTorch's ordinary operators.
//
// Weights that require gradients when a layer takes them are trained: the layer keeps those very
// tensors, float32 on its device, and computes with what they are at each call.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "data/tensor/device.h"
#include "data/tensor/state_dict.h"

namespace ultrasr {

/// Pictures flow channels-last: oneDNN and cuDNN take them so without reordering.
at::Tensor to_activation(const at::Tensor& nchw, const Placement& placement);

/// No gradient is asked for through `x`, so that a layer may take the fused path.
bool needs_no_gradient(const at::Tensor& x);

struct ConvShape {
    std::array<std::int64_t, 2> stride{1, 1};
    std::array<std::int64_t, 2> padding{0, 0};  ///< zeros above and below, left and right
    std::int64_t groups = 1;
};

/// x: N x in x H x W as to_activation() makes it; results are of the same kind.
class Conv {
  public:
    Conv() = default;

    /// weight  out x in/groups x kh x kw, float32, CPU
    /// bias    [out], or undefined
    ///
    /// oneDNN's layout of the weights depends on the size of the map. It is made at the first call
    /// and again when the input's shape changes: weights laid out for another shape would be laid
    /// out anew at every call, which can take fifteen times the convolution. Where the placement
    /// says inference_only, the layout takes the place of the weights.
    Conv(const at::Tensor& weight, const at::Tensor& bias, const ConvShape& shape,
         const Placement& placement);

    at::Tensor operator()(const at::Tensor& x) const;
    at::Tensor relu(const at::Tensor& x) const;
    at::Tensor leaky_relu(const at::Tensor& x, double slope) const;
    /// relu(conv(x) + other). Written into `other`, which nobody may need any more.
    at::Tensor add_relu_(const at::Tensor& x, at::Tensor other) const;
    /// conv(x) + other. Written into `other` where no gradient is asked for.
    at::Tensor add_(const at::Tensor& x, at::Tensor other) const;

    /// The same layer for a strip of a map that brings the rows above and below along: pads columns
    /// only. N x in x (rows + 2 padding) x W to N x out x rows x W.
    Conv for_strips() const;

    /// The same layer with `more`, [out], float32, added to its bias.
    Conv with_more_bias(const at::Tensor& more) const;

    std::int64_t out_channels() const { return out_channels_; }

  private:
    struct Packed;
    at::Tensor plain(const at::Tensor& x) const;
    /// The weights laid out for oneDNN and inputs of that shape.
    at::Tensor packed_for(const at::Tensor& x) const;
    bool takes_fused_path(const at::Tensor& x) const {
        return packed_ && needs_no_gradient(x) && needs_no_gradient(weight_);
    }

    at::Tensor weight_, bias_;
    std::shared_ptr<Packed> packed_;  ///< null where oneDNN's fused operators are not used
    ConvShape shape_;
    std::int64_t out_channels_ = 0;
    bool emulated_ = false;
};

/// x: ... x in, contiguous, of the placement's type; results are of the same kind.
class Linear {
  public:
    Linear() = default;

    /// weight  out x in, float32, CPU
    /// bias    [out], or undefined
    Linear(const at::Tensor& weight, const at::Tensor& bias, const Placement& placement);

    at::Tensor operator()(const at::Tensor& x) const;
    at::Tensor relu(const at::Tensor& x) const;
    at::Tensor gelu(const at::Tensor& x) const;  ///< the exact one, with erf
    /// linear(x) + other
    at::Tensor add(const at::Tensor& x, const at::Tensor& other) const;
    /// linear(x) * other, element by element
    at::Tensor mul(const at::Tensor& x, const at::Tensor& other) const;

  private:
    at::Tensor plain(const at::Tensor& x) const;
    at::Tensor fused(const at::Tensor& x, const char* after) const;
    bool takes_fused_path(const at::Tensor& x) const;

    at::Tensor weight_, bias_;
    at::Tensor packed_;  ///< laid out for oneDNN; weight_ then stays for gradients alone
    bool emulated_ = false;
};

/// Normalisation over the last dimension; statistics in float32.
class LayerNorm {
  public:
    LayerNorm() = default;

    /// key  holds .weight and .bias, [width]
    LayerNorm(StateDict& weights, const std::string& key, std::int64_t width, double eps,
              const Placement& placement);

    at::Tensor operator()(const at::Tensor& x) const;

  private:
    at::Tensor weight_, bias_;
    double eps_ = 0.0;
};

/// `key`.weight (and `key`.bias) as layers.
Conv take_conv(StateDict& weights, const std::string& key, at::IntArrayRef weight_shape, bool bias,
               const ConvShape& shape, const Placement& placement);
Linear take_linear(StateDict& weights, const std::string& key, std::int64_t out, std::int64_t in,
                   bool bias, const Placement& placement);

/// A convolution without bias and the batch norm behind it as one convolution; folded in double.
///
/// conv_key  holds .weight;  norm_key  .weight .bias .running_mean .running_var
Conv take_conv_norm(StateDict& weights, const std::string& conv_key, const std::string& norm_key,
                    at::IntArrayRef weight_shape, double eps, const ConvShape& shape,
                    const Placement& placement);

}  // namespace ultrasr
