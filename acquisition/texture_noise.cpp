#include "acquisition/texture_noise.h"

#include <cmath>
#include <opencv2/imgproc.hpp>

#include "acquisition/gaussian_noise.h"

namespace ultrasr {
namespace {

constexpr double texels_a_wave = 6.5;  // where the difference of Gaussians 1 and 2 peaks
constexpr int reach = 16;              // of the Gaussians
constexpr std::uint64_t pattern_seed = 0x7e87;

}  // namespace

TextureOctave::TextureOctave(double wave, double angle)
    : a_(texels_a_wave / wave * std::cos(angle)),
      b_(texels_a_wave / wave * std::sin(angle)),
      noise_(pattern().ptr<std::int16_t>()) {}

const cv::Mat& TextureOctave::pattern() {
    static const cv::Mat made = [] {
        // White noise, wrapped around by as much as the filters reach
        constexpr int n = static_cast<int>(side);
        cv::Mat white(n, n, CV_32F);
        for (int y = 0; y < n; ++y) {
            fill_gaussian(pattern_seed, static_cast<std::uint64_t>(y), {white.ptr<float>(y), side});
        }
        cv::Mat wrapped, fine, coarse;
        cv::copyMakeBorder(white, wrapped, reach, reach, reach, reach, cv::BORDER_WRAP);
        cv::GaussianBlur(wrapped, fine, {11, 11}, 1.0);
        cv::GaussianBlur(wrapped, coarse, {21, 21}, 2.0);
        // Scaled to unit variance, the first row and column repeated at the end
        const cv::Mat octave = fine - coarse;
        cv::Scalar mean, deviation;
        cv::meanStdDev(octave(cv::Rect(reach, reach, n, n)), mean, deviation);
        cv::Mat steps;
        octave(cv::Rect(reach, reach, static_cast<int>(row), n + 1))
            .convertTo(steps, CV_16S, unit / deviation[0], -mean[0] * unit / deviation[0]);
        return steps;
    }();
    return made;
}

}  // namespace ultrasr
