// HR brought to LR's brightness and colour, never LR to HR's.
#pragma once
#include <array>
#include <string>
#include <string_view>
#include <vector>
#include <opencv2/core/mat.hpp>

namespace ultrasr {

enum class Photometric { curve, gain, none };

/// By name: curve, gain, none. throws Error(usage).
Photometric photometric(std::string_view name);
std::string_view name_of(Photometric kind);

/// How HR's linear light becomes LR's (registration.md 7).
struct PhotometricFit {
    Photometric kind = Photometric::none;  ///< what is applied
    std::string why;                       ///< why it is `none` although another was asked for
    std::array<double, 3> gain{1, 1, 1}, offset{0, 0, 0};  ///< per channel, `gain`
    std::array<std::vector<double>, 3> knots, values;      ///< per channel, `curve`
    std::array<double, 3> vignette{0, 0, 0};  ///< 1 + a x + b y + c r^2; x, y, r of the window's
                                              ///< middle, unit: half its diagonal
    double residual_before = 0, residual_after = 0;  ///< RMS at LR scale, sRGB-encoded
};

struct PhotometricInput {
    cv::Mat lr;       ///< CV_32FC3, linear
    cv::Mat hr_mean;  ///< block means of HR, CV_32FC3, linear; may lack a last row or column
    cv::Mat weight;   ///< CV_32F, LR size: Tukey weights
    double hr_burnt_share = 0, lr_burnt_share = 0;
    double correlation = 1;
};

/// Fits what was asked for, and falls back to `none` with a reason when one of the conditions of
/// registration.md 7 holds.
PhotometricFit fit_photometric(const PhotometricInput& input, Photometric wanted);

/// Gain and offset whatever the conditions, for display.
PhotometricFit fit_gain_always(const PhotometricInput& input);

/// HR's linear light, CV_32FC3, after the match.
cv::Mat apply_photometric(const PhotometricFit& fit, const cv::Mat& hr_linear);

/// The same, sRGB-encoded to 8 or 16 bits and rounded once, without a second linear copy.
cv::Mat encode_matched(const PhotometricFit& fit, const cv::Mat& hr_linear, int bits);

}  // namespace ultrasr
