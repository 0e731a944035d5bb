// SRVGGNetCompact, the small network of Real-ESRGAN v3.
#pragma once
#include <string_view>
#include <vector>

#include "models/layers/conv.h"
#include "models/upscale_net.h"

namespace ultrasr {

/// Convolutions with PReLU in a row, pixel shuffle, plus the input doubled to size by repetition.
///
/// Source: Real-ESRGAN (Wang et al. 2021) release v0.2.5; graph and keys: peer_methods.md 1.3.
class SrvggNet final : public UpscaleNet {
  public:
    /// Width, depth and scale are read from the keys and shapes.
    ///
    /// weights  body.{2k}.weight/.bias and body.{2k+1}.weight, float32
    /// what     the file, for messages
    /// throws   Error(input) that lists what is missing or surplus; a file without PReLU slopes too
    SrvggNet(const NamedTensors& weights, const Placement& placement, std::string_view what);

    at::Tensor forward(const at::Tensor& rgb) const override;
    int scale() const override { return scale_; }
    int receptive_radius() const override { return static_cast<int>(convs_.size()); }

  private:
    Placement placement_;
    std::vector<Conv3x3> convs_;
    std::vector<at::Tensor> slopes_;
    int scale_ = 0;
};

/// The weights between two files: d general + (1 - d) wdn, every tensor, in float32.
///
/// d       [0,1]; throws Error(usage) outside
/// throws  Error(input) when the files differ in names or shapes
NamedTensors blend_weights(const NamedTensors& general, const NamedTensors& wdn, double d);

}  // namespace ultrasr
