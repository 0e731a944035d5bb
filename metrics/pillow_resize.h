// Pillow's bicubic resize of float32 channels, bit by bit: what "clean" FID does to its pictures.
#pragma once
#include <vector>

#include "data/base/fwd.h"
#include "data/base/geometry.h"

namespace ultrasr {

/// Enlarges or reduces with antialiasing: Keys' cubic (a = -0.5) stretched by the ratio, weights of
/// the taps that exist normalised to 1; horizontal pass first, stored as float32, then vertical;
/// weights and sums in double.
///
/// image    any size >= 1 x 1; its levels 0 ... 255 are resized, not its [0,1]
/// returns  size.height x size.width x 3, R G B interleaved, on the scale 0 ... 255, not clipped
/// Source: Parmar et al. 2022 (clean-fid); metrics.md 5.3, bit-equal to Pillow's mode F.
std::vector<float> pillow_bicubic(const Image& image, PixelSize size);

}  // namespace ultrasr
