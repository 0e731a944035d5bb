// Noise of one octave laid over the plane: the same everywhere and for everybody.
#pragma once
#include <cstdint>
#include <opencv2/core/mat.hpp>

namespace ultrasr {

/// A difference of Gaussians of white noise, standard deviation 1; periodic (315 waves a side).
///
/// Its power lies about the wavelength given, half of it within a factor of 1.4; it has no mean.
class TextureOctave {
  public:
    /// wave   the wavelength, in the plane's unit
    /// angle  radians by which the pattern is turned
    TextureOctave(double wave, double angle);

    float at(double x, double y) const {
        const double u = a_ * x + b_ * y + start, v = a_ * y - b_ * x + start;
        const auto whole_u = static_cast<std::int64_t>(u), whole_v = static_cast<std::int64_t>(v);
        const auto fu = static_cast<float>(u - static_cast<double>(whole_u));
        const auto fv = static_cast<float>(v - static_cast<double>(whole_v));
        const auto iu = static_cast<std::size_t>(whole_u) & mask;
        const auto iv = static_cast<std::size_t>(whole_v) & mask;
        const std::int16_t* upper = noise_ + iv * row + iu;
        const std::int16_t* lower = upper + row;
        const float top = upper[0] + static_cast<float>(upper[1] - upper[0]) * fu;
        const float low = lower[0] + static_cast<float>(lower[1] - lower[0]) * fu;
        return (top + (low - top) * fv) * (1 / unit);
    }

    static constexpr float unit = 4096;  ///< int16 steps of one standard deviation

  private:
    static constexpr std::size_t side = 2048, mask = side - 1, row = side + 8;
    static constexpr double start = 1 << 24;  ///< keeps places positive; a multiple of the side
    /// (side + 1) rows of `row` numbers, the last row and column those of the other border.
    static const cv::Mat& pattern();

    double a_, b_;
    const std::int16_t* noise_;
};

}  // namespace ultrasr
