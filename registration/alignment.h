// One comparison of the wide picture with the tele picture read through a map: what a round of
// Gauss-Newton needs to know.
#pragma once
#include <functional>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "registration/camera_map.h"

namespace ultrasr {

/// How the wide pixel is explained by the tele value T there (registration.md 4.6).
enum class Brightness {
    basis,  ///< 1, T, T^2, T^3, xT, yT, r^2 T, x, y, laplacian T: tone curve, vignette, sharpness
    gain,   ///< 1, T: one gain and offset, as RealSR has it; for comparison
};

constexpr int basis_size(Brightness brightness) { return brightness == Brightness::basis ? 10 : 2; }

/// The two pictures of one level.
struct AlignmentPictures {
    PixelRect window;    ///< of the wide frame
    cv::Mat wide;        ///< CV_32FC1, window's size
    cv::Mat tele;        ///< CV_32FC1, the whole tele frame on a finer grid than the wide pixels
    cv::Mat usable;      ///< CV_8UC1, window's size: 0 = left out (burnt)
    cv::Mat tele_burnt;  ///< CV_8UC1, any size, the whole tele frame: not 0 = left out
};

/// Sums of one round over all usable pixels.
struct NormalEquations {
    int unknowns = 0;            ///< basis first, then the free map parameters
    std::vector<double> matrix;  ///< unknowns x unknowns, upper triangle
    std::vector<double> right;   ///< unknowns
    double weight = 0;           ///< sum of the weights
    double sigma = 0;            ///< 1.4826 x median of |residual|
    double correlation = 0;      ///< wide against its explanation, unweighted
    std::size_t pixels = 0;
    double kept = 0;  ///< sum of the weights over the number of pixels
};

/// Reads the pictures through maps, row by row in parallel; sums are taken over fixed strips in
/// fixed order, so they are the same for any number of threads.
class Alignment {
  public:
    /// rim  tele samples left out at the border
    Alignment(const AlignmentPictures& pictures, Brightness brightness, int rim = 3);

    /// Reads value, gradient and Laplacian of the tele picture at the map's places (cubic
    /// B-spline). Pixels outside, burnt or not in `mask` (CV_8UC1, may be empty) are unusable.
    void read(const CameraMap& map, const cv::Mat& mask = {});

    std::size_t pixels() const { return pixels_; }

    /// Explains the wide picture by the basis alone, unweighted. Empty when it cannot.
    std::vector<double> fit_brightness() const;

    /// Residuals with coefficients `c`, Tukey weights, and the normal equations for a correction of
    /// `c` (in full, not as a difference) and of the `free` parameters of the map last read.
    NormalEquations equations(const std::vector<double>& c, const std::vector<int>& free) const;

    /// The weights of the last equations, window's size, 0 where unusable.
    const cv::Mat& weights() const { return weights_; }

  private:
    AlignmentPictures pictures_;
    Brightness brightness_;
    int rim_;
    CameraMap map_;
    std::size_t pixels_ = 0;
    std::vector<int> counts_;                                       // usable pixels of each row
    cv::Mat column_;                                                // CV_32S: their x in the window
    cv::Mat value_, gradient_x_, gradient_y_, laplacian_, target_;  // CV_32F, packed rows
    mutable cv::Mat weights_;
};

}  // namespace ultrasr
