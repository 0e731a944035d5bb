// How far one frame of a tripod moved against another, to a few hundredths of a pixel.
#pragma once
#include <optional>
#include <opencv2/core/mat.hpp>

#include "data/base/geometry.h"

namespace ultrasr {

/// An affine map between two frames of one scene, as displacements of the second frame.
struct FrameShift {
    PixelPoint centre;       ///< displacement in the middle of the area, pixels right and down
    double turn_deg = 0;     ///< clockwise as seen in the picture
    double stretch = 0;      ///< relative enlargement
    double rms_px = 0;       ///< of the displacement over the area
    double sigma_px = 0;     ///< standard error of that, pixels that resemble each other counted
    double correlation = 0;  ///< of the aligned pictures, [-1,1]
};

/// Estimates the shift.
///
/// first, second  the same area of two frames, CV_32F, one size of at least 64 x 64, any gain and
///                offset between them
/// returns        nothing when the two do not show the same thing (correlation below 0.5) or the
///                area has no detail
/// Method: whole pixels by phase correlation (Kuglin and Hines 1975), then Gauss-Newton on an
/// affine map with gain and offset, Tukey weights, over blurs of 4, 2 and 1 px (Lucas and Kanade
/// 1981; Baker and Matthews 2004). Moves of up to a quarter of the area are found.
std::optional<FrameShift> estimate_shift(const cv::Mat& first, const cv::Mat& second);

}  // namespace ultrasr
