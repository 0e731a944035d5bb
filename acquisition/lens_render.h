// A lens throws the simulated world onto a sensor: every sample by its own ray, then blur and
// pixel.
#pragma once
#include <array>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "acquisition/simulated_scene.h"
#include "acquisition/truth.h"
#include "data/base/geometry.h"

namespace ultrasr {

/// Where a frame's pixels look in the world.
struct LensView {
    CameraTruth camera;
    double wide_f_px = 0;  ///< LR px of the world per unit of a ray
    /// Rays of the world from rays of this camera; the identity for the wide camera.
    std::array<double, 9> world_from_camera{1, 0, 0, 0, 1, 0, 0, 0, 1};
    /// Red, green, blue are thrown this much too large: lateral chromatic aberration.
    std::array<double, 3> magnification{1, 1, 1};
};

/// What spreads a point of light over the sensor besides the pixel's own square.
struct Blur {
    double sigma_px = 0;    ///< Gaussian, pixels of this frame
    double line_dx_px = 0;  ///< a straight shake of this vector, centred on the point
    double line_dy_px = 0;
};

/// One picture of linear light, three CV_32FC1 of a size.
using LightPlanes = std::array<cv::Mat, 3>;

/// The exact inverse mapping of a lens, one row at a time.
class RowPlaces {
  public:
    explicit RowPlaces(const LensView& view);

    /// World places of the pixels x0, x0 + step, ... of the row y (fractions allowed).
    ///
    /// Rays are traced at every few samples and joined by straight lines, so that no place is
    /// further off than 1e-4 px of this frame; in the middle of the frame it is far less.
    void trace(int channel, double x0, double step, double y, std::vector<double>& world_x,
               std::vector<double>& world_y) const;

    /// LR px per pixel of this frame, in its middle.
    double world_per_pixel() const { return world_per_pixel_; }

  private:
    PixelPoint place(double magnification, double x, double y) const;

    LensView view_;
    PixelPoint centre_;
    double half_diagonal_;
    double world_per_pixel_;
    double node_px_;             ///< pixels between two traced rays
    std::vector<double> table_;  ///< undistortion over r'^2
    double table_step_;
};

/// Light on the pixels of `window` (it may reach out of the frame), for exposure 1.
///
/// samples  per pixel each way; Gaussian and pixel square are integrated over them, a shake is
///          summed over whole pixels with bilinear shares
LightPlanes render_window(const SimulatedScene& scene, const RowPlaces& places, PixelRect window,
                          int samples, const Blur& blur);

/// A whole frame that is far out of focus, seen at every `step`-th pixel only.
class BlurredFrame {
  public:
    /// blur  sigma_px of 8 or more; no shake
    BlurredFrame(const SimulatedScene& scene, const RowPlaces& places, PixelSize size,
                 const Blur& blur);

    /// The same as render_window, to 0.1 % of the light; by cubics between the samples.
    LightPlanes window(PixelRect window) const;

    static bool serves(const Blur& blur) { return blur.sigma_px >= 8; }

  private:
    int step_;
    LightPlanes light_;  ///< pixel i stands for the frame's pixel step (i - 3) + (step - 1) / 2
};

}  // namespace ultrasr
