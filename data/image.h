// A picture in memory: RGB float32 in [0,1], rows of interleaved pixels.
#pragma once
#include <cstddef>
#include <opencv2/core/mat.hpp>

#include "data/base/geometry.h"

namespace ultrasr {

/// What the numbers mean: gamma-encoded sRGB, or proportional to light.
enum class Encoding { srgb, linear };

/// H x W x 3, RGB, float32, [0,1]. The range is checked where pixels enter from a file and where
/// a method returns, not here. Copies share their pixels; nothing writes into a picture it was
/// given.
class Image {
  public:
    Image() = default;  ///< empty, 0 x 0

    /// Takes over a CV_32FC3 matrix in RGB order. throws Error(internal) on another type.
    explicit Image(cv::Mat rgb, Encoding encoding = Encoding::srgb);

    /// A black picture to be filled through row_().
    explicit Image(PixelSize size, Encoding encoding = Encoding::srgb);

    int width() const { return rgb_.cols; }
    int height() const { return rgb_.rows; }
    PixelSize size() const { return {rgb_.cols, rgb_.rows}; }
    bool empty() const { return rgb_.empty(); }
    Encoding encoding() const { return encoding_; }

    /// Row y: 3 width() floats, R G B R G B ...
    const float* row(int y) const { return rgb_.ptr<float>(y); }
    float* row_(int y) { return rgb_.ptr<float>(y); }

    const cv::Mat& mat() const { return rgb_; }

  private:
    cv::Mat rgb_;
    Encoding encoding_ = Encoding::srgb;
};

/// How a float in [0,1] becomes one of 256 levels.
enum class Rounding {
    half_even,  ///< rint(255 v): Real-ESRGAN, BSRGAN
    truncate,   ///< floor(255 v): StableSR and the one-step diffusion scripts
};

/// Clamps to [0,1] and rounds to the 256 levels k / 255 (true division), as a file would hold them.
Image quantise_8bit(const Image& image, Rounding rounding = Rounding::half_even);

}  // namespace ultrasr
