// The exact map of a simulated pair (truth.json), for tests and for measured errors.
#pragma once
#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "data/base/geometry.h"
#include "data/base/json.h"

namespace ultrasr {

/// One camera: pinhole with focal length in pixels, radial distortion of ideal points p (unit: half
/// the diagonal of the frame) to p (1 + k1 r^2 + k2 r^4), principal point beside the frame's
/// centre.
struct CameraTruth {
    PixelSize size;
    double f_px = 0;
    double k1 = 0, k2 = 0;
    PixelPoint principal_offset{};  ///< pixels off the centre ((W-1)/2, (H-1)/2)

    double half_diagonal() const;
    PixelPoint principal_point() const;  ///< pixels
};

/// A wide and a tele frame of one scene. Pixel centres at whole numbers, sensor order.
struct PairTruth {
    std::string scene;
    double scale = 0;                  ///< the nominal factor asked for
    double scale_true = 0;             ///< f_px of tele / f_px of wide
    std::string wide_file, tele_file;  ///< relative to the series' folder
    CameraTruth wide, tele;
    std::array<double, 3> rotation{};  ///< Rodrigues vector, tele from wide directions
    std::string fault = "none";        ///< none or the fault's name; details in truth.json
};

/// r' / r of an ideal point at distance r from the axis (unit: half diagonal): 1 + k1 r^2 + k2 r^4.
double distortion(const CameraTruth& camera, double r_squared);

/// The inverse, r / r' of a distorted point at distance r', to 1e-15.
/// throws Error(input) when the lens folds the picture over there (no such ideal point)
double undistortion(const CameraTruth& camera, double r_squared);

/// Where the ray (x, y, 1) meets the frame, pixels.
PixelPoint pixel_of_ray(const CameraTruth& camera, PixelPoint ray);

/// The ray (x, y, 1) of a pixel.
PixelPoint ray_of_pixel(const CameraTruth& camera, PixelPoint pixel);

/// Rows of the matrix of a Rodrigues vector.
std::array<double, 9> rotation_matrix(const std::array<double, 3>& rodrigues);

/// R d for the ray d = (x, y, 1), divided by its third coordinate; the inverse with transposed.
PixelPoint rotate_ray(const std::array<double, 9>& matrix, PixelPoint ray);
std::array<double, 9> transposed(const std::array<double, 9>& matrix);

/// Where a wide pixel's centre lies in the tele frame, by the cameras alone: faults that move parts
/// of the picture (moving, parallax, haze) are not in it.
PixelPoint to_tele(const PairTruth& truth, PixelPoint wide);

/// The inverse, to 1e-9 px.
PixelPoint to_wide(const PairTruth& truth, PixelPoint tele);

/// The nominal crop of registration.md 6 in the wide frame: half of the tele frame each way, as
/// whole LR pixels, about the wide place of the tele frame's centre.
PixelRect nominal_crop(const PairTruth& truth);

/// Points of the wide frame: a 13 x 9 grid over the centres of the crop's pixels, rows first.
std::vector<PixelPoint> check_grid(const PairTruth& truth);

/// All pairs of a series. throws Error(input) on another format.
std::vector<PairTruth> read_truth(const std::filesystem::path& truth_json);

/// One entry of `pairs` in truth.json: the fields above and the check points. The simulator adds
/// what else it drew.
Json truth_to_json(const PairTruth& truth);

/// The inverse; `name` for messages. throws Error(input).
PairTruth truth_from_json(const Json& json, std::string_view name);

constexpr std::string_view truth_format = "ultrasr-truth";
constexpr int truth_version = 1;

}  // namespace ultrasr
