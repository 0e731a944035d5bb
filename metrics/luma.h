// From RGB to luma, in the float32 arithmetic that decides rounding ties (metrics.md 1.2, 2, 6.1).
#pragma once
#include "data/base/fwd.h"
#include "metrics/metric.h"
#include "metrics/plane.h"

namespace ultrasr {

enum class Luma {
    y601,  ///< BT.601 studio swing, in [16/255, 235/255]
    yiq,   ///< 0.299 R + 0.587 G + 0.114 B, in [0, 1]
};

/// One row of luma, not rounded.
///
/// rgb      3 width floats in [0,1]. One that times 255 is a whole number k in float32 is taken for
///          8-bit level k and converted as the profile does: k / 255 (cpu), k times float32(1/255)
///          (cuda). Any other is used as it is
/// luma     receives width floats
void luma_row(const float* rgb, int width, Luma kind, Profile profile, float* luma);

/// The channels themselves, converted as above: `count` floats.
void channel_row(const float* rgb, int count, Profile profile, float* channels);

/// rint(255 Y), halves to even, product in float32: whole numbers in [0, 255].
Plane<float> rounded_luma(const Image& image, Luma kind, Profile profile);

}  // namespace ultrasr
