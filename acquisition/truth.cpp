#include "acquisition/truth.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"

namespace ultrasr {
namespace {

constexpr int grid_columns = 13, grid_rows = 9;  // registration.md 4.6

Json point_json(PixelPoint p) { return Json::array({p.x, p.y}); }

PixelPoint point_from_json(const Json& json) {
    return {json.at(0).get<double>(), json.at(1).get<double>()};
}

Json camera_json(const CameraTruth& camera) {
    return {{"width", camera.size.width},
            {"height", camera.size.height},
            {"f_px", camera.f_px},
            {"k1", camera.k1},
            {"k2", camera.k2},
            {"principal_offset", point_json(camera.principal_offset)}};
}

CameraTruth camera_from_json(const Json& json) {
    return {.size = {json.at("width").get<int>(), json.at("height").get<int>()},
            .f_px = json.at("f_px").get<double>(),
            .k1 = json.at("k1").get<double>(),
            .k2 = json.at("k2").get<double>(),
            .principal_offset = point_from_json(json.at("principal_offset"))};
}

}  // namespace

double CameraTruth::half_diagonal() const {
    return 0.5 * std::hypot(static_cast<double>(size.width), static_cast<double>(size.height));
}

PixelPoint CameraTruth::principal_point() const {
    return {0.5 * (size.width - 1) + principal_offset.x,
            0.5 * (size.height - 1) + principal_offset.y};
}

double distortion(const CameraTruth& camera, double r_squared) {
    return 1 + r_squared * (camera.k1 + r_squared * camera.k2);
}

double undistortion(const CameraTruth& camera, double r_squared) {
    // Solve r (1 + k1 r^2 + k2 r^4) = r' for r by Newton's rule
    const double r_distorted = std::sqrt(r_squared);
    if (r_distorted == 0) return 1;
    double r = r_distorted;
    for (int round = 0; round < 60; ++round) {
        const double q = r * r;
        const double slope = 1 + q * (3 * camera.k1 + q * 5 * camera.k2);
        require(slope > 0, "the lens with k1 = {} and k2 = {} folds the picture at r = {}",
                camera.k1, camera.k2, r_distorted);
        const double step = (r * distortion(camera, q) - r_distorted) / slope;
        r -= step;
        if (std::abs(step) <= 1e-16 * r) break;
    }
    return r / r_distorted;
}

PixelPoint pixel_of_ray(const CameraTruth& camera, PixelPoint ray) {
    const double to_unit = camera.f_px / camera.half_diagonal();
    const PixelPoint p{ray.x * to_unit, ray.y * to_unit};
    const double stretch = distortion(camera, p.x * p.x + p.y * p.y) * camera.half_diagonal();
    const PixelPoint centre = camera.principal_point();
    return {centre.x + stretch * p.x, centre.y + stretch * p.y};
}

PixelPoint ray_of_pixel(const CameraTruth& camera, PixelPoint pixel) {
    const double h = camera.half_diagonal();
    const PixelPoint centre = camera.principal_point();
    const PixelPoint p{(pixel.x - centre.x) / h, (pixel.y - centre.y) / h};
    const double stretch = undistortion(camera, p.x * p.x + p.y * p.y) * h / camera.f_px;
    return {stretch * p.x, stretch * p.y};
}

std::array<double, 9> rotation_matrix(const std::array<double, 3>& w) {
    // R = I + a [w]x + b [w]x^2 with a = sin t / t, b = (1 - cos t) / t^2
    const double t_squared = w[0] * w[0] + w[1] * w[1] + w[2] * w[2];
    const double t = std::sqrt(t_squared);
    const double half = std::sin(0.5 * t);
    const double a = t < 1e-8 ? 1 : std::sin(t) / t;
    const double b = t < 1e-8 ? 0.5 : 2 * half * half / t_squared;
    std::array<double, 9> matrix{};
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) matrix[3 * i + j] = b * w[i] * w[j];
        matrix[4 * i] += 1 - b * t_squared;
    }
    matrix[1] -= a * w[2];
    matrix[2] += a * w[1];
    matrix[3] += a * w[2];
    matrix[5] -= a * w[0];
    matrix[6] -= a * w[1];
    matrix[7] += a * w[0];
    return matrix;
}

PixelPoint rotate_ray(const std::array<double, 9>& m, PixelPoint ray) {
    const double z = m[6] * ray.x + m[7] * ray.y + m[8];
    return {(m[0] * ray.x + m[1] * ray.y + m[2]) / z, (m[3] * ray.x + m[4] * ray.y + m[5]) / z};
}

std::array<double, 9> transposed(const std::array<double, 9>& m) {
    return {m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8]};
}

PixelPoint to_tele(const PairTruth& truth, PixelPoint wide) {
    const PixelPoint ray = ray_of_pixel(truth.wide, wide);
    return pixel_of_ray(truth.tele, rotate_ray(rotation_matrix(truth.rotation), ray));
}

PixelPoint to_wide(const PairTruth& truth, PixelPoint tele) {
    const PixelPoint ray = ray_of_pixel(truth.tele, tele);
    return pixel_of_ray(truth.wide, rotate_ray(transposed(rotation_matrix(truth.rotation)), ray));
}

PixelRect nominal_crop(const PairTruth& truth) {
    // Half of the tele frame, its height as 2008 of 4024 (a multiple of 8), in whole LR pixels
    const PixelSize tele = truth.tele.size;
    const double width = 0.5 * tele.width, height = tele.height * (2008.0 / 4024.0);
    PixelRect crop;
    crop.width = static_cast<int>(std::floor(width / truth.scale + 1e-9));
    crop.height = static_cast<int>(std::floor(height / truth.scale + 1e-9));
    const PixelPoint centre = to_wide(truth, {0.5 * (tele.width - 1), 0.5 * (tele.height - 1)});
    crop.x = static_cast<int>(std::lround(centre.x + 0.5 - 0.5 * crop.width));
    crop.y = static_cast<int>(std::lround(centre.y + 0.5 - 0.5 * crop.height));
    return crop;
}

std::vector<PixelPoint> check_grid(const PairTruth& truth) {
    const PixelRect crop = nominal_crop(truth);
    std::vector<PixelPoint> points;
    for (int j = 0; j < grid_rows; ++j) {
        for (int i = 0; i < grid_columns; ++i) {
            points.push_back({crop.x + i * (crop.width - 1) / (grid_columns - 1.0),
                              crop.y + j * (crop.height - 1) / (grid_rows - 1.0)});
        }
    }
    return points;
}

Json truth_to_json(const PairTruth& truth) {
    Json wide = Json::array(), tele = Json::array();
    for (const PixelPoint& point : check_grid(truth)) {
        wide.push_back(point_json(point));
        tele.push_back(point_json(to_tele(truth, point)));
    }
    return {{"scene", truth.scene},
            {"scale", truth.scale},
            {"scale_true", truth.scale_true},
            {"wide_file", truth.wide_file},
            {"tele_file", truth.tele_file},
            {"wide", camera_json(truth.wide)},
            {"tele", camera_json(truth.tele)},
            {"rotation", truth.rotation},
            {"fault", truth.fault},
            {"check_points", {{"wide", wide}, {"tele", tele}}}};
}

PairTruth truth_from_json(const Json& json, std::string_view name) {
    try {
        PairTruth truth;
        truth.scene = json.at("scene").get<std::string>();
        truth.scale = json.at("scale").get<double>();
        truth.scale_true = json.at("scale_true").get<double>();
        truth.wide_file = json.at("wide_file").get<std::string>();
        truth.tele_file = json.at("tele_file").get<std::string>();
        truth.wide = camera_from_json(json.at("wide"));
        truth.tele = camera_from_json(json.at("tele"));
        truth.rotation = json.at("rotation").get<std::array<double, 3>>();
        truth.fault = json.at("fault").get<std::string>();
        return truth;
    } catch (const nlohmann::json::exception& error) {
        fail(Fault::input, "{} lacks a field of a pair ({}); simulate the series anew", name,
             error.what());
    }
}

std::vector<PairTruth> read_truth(const std::filesystem::path& truth_json) {
    const std::string name = truth_json.string();
    const Json json = parse_json(read_file(truth_json), name);
    require(json.is_object() && json.value("format", "") == truth_format &&
                json.contains("pairs") && json["pairs"].is_array(),
            "{} is no truth of a simulated series (\"format\": \"{}\")", name, truth_format);
    require(json.value("version", 0) == truth_version, "{} has version {}, this program reads {}",
            name, json.value("version", 0), truth_version);
    std::vector<PairTruth> pairs;
    for (const Json& pair : json["pairs"]) pairs.push_back(truth_from_json(pair, name));
    return pairs;
}

}  // namespace ultrasr
