// RRDBNet, the network of ESRGAN, Real-ESRGAN and BSRGAN.
#pragma once
#include <array>
#include <string_view>
#include <vector>

#include "models/layers/conv.h"
#include "models/upscale_net.h"

namespace ultrasr {

/// The weights under the names of BasicSR and Real-ESRGAN, whichever of the three namings they
/// came in. Names that belong to none are kept, for the strict check to report.
///
/// Source: peer_methods.md 1.2.
NamedTensors with_new_rrdb_names(const NamedTensors& weights);

/// Residual-in-residual dense blocks, then one or two doublings.
///
/// Source: ESRGAN (Wang et al. 2018), Real-ESRGAN (2021), BSRGAN (Zhang et al. 2021); graph and
/// keys: peer_methods.md 1.1, 1.2.
class RrdbNet final : public UpscaleNet {
  public:
    /// Blocks, widths and scale are read from the keys and shapes: 3 input channels and two
    /// doublings are x4, one doubling x2 (BSRGANx2), 12 channels x2 and 48 channels x1 by pixel
    /// unshuffle.
    ///
    /// weights  any of the three namings, float32
    /// what     the file, for messages
    /// throws   Error(input) that lists what is missing or surplus
    RrdbNet(const NamedTensors& weights, const Placement& placement, std::string_view what);

    at::Tensor forward(const at::Tensor& rgb) const override;
    int scale() const override { return (conv_up2_.empty() ? 2 : 4) / unshuffle_; }
    int receptive_radius() const override;
    int multiple() const override { return unshuffle_; }

  private:
    using DenseBlock = std::vector<Conv3x3>;  // conv1 ... conv5
    struct Block {
        std::array<DenseBlock, 3> rdb;
    };
    static at::Tensor dense(const DenseBlock& rdb, const at::Tensor& x);

    Placement placement_;
    int unshuffle_ = 1;
    std::vector<Conv3x3> conv_first_;  // one each; vectors because they are made after the check
    std::vector<Block> body_;
    std::vector<Conv3x3> conv_body_, conv_up1_, conv_up2_, conv_hr_, conv_last_;
};

}  // namespace ultrasr
