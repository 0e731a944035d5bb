#include "acquisition/frame_draw.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace ultrasr {
namespace {

constexpr double sensor_mm = 36;
constexpr double noise_floor = 1e-6;
constexpr int wide_quality = 90, tele_quality = 95;
constexpr double first_scene_s = 1717236000;  // 2024-06-01 10:00:00 of the camera's clock
constexpr double scene_pause_s = 300, frame_pause_s = 4.07;
constexpr double differing_tags = 0.3;  // share of rolling tele frames with a tag of their own

std::array<double, 3> draw_slopes(Draw& draw, double low, double high) {
    return {draw.between(low, high), draw.between(low, high), draw.between(low, high)};
}

int draw_orientation(Draw& draw) {
    constexpr std::array tags{1, 6, 3, 8};  // the four turns
    return tags[draw.below(4)];
}

}  // namespace

Draw draw_stream(const SimulatorOptions& options, int scene, Stream which, double scale) {
    const auto number = static_cast<std::uint64_t>(std::lround(scale * 64));
    return {options.seed, static_cast<std::uint64_t>(scene) << 32 |
                              static_cast<std::uint64_t>(which) << 16 | number};
}

double tele_focal_mm(double scale) {
    const double mm = 5 * std::ceil(wide_mm * scale / 5 - 1e-9);
    return mm >= 385 ? longest_mm : mm;
}

FrameDraw draw_wide(const SimulatorOptions& options, int scene) {
    Draw draw = draw_stream(options, scene, Stream::wide);
    FrameDraw frame;
    const double width = options.size.width;
    frame.camera.size = options.size;
    frame.camera.f_px = wide_mm / sensor_mm * width;
    frame.camera.k1 = draw.between(-0.05, -0.02);
    frame.camera.k2 = -0.2 * frame.camera.k1;
    frame.camera.principal_offset = {draw.around(0.002 * width), draw.around(0.002 * width)};
    frame.exposure.vignette = draw.between(0.2, 0.5);
    frame.blur.sigma_px = draw.between(0.35, 0.75);
    frame.exposure.noise_slope = draw_slopes(draw, 2e-5, 2e-4);
    frame.exposure.noise_floor = noise_floor;
    frame.exposure.noise_seed = draw.word();
    // The camera's own treatment, the same for all frames of the scene
    const double s_curve = draw.between(0.05, 0.25), sharpening = draw.between(0.1, 0.5);
    frame.look.s_curve = options.s_curve ? s_curve : 0;
    frame.look.sharpening = options.sharpening ? sharpening : 0;
    frame.look.sharpening_sigma_px = draw.between(0.6, 1.0);
    frame.chromatic_red_px = options.chromatic_px;
    frame.chromatic_blue_px = -options.chromatic_px;
    const int orientation = draw_orientation(draw);
    if (options.orientations == Orientations::rolling) frame.orientation = orientation;
    frame.jpeg_quality = wide_quality;
    return frame;
}

FrameDraw draw_tele(const SimulatorOptions& options, int scene, double scale,
                    const FrameDraw& wide) {
    Draw draw = draw_stream(options, scene, Stream::tele, scale);
    FrameDraw frame;
    const double width = options.size.width;
    frame.camera.size = options.size;
    frame.camera.f_px = wide.camera.f_px * scale * draw.between(scale_low, scale_high);
    const double to_angle = width / wide.camera.f_px;
    const double pan = draw.around(pan_range * to_angle);
    const double tilt = draw.around(tilt_range * to_angle);
    frame.rotation = {tilt, pan, draw.around(roll_range)};
    frame.corrected = options.tele == TeleLens::corrected ||
                      (draw.chance(0.5) && options.tele == TeleLens::mixed);
    const double uncorrected_k1 = draw.between(0.003, 0.012), corrected_k1 = draw.around(0.001);
    frame.camera.k1 = frame.corrected ? corrected_k1 : uncorrected_k1;
    frame.camera.principal_offset = {draw.around(principal_range * width),
                                     draw.around(principal_range * width)};
    frame.exposure_ev = draw.either_sign(options.exposure_ev * draw.between(1.0 / 3, 1));
    for (double& channel : frame.look.white_balance) channel = std::exp(draw.around(0.12));
    frame.look.tone_exponent = draw.between(0.88, 1.12);
    frame.exposure.vignette = draw.between(0.1, 0.4);
    frame.blur.sigma_px = draw.between(0.7, 1.6);
    frame.exposure.noise_slope = draw_slopes(draw, 5e-5, 4e-4);
    frame.exposure.noise_floor = noise_floor;
    frame.exposure.noise_seed = draw.word();
    frame.look.s_curve = wide.look.s_curve;
    frame.look.sharpening = wide.look.sharpening;
    frame.look.sharpening_sigma_px = wide.look.sharpening_sigma_px;
    frame.chromatic_red_px = draw.around(options.chromatic_px);
    frame.chromatic_blue_px = draw.around(options.chromatic_px);
    const bool differs = draw.chance(differing_tags);
    const int orientation = draw_orientation(draw);
    if (options.orientations == Orientations::rolling) {
        frame.orientation = differs ? orientation : wide.orientation;
    }
    frame.focal_mm = tele_focal_mm(scale);
    frame.jpeg_quality = tele_quality;
    return frame;
}

LensView lens_view(const FrameDraw& draw, const FrameDraw& wide) {
    LensView view;
    view.camera = draw.camera;
    view.wide_f_px = wide.camera.f_px;
    view.world_from_camera = transposed(rotation_matrix(draw.rotation));
    const double h = draw.camera.half_diagonal();
    view.magnification = {1 + draw.chromatic_red_px / h, 1, 1 + draw.chromatic_blue_px / h};
    return view;
}

Exif frame_exif(const FrameDraw& draw, int scene, std::size_t frame) {
    Exif exif;
    exif.make = "NIKON CORPORATION";
    exif.model = "NIKON Z 6_2";
    exif.lens_model = "NIKKOR Z 28-400mm f/4-8 VR";
    exif.focal_length_mm = draw.focal_mm;
    exif.focal_length_35mm = std::round(draw.focal_mm);
    exif.iso = 100;
    exif.exposure_s = std::exp2(draw.exposure_ev) / 60;
    exif.f_number = 8;
    exif.exposure_mode = 1;
    exif.white_balance = 1;
    exif.orientation = draw.orientation;
    exif.taken_s =
        first_scene_s + scene * scene_pause_s + static_cast<double>(frame) * frame_pause_s;
    exif.pixel_width = draw.camera.size.width;
    exif.pixel_height = draw.camera.size.height;
    exif.color_space = 1;
    exif.auto_distortion_control = draw.corrected ? "On" : "Off";
    exif.vignette_control = "Off";
    exif.vibration_reduction = "Off";
    return exif;
}

Json draw_to_json(const FrameDraw& draw) {
    return {{"focal_length_mm", draw.focal_mm},
            {"exposure_ev", draw.exposure_ev},
            {"white_balance", draw.look.white_balance},
            {"tone_exponent", draw.look.tone_exponent},
            {"s_curve", draw.look.s_curve},
            {"sharpening", draw.look.sharpening},
            {"sharpening_sigma_px", draw.look.sharpening_sigma_px},
            {"vignette", draw.exposure.vignette},
            {"blur_sigma_px", draw.blur.sigma_px},
            {"shake_px", {draw.blur.line_dx_px, draw.blur.line_dy_px}},
            {"noise_slope", draw.exposure.noise_slope},
            {"noise_floor", draw.exposure.noise_floor},
            {"chromatic_red_px", draw.chromatic_red_px},
            {"chromatic_blue_px", draw.chromatic_blue_px},
            {"corrected", draw.corrected},
            {"orientation", draw.orientation},
            {"jpeg_quality", draw.jpeg_quality}};
}

}  // namespace ultrasr
