// A zoom pair made by OpenCV's resampling alone: none of the simulator's or the registration's
// geometry is in it.
#pragma once
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "data/base/random.h"
#include "data/color.h"
#include "registration/camera_map.h"

namespace ultrasr::test {

/// A picture of noise at all sizes, linear light, CV_32FC3.
inline cv::Mat cloud_picture(int width, int height, std::uint64_t seed) {
    cv::Mat sum = cv::Mat::zeros(height, width, CV_32FC3);
    Rng rng(seed, 0);
    for (int cell = 3; cell < width / 3; cell *= 2) {
        cv::Mat noise(height / cell + 2, width / cell + 2, CV_32FC3);
        for (int y = 0; y < noise.rows; ++y) {
            for (int x = 0; x < noise.cols; ++x) {
                const auto grey = static_cast<float>(rng.uniform() - 0.5);
                for (int c = 0; c < 3; ++c) {
                    noise.ptr<float>(y)[3 * x + c] =
                        grey + 0.2F * static_cast<float>(rng.uniform() - 0.5);
                }
            }
        }
        cv::Mat large;
        cv::resize(noise, large, sum.size(), 0, 0, cv::INTER_CUBIC);
        sum += large * std::pow(static_cast<double>(cell), 0.4) * 0.08;
    }
    sum += cv::Scalar(0.3, 0.3, 0.3);
    cv::min(sum, 0.95, sum);
    cv::max(sum, 0.01, sum);
    return sum;
}

/// One picture seen by both: the wide frame is its area average by a whole factor, the tele frame a
/// part of it, turned and resampled.
struct ZoomPair {
    cv::Mat wide, tele;     // CV_8UC3, sRGB
    PairGeometry geometry;  // nominal scale: the true one, rounded
    cv::Matx23d picture_from_tele;
    int factor;

    /// Whole-number centres.
    PixelPoint to_tele(PixelPoint wide_place) const {
        const double px = (wide_place.x + 0.5) * factor - 0.5,
                     py = (wide_place.y + 0.5) * factor - 0.5;
        const cv::Matx23d& m = picture_from_tele;
        const double dx = px - m(0, 2), dy = py - m(1, 2);
        const double det = m(0, 0) * m(1, 1) - m(0, 1) * m(1, 0);
        return {(m(1, 1) * dx - m(0, 1) * dy) / det, (m(0, 0) * dy - m(1, 0) * dx) / det};
    }
};

/// picture  linear light; its size a multiple of `factor`
/// zoom     tele pixels per picture pixel
inline ZoomPair make_zoom_pair(const cv::Mat& picture, int factor, double zoom, double degrees,
                               cv::Size tele_size, double shift_x, double shift_y) {
    ZoomPair pair;
    pair.factor = factor;
    cv::Mat small;
    cv::resize(picture, small, {picture.cols / factor, picture.rows / factor}, 0, 0,
               cv::INTER_AREA);
    pair.wide = encode_srgb(small, 8);
    const double angle = degrees * 3.14159265358979 / 180;
    const double c = std::cos(angle) / zoom, s = std::sin(angle) / zoom;
    const double cx = (picture.cols - 1) / 2.0 + shift_x, cy = (picture.rows - 1) / 2.0 + shift_y;
    const double tx = (tele_size.width - 1) / 2.0, ty = (tele_size.height - 1) / 2.0;
    pair.picture_from_tele = {c, -s, cx - c * tx + s * ty, s, c, cy - s * tx - c * ty};
    cv::Mat warped;
    cv::warpAffine(picture, warped, pair.picture_from_tele, tele_size,
                   cv::INTER_CUBIC | cv::WARP_INVERSE_MAP, cv::BORDER_REFLECT);
    pair.tele = encode_srgb(warped, 8);
    pair.geometry = {{small.cols, small.rows},
                     {tele_size.width, tele_size.height},
                     4704.0 * small.cols / 6048,
                     std::round(factor * zoom)};
    return pair;
}

}  // namespace ultrasr::test
