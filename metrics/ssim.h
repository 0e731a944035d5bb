// Structural similarity of two planes, the part that SSIM and MS-SSIM share.
#pragma once
#include "metrics/plane.h"

namespace ultrasr {

struct SsimMeans {
    double ssim = 0.0;      ///< mean of luminance times contrast-structure
    double contrast = 0.0;  ///< mean of contrast-structure alone, each value at least 0
};

/// How much of a float32's 24 bits the samples use.
enum class Samples {
    whole,       ///< whole numbers in [0, 255]: squares are exact in float32
    fractional,  ///< multiples of 1/256 in [0, 255]: squares need double
};

/// Means of the SSIM map over all places where an 11 x 11 window fits.
///
/// a, b    equal sizes, sides >= 11, values in [0, 255]
/// Window: Gaussian, sigma 1.5, no padding, no downsampling, no Bessel correction;
/// C1 = (0.01 255)^2, C2 = (0.03 255)^2. Negative contrast-structure counts as 0: pyiqa's own
/// choice, which BasicSR, scikit-image and MATLAB do not share.
/// Source: Wang et al., "Image quality assessment", IEEE TIP 2004, sec. III-B; metrics.md 3.
SsimMeans ssim_means(const Plane<float>& a, const Plane<float>& b, Samples samples);

}  // namespace ultrasr
