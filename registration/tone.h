// How the wide frame's camera renders a brightness of the tele frame.
#pragma once
#include <vector>
#include <opencv2/core/mat.hpp>

#include "registration/camera_map.h"

namespace ultrasr {

/// A monotone curve from gamma-coded tele luminance to gamma-coded wide luminance, straight between
/// its knots.
///
/// Why: local contrast takes out gain and offset, but where the tone curves of two exposures differ
/// an edge between far brightnesses is bent, and a bent edge looks moved. The powers of T in the
/// basis are the same everywhere and cannot mend that; the curve can.
class ToneCurve {
  public:
    ToneCurve() = default;  ///< the identity
    ToneCurve(std::vector<float> knots, std::vector<float> values);

    bool is_identity() const { return knots_.empty(); }
    float operator()(float tele) const;

    /// Of a picture, CV_32FC1.
    cv::Mat operator()(const cv::Mat& tele) const;

  private:
    std::vector<float> knots_, values_;
};

/// Fits the curve where both pictures see the same, with a vignette 1 + a x + b y + c r^2 along
/// with it; edges count little and outliers nothing, so that a rough map is enough.
///
/// wide    gamma-coded, CV_32FC1, pixels of `window` of the wide frame
/// tele    gamma-coded, CV_32FC1, the whole tele frame on any grid
/// usable  CV_8UC1, window's size, 0 = left out
/// returns the identity when fewer than 400 pixels are there
ToneCurve fit_tone(const cv::Mat& wide, const cv::Mat& tele, const cv::Mat& usable,
                   const PixelRect& window, const CameraMap& map);

}  // namespace ultrasr
