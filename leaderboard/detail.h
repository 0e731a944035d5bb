// Which part of a picture to show large.
#pragma once
#include "data/base/geometry.h"
#include "data/image.h"

namespace ultrasr {

/// The rectangle of that size (or of the picture's, where smaller) with the largest sum of
/// absolute differences between neighbouring pixels' luma; the first one on ties.
PixelRect most_textured(const Image& image, PixelSize size);

/// A copy of that part. throws Error(input) when it is not inside the picture or empty.
Image crop(const Image& image, const PixelRect& part);

/// Every pixel `factor` times as wide and high.
Image enlarge_nearest(const Image& image, PixelSize size);

}  // namespace ultrasr
