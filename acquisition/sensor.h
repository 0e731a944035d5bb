// From light on a sensor to what the camera writes: exposure, noise, tone curve, sharpening, Bayer.
#pragma once
#include <array>
#include <cstdint>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "acquisition/lens_render.h"

namespace ultrasr {

struct Exposure {
    double gain = 1;      ///< sensor signal per light of the world, in the middle of the frame
    double vignette = 0;  ///< light lost in the corner, falling with r^2 from the principal point
    std::array<double, 3> noise_slope{};  ///< variance = slope x signal + floor
    double noise_floor = 0;
    std::uint64_t noise_seed = 0;
};

/// What the camera does to its JPEG after the sensor.
struct PictureLook {
    std::array<double, 3> white_balance{1, 1, 1};
    double tone_exponent = 1;  ///< on the sRGB-encoded value
    /// Contrast: slope 1 + s_curve at mid grey and 1 - s_curve at black and white, in [0, 0.9].
    double s_curve = 0;
    double sharpening = 0;  ///< unsharp mask on the coded luma: this share of the difference
    double sharpening_sigma_px = 0.8;
};

/// Linear light in [0,1] to the coded value in [0,1], rising.
class ToneCurve {
  public:
    explicit ToneCurve(const PictureLook& look);
    static double exact(const PictureLook& look, double light);

    /// n values of light (clipped to [0,1]) to coded ones, to 1e-4.
    void apply(const float* light, float* coded, int n) const;

  private:
    std::vector<float> table_;  ///< over sqrt(light)
};

/// Turns light into sensor signal: gain, vignette, noise. Full scale 1; not clipped.
///
/// light  the rows first_row ... of the frame, whole width
/// Noise is a function of (noise_seed, row, channel, column) alone.
void expose_(LightPlanes& light, int first_row, const CameraTruth& camera,
             const Exposure& exposure);

/// Rows the sharpening looks up and down.
constexpr int sharpening_reach = 3;

/// Signal to the camera's 8-bit RGB. The first and last sharpening_reach rows are only looked at:
/// the result is that much shorter.
cv::Mat develop_8bit(const LightPlanes& signal, const PictureLook& look, const ToneCurve& curve);

}  // namespace ultrasr
