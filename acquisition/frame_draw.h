// What chance decides about each frame of a simulated series (registration.md 15).
#pragma once
#include <array>
#include <cstdint>
#include <numbers>

#include "acquisition/camera_simulator.h"
#include "acquisition/exif.h"
#include "acquisition/lens_render.h"
#include "acquisition/sensor.h"
#include "data/base/json.h"
#include "data/base/random.h"

namespace ultrasr {

/// Ranges that the world's extent depends on.
constexpr double scale_low = 0.97, scale_high = 1.03;    // s* / s
constexpr double pan_range = 0.012, tilt_range = 0.008;  // of the frame width
constexpr double roll_range = 2 * std::numbers::pi / 180;
constexpr double principal_range = 0.01;  // of the frame width, tele

constexpr double wide_mm = 28, longest_mm = 400;  // NIKKOR Z 28-400mm f/4-8 VR

/// Uniform draws of one stream.
class Draw {
  public:
    Draw(std::uint64_t seed, std::uint64_t item) : rng_(seed, item) {}
    double between(double low, double high) { return low + (high - low) * rng_.uniform(); }
    double around(double range) { return between(-range, range); }
    double either_sign(double magnitude) { return rng_.below(2) ? magnitude : -magnitude; }
    std::uint64_t word() { return std::uint64_t{rng_.next()} << 32 | rng_.next(); }
    std::uint32_t below(std::uint32_t bound) { return rng_.below(bound); }
    bool chance(double probability) { return rng_.uniform() < probability; }

  private:
    Rng rng_;
};

/// What a stream is for; those that belong to a scale depend on it, not on its place in the list.
enum class Stream : std::uint64_t { wide, world, scene_fault, tele, pair_fault };
Draw draw_stream(const SimulatorOptions& options, int scene, Stream which, double scale = 0);

/// One frame as drawn.
struct FrameDraw {
    CameraTruth camera;
    std::array<double, 3> rotation{};  ///< Rodrigues, this camera from the wide one
    Blur blur;
    double exposure_ev = 0;
    Exposure exposure;  ///< its gain is completed by the scene's brightness
    PictureLook look;
    double focal_mm = wide_mm;
    int orientation = 1;
    bool corrected = false;  ///< lens distortion taken out by the camera
    double chromatic_red_px = 0, chromatic_blue_px = 0;  ///< in the corner
    int jpeg_quality = 0;
};

FrameDraw draw_wide(const SimulatorOptions& options, int scene);
FrameDraw draw_tele(const SimulatorOptions& options, int scene, double scale,
                    const FrameDraw& wide);

/// The ring is set to whole 5 mm at or above s times the wide end, near the long end to the end.
double tele_focal_mm(double scale);

LensView lens_view(const FrameDraw& draw, const FrameDraw& wide);

/// The camera's tags.
/// frame  its number within the scene, 0 = wide
Exif frame_exif(const FrameDraw& draw, int scene, std::size_t frame);

/// All that was drawn, for truth.json.
Json draw_to_json(const FrameDraw& draw);

}  // namespace ultrasr
