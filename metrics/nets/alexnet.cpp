#include "metrics/nets/alexnet.h"

#include <ATen/ops/max_pool2d.h>
#include <fmt/format.h>

namespace ultrasr {

AlexNet::AlexNet(StateDict& weights, const Placement& placement) : placement_(placement) {
    const auto add = [&](int index, at::IntArrayRef shape, const ConvShape& conv) {
        convs_.push_back(
            take_conv(weights, fmt::format("features.{}", index), shape, true, conv, placement));
    };
    add(0, {64, 3, 11, 11}, {.stride = {4, 4}, .padding = {2, 2}});
    add(3, {192, 64, 5, 5}, {.padding = {2, 2}});
    add(6, {384, 192, 3, 3}, {.padding = {1, 1}});
    add(8, {256, 384, 3, 3}, {.padding = {1, 1}});
    add(10, {256, 256, 3, 3}, {.padding = {1, 1}});
}

void AlexNet::forward(const at::Tensor& input, const Tap& tap) const {
    at::Tensor x = input;
    for (std::size_t s = 0; s < convs_.size(); ++s) {
        if (s == 1 || s == 2) x = at::max_pool2d(x, {3, 3}, {2, 2});
        x = convs_[s].relu(x);
        tap(s, x);
    }
}

}  // namespace ultrasr
