#include "models/layers/conv.h"

#include <ATen/ops/conv2d.h>
#include <ATen/ops/leaky_relu.h>

namespace ultrasr {

at::Tensor to_activation(const at::Tensor& nchw, const Placement& placement) {
    return nchw.to(placement.device, placement.dtype).contiguous(at::MemoryFormat::ChannelsLast);
}

Conv3x3::Conv3x3(const NamedTensors& weights, const std::string& key, const Placement& placement)
    : weight_(to_activation(weights.at(key + ".weight"), placement)),
      bias_(weights.at(key + ".bias").to(placement.device, placement.dtype)),
      emulated_(placement.emulated) {
    if (emulated_) {
        weight_ = weight_.to(at::kFloat);
        bias_ = bias_.to(at::kFloat);
    }
}

at::Tensor Conv3x3::operator()(const at::Tensor& x) const {
    if (!emulated_) return at::conv2d(x, weight_, bias_, 1, 1);
    return at::conv2d(x.to(at::kFloat), weight_, bias_, 1, 1).to(x.scalar_type());
}

at::Tensor Conv3x3::leaky(const at::Tensor& x) const {
    at::Tensor y = at::conv2d(emulated_ ? x.to(at::kFloat) : x, weight_, bias_, 1, 1);
    return at::leaky_relu_(y, 0.2).to(x.scalar_type());
}

}  // namespace ultrasr
