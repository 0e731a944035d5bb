#include "data/image.h"

#include <algorithm>
#include <cmath>
#include <opencv2/core.hpp>

#include "data/base/error.h"

namespace ultrasr {

Image::Image(cv::Mat rgb, Encoding encoding) : rgb_(std::move(rgb)), encoding_(encoding) {
    if (!rgb_.empty() && rgb_.type() != CV_32FC3) {
        fail(Fault::internal, "a picture is RGB float32, got OpenCV type {}", rgb_.type());
    }
}

Image::Image(PixelSize size, Encoding encoding)
    : rgb_(cv::Mat::zeros(size.height, size.width, CV_32FC3)), encoding_(encoding) {}

Image quantise_8bit(const Image& image, Rounding rounding) {
    Image result(image.size(), image.encoding());
    const int n = 3 * image.width();
    for (int y = 0; y < image.height(); ++y) {
        const float* from = image.row(y);
        float* to = result.row_(y);
        for (int x = 0; x < n; ++x) {
            // A NaN becomes 0: clamp written so that a failed comparison gives the lower bound
            const float v = (from[x] > 0.0F ? std::min(from[x], 1.0F) : 0.0F) * 255.0F;
            to[x] = (rounding == Rounding::half_even ? std::nearbyint(v) : std::floor(v)) / 255.0F;
        }
    }
    return result;
}

}  // namespace ultrasr
