// The arithmetic of noise at one pixel. Source: degradation.md 1.7, 1.8 and correction 10.
#pragma once
#include <cstdint>

#include "degradation/steps/lanes.h"

namespace ultrasr {

/// Adds z times sigma (in 1/255) and clamps to [0,1].
template <class V>
ULTRASR_HOST_DEVICE V with_gaussian(V picture, V z, float sigma) {
    return clamp(picture + z * V(sigma) / V(255.0F), 0.0F, 1.0F);
}

/// The 8-bit level that Poisson noise takes its mean from.
ULTRASR_HOST_DEVICE inline std::uint8_t poisson_level(float value) {
    return static_cast<std::uint8_t>(clamp(round_even(value * 255.0F), 0.0F, 255.0F));
}

/// Grey of BT.601 as torchvision truncates it.
ULTRASR_HOST_DEVICE inline float grey_of(float r, float g, float b) {
    return 0.2989F * r + 0.587F * g + 0.114F * b;
}

/// What a count says beyond its mean, times the scale.
ULTRASR_HOST_DEVICE inline float poisson_deviation(float count, float vals, std::uint8_t level,
                                                   float scale) {
    return (count / vals - static_cast<float>(level) / 255.0F) * scale;
}

}  // namespace ultrasr
