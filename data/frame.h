// A camera's picture as decoded: full size, sensor order, too large to hold as floats.
#pragma once
#include <opencv2/core/mat.hpp>

#include "data/base/geometry.h"
#include "data/image.h"

namespace ultrasr {

/// H x W x 3, RGB order, CV_8UC3 (sRGB-encoded, from JPEG and PNG) or CV_16UC3 (linear light, from
/// RAW). Full scale of the type is 1. In sensor order: no EXIF orientation is applied.
struct Frame {
    cv::Mat rgb;
    Encoding encoding = Encoding::srgb;

    bool empty() const { return rgb.empty(); }
    PixelSize size() const { return {rgb.cols, rgb.rows}; }
    bool is_16bit() const { return rgb.depth() == CV_16U; }
};

}  // namespace ultrasr
