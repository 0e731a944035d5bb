#include "registration/pair_record.h"

#include <algorithm>
#include <cmath>
#include <vector>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "registration/true_error.h"

namespace ultrasr {
namespace {

Json digits(double value, int significant) {
    if (!std::isfinite(value)) return json_number(value);
    return std::stod(fmt::format("{:.{}g}", value, significant));
}

Json rect_to_json(const PixelRect& r) { return {r.x, r.y, r.width, r.height}; }
Json size_to_json(PixelSize s) { return {s.width, s.height}; }

template <class Values>
Json numbers(const Values& values, std::size_t count) {
    Json list = Json::array();
    for (std::size_t i = 0; i < count; ++i) list.push_back(digits(values[i], 9));
    return list;
}

/// 117 places in both frames as decoded, so that anybody can test the map without our model.
Json check_points(const PairResult& pair, const PixelRect& crop, PixelSize decoded) {
    Json wide = Json::array(), tele = Json::array();
    for (const PixelPoint& x : check_grid(crop)) {
        const PixelPoint t = as_decoded(pair.fit.map(x), decoded, pair.turned);
        wide.push_back({digits(x.x, 10), digits(x.y, 10)});
        tele.push_back({digits(t.x, 10), digits(t.y, 10)});
    }
    return {{"tele", tele}, {"wide", wide}};
}

Json photometric_to_json(const PhotometricFit& fit) {
    Json result{{"kind", name_of(fit.kind)},
                {"residual_after", short_number(fit.residual_after)},
                {"residual_before", short_number(fit.residual_before)},
                {"why", fit.why}};
    if (fit.kind == Photometric::gain) {
        result["gain"] = numbers(fit.gain, 3);
        result["offset"] = numbers(fit.offset, 3);
    }
    if (fit.kind == Photometric::curve) {
        for (std::size_t c = 0; c < 3; ++c) {
            result["knots"].push_back(numbers(fit.knots[c], fit.knots[c].size()));
            result["values"].push_back(numbers(fit.values[c], fit.values[c].size()));
        }
        result["vignette"] = numbers(fit.vignette, 3);
    }
    return result;
}

}  // namespace

Json short_number(double value) { return digits(value, 6); }

Json sorted(const Json& value) {
    if (value.is_array()) {
        Json list = Json::array();
        for (const Json& element : value) list.push_back(sorted(element));
        return list;
    }
    if (!value.is_object()) return value;
    std::map<std::string, Json> ordered;
    for (const auto& [key, element] : value.items()) ordered[key] = sorted(element);
    Json object = Json::object();
    for (auto& [key, element] : ordered) object[key] = std::move(element);
    return object;
}

Json refused_pair(int scale, Verdict verdict, std::string_view reason) {
    return {{"gates", Json::object()},
            {"model", nullptr},
            {"notes", Json::array()},
            {"reason", reason},
            {"scale", scale},
            {"scale_true", nullptr},
            {"seconds", Json::object()},
            {"sigma_est", nullptr},
            {"theta", nullptr},
            {"verdict", name_of(verdict)},
            {"window", 0}};
}

Json pair_to_json(const PairResult& pair, int index, const std::optional<PairTruth>& truth) {
    Json entry = refused_pair(pair.scale, Verdict::reject, pair.reason);
    const PairGeometry& geometry = pair.geometry;
    const PixelSize decoded = pair.turned % 180 == 0
                                  ? geometry.tele
                                  : PixelSize{geometry.tele.height, geometry.tele.width};
    entry["notes"] = pair.notes;
    if (pair.turned != 0) entry["tele_turned"] = pair.turned;
    entry["prior"] = {{"focal_px", short_number(geometry.focal_px)},
                      {"scale", short_number(geometry.scale)},
                      {"tele_size", size_to_json(decoded)},
                      {"wide_size", size_to_json(geometry.wide)}};
    const CoarseEstimate& coarse = pair.coarse;
    entry["coarse"] = {{"affine", numbers(coarse.affine, 6)},
                       {"inliers", coarse.inliers},
                       {"matches", coarse.matches},
                       {"peak", short_number(coarse.peak)},
                       {"peak_ratio", short_number(coarse.peak_ratio)},
                       {"tele_keypoints", coarse.tele_keypoints},
                       {"way", coarse.way},
                       {"wide_keypoints", coarse.wide_keypoints}};
    if (!pair.registered) return entry;
    const auto n = static_cast<std::size_t>(pair.fit.map.parameters());
    entry["model"] = name_of(pair.fit.map.model());
    entry["theta"] = numbers(pair.fit.map.theta(), n);
    entry["refine"] = {{"brightness", numbers(pair.fit.brightness, pair.fit.brightness.size())},
                       {"correlation", short_number(pair.fit.correlation)},
                       {"kept", short_number(pair.fit.kept)},
                       {"pixels", pair.fit.pixels},
                       {"residual", short_number(pair.fit.residual)},
                       {"rounds", pair.fit.rounds}};
    if (pair.fit.covariance.size() == n * n) {
        Json rows = Json::array();
        for (std::size_t i = 0; i < n; ++i) {
            Json row = Json::array();
            for (std::size_t j = 0; j < n; ++j) {
                row.push_back(short_number(pair.fit.covariance[i * n + j]));
            }
            rows.push_back(row);
        }
        entry["covariance"] = rows;
    }
    if (index < 0) return entry;

    // The window
    const PairWindow& window = pair.windows[static_cast<std::size_t>(index)];
    const OwnError& error = window.error;
    entry["window"] = index;
    entry["verdict"] = name_of(window.verdict);
    entry["reason"] = window.reason;
    for (const std::string& note : window.notes) entry["notes"].push_back(note);
    entry["scale_true"] = short_number(pair.scale_true);
    entry["sigma_est"] = short_number(error.sigma_est);
    for (const Gate& gate : window.gates) {
        entry["gates"][gate.name] = {{"limit", short_number(gate.limit)},
                                     {"pass", gate.pass},
                                     {"value", short_number(gate.value)}};
    }
    entry["own_error"] = {{"block_rms", short_number(error.block_rms)},
                          {"blur_difference", short_number(error.blur_difference)},
                          {"burnt_share", short_number(error.burnt_share)},
                          {"correlation", short_number(error.correlation)},
                          {"formal", short_number(error.formal)},
                          {"half_split", short_number(error.half_split)},
                          {"moved_share", short_number(error.moved_share)},
                          {"textured_share", short_number(error.textured_share)}};
    entry["sharpness"] = {{"energy", short_number(window.sharpness.energy)},
                          {"ratio", short_number(window.sharpness.ratio)},
                          {"sharp_share", short_number(window.sharpness.sharp_share)},
                          {"textured_blocks", window.sharpness.textured_blocks}};
    entry["crop"] = {{"hr_size", size_to_json(window.crop.hr)},
                     {"hr_size_other_mode", size_to_json(window.crop.other)},
                     {"lr", rect_to_json(window.crop.lr)},
                     {"step", short_number(window.step)}};
    entry["photometric"] = photometric_to_json(window.photometric);
    entry["check_points"] = check_points(pair, window.crop.lr, decoded);
    if (truth) {
        entry["true_error_lr_px"] =
            short_number(true_error(*truth, pair.fit.map, window.crop.lr, pair.turned));
    }
    return entry;
}

}  // namespace ultrasr
