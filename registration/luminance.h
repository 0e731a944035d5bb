// From camera frames to the small linear-light pictures that registration looks at.
#pragma once
#include <opencv2/core/mat.hpp>

#include "data/base/geometry.h"
#include "data/frame.h"

namespace ultrasr {

/// Linear-light luminance 0.2126 R + 0.7152 G + 0.0722 B with its burnt-out spots.
struct Luminance {
    cv::Mat light;  ///< CV_32FC1, [0,1]
    cv::Mat burnt;  ///< CV_32FC1, share of the pixel's area that is burnt out: any channel at or
                    ///< above 252 of 255 as the file holds it
    PixelSize size() const { return {light.cols, light.rows}; }
};

/// Of a part of a frame, pixel by pixel. `area` must lie inside the frame.
Luminance luminance_of(const Frame& frame, const PixelRect& area);

/// Of the whole frame, averaged over areas to `size` (each axis with its own exact factor >= 1).
/// Pixel x of the frame becomes (x + 0.5) size / frame size - 0.5.
///
/// burnt_shrink  divides both sides of `size`: `burnt` is made this many times smaller than `light`
Luminance shrink_luminance(const Frame& frame, PixelSize size, int burnt_shrink = 1);

/// The same of a picture that is luminance already.
cv::Mat shrink_area(const cv::Mat& picture, PixelSize size);

/// Gamma 1/2.2 of linear light.
cv::Mat coded(const cv::Mat& light);

/// Gaussian blur, border replicated. sigma in pixels of the picture; 0 = a copy.
cv::Mat blurred(const cv::Mat& picture, double sigma);

/// (Y - mean) / (spread + floor) with Gaussian local mean and spread; `sigma` and the result's
/// pixels are the picture's. For sigmas of 8 and more they are taken on a smaller copy.
cv::Mat local_contrast(const cv::Mat& coded_picture, double sigma, double floor);

}  // namespace ultrasr
