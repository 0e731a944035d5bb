#include "models/srvgg.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/pixel_shuffle.h>
#include <ATen/ops/prelu.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <c10/core/InferenceMode.h>

#include <charconv>

#include "data/base/error.h"

namespace ultrasr {
namespace {

/// n of "body.n.weight", the greatest one; -1 when there is none.
int last_index(const NamedTensors& weights) {
    int last = -1;
    for (const auto& [name, tensor] : weights) {
        if (!name.starts_with("body.") || !name.ends_with(".weight")) continue;
        int n = -1;
        const char* end = name.data() + name.size() - 7;
        const auto [stop, code] = std::from_chars(name.data() + 5, end, n);
        if (code == std::errc{} && stop == end) last = std::max(last, n);
    }
    return last;
}

}  // namespace

SrvggNet::SrvggNet(const NamedTensors& weights, const Placement& placement, std::string_view what)
    : placement_(placement) {
    // Derive depth, width and scale
    const int last = last_index(weights);
    const auto first = weights.find("body.0.weight");
    const auto final = weights.find(fmt::format("body.{}.weight", last));
    require(last >= 2 && last % 2 == 0 && last < 1000 && first != weights.end() &&
                first->second.dim() == 4 && final->second.dim() == 4,
            "{} does not hold an SRVGGNetCompact: no row of convolutions body.0 ... body.2n; check "
            "that this is the right file",
            what);
    const std::int64_t width = first->second.size(0);
    const std::int64_t out = final->second.size(0);
    while (3L * scale_ * scale_ < out) ++scale_;
    require(3L * scale_ * scale_ == out && scale_ >= 1,
            "{}: the last convolution has {} channels, which is not 3 times a square", what, out);

    // Demand exactly the keys of such a network
    Shapes expected;
    for (int n = 0; n <= last; ++n) {
        const std::string key = fmt::format("body.{}", n);
        if (n % 2 == 1) {
            expected[key + ".weight"] = {width};
            continue;
        }
        const std::int64_t outputs = n == last ? out : width;
        expected[key + ".weight"] = {outputs, n == 0 ? 3 : width, 3, 3};
        expected[key + ".bias"] = {outputs};
    }
    check_tensors(weights, expected, fmt::format("SRVGGNetCompact ({})", what));

    // Take them
    for (int n = 0; n <= last; ++n) {
        const std::string key = fmt::format("body.{}", n);
        if (n % 2 == 0) {
            convs_.emplace_back(weights, key, placement);
        } else {
            slopes_.push_back(weights.at(key + ".weight").to(placement.device, placement.dtype));
        }
    }
}

at::Tensor SrvggNet::forward(const at::Tensor& rgb) const {
    const c10::InferenceMode guard;
    const at::Tensor x = rgb.to(placement_.device);
    at::Tensor y = to_activation(x, placement_);
    for (std::size_t k = 0; k < slopes_.size(); ++k) y = at::prelu(convs_[k](y), slopes_[k]);
    const at::Tensor detail = at::pixel_shuffle(convs_.back()(y).to(at::kFloat), scale_);
    return detail + at::upsample_nearest2d(x, {x.size(2) * scale_, x.size(3) * scale_});
}

NamedTensors blend_weights(const NamedTensors& general, const NamedTensors& wdn, double d) {
    if (!(d >= 0.0 && d <= 1.0)) {
        fail(Fault::usage, "the denoise strength is {}; it lies between 0 and 1", d);
    }
    Shapes expected;
    for (const auto& [name, tensor] : general) expected[name] = tensor.sizes().vec();
    check_tensors(wdn, expected, "the network they are blended with");
    NamedTensors blended;
    for (const auto& [name, tensor] : general) {
        blended.emplace(name, tensor * d + wdn.at(name) * (1.0 - d));
    }
    return blended;
}

}  // namespace ultrasr
