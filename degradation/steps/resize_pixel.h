// The arithmetic of one resized pixel. Source: degradation.md 1.6.
#pragma once
#include <cstddef>

#include "degradation/steps/lanes.h"

namespace ultrasr {

/// The weighted sum along one axis, in the order of the taps.
///
/// at   at(t) is the value under tap t, 0 <= t < taps
template <class V, class At>
ULTRASR_HOST_DEVICE V resize_axis(const float* weights, int taps, At&& at) {
    V sum = V(weights[0]) * at(0);
    for (int t = 1; t < taps; ++t) sum = fused(V(weights[t]), at(t), sum);
    return sum;
}

/// The mean over a bin: added row by row, then divided by its height, then by its width, which is
/// how adaptive average pooling rounds.
ULTRASR_HOST_DEVICE inline float area_mean(const float* from, std::ptrdiff_t stride, int height,
                                           int width) {
    float sum = 0;
    for (int y = 0; y < height; ++y, from += stride) {
        for (int x = 0; x < width; ++x) sum += from[x];
    }
    return sum / static_cast<float>(height) / static_cast<float>(width);
}

/// Where the bin of output i begins, for n inputs and m outputs; it ends where area_end says.
ULTRASR_HOST_DEVICE inline int area_begin(int i, int n, int m) {
    return static_cast<int>(static_cast<long long>(i) * n / m);
}
ULTRASR_HOST_DEVICE inline int area_end(int i, int n, int m) {
    return static_cast<int>((static_cast<long long>(i + 1) * n + m - 1) / m);
}

}  // namespace ultrasr
