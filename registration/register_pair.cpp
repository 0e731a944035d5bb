#include "registration/register_pair.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <opencv2/core.hpp>

#include "acquisition/capture_set.h"
#include "data/base/error.h"
#include "data/color.h"
#include "registration/warp.h"

namespace ultrasr {
namespace {

constexpr double z6_sensor_width = 35.9;    // mm, Nikon Z6 II
constexpr double equivalent_width = 36.0;   // mm, what "35 mm equivalent" refers to
constexpr double search_slack = 1.06;       // registration.md 4.2
constexpr double search_rim = 0.02;         // of the frame's width, every side
constexpr double most_formal_sigma = 0.05;  // LR px, above: texture_poor
constexpr double least_step = 0.97;

/// Seconds since it was last asked.
class Watch {
  public:
    explicit Watch(std::map<std::string, double>& seconds) : seconds_(seconds) {}
    void note(const char* step) {
        const auto now = std::chrono::steady_clock::now();
        seconds_[step] += std::chrono::duration<double>(now - last_).count();
        last_ = now;
    }

  private:
    std::map<std::string, double>& seconds_;
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

PixelRect cut_to(const PixelRect& area, PixelSize frame) {
    const int x0 = std::clamp(area.x, 0, frame.width), y0 = std::clamp(area.y, 0, frame.height);
    const int x1 = std::clamp(area.x + area.width, 0, frame.width);
    const int y1 = std::clamp(area.y + area.height, 0, frame.height);
    return {x0, y0, std::max(0, x1 - x0), std::max(0, y1 - y0)};
}

/// The search window (registration.md 4.2) about `centre`, with the slack taken `more` times.
PixelRect search_window(const PairGeometry& geometry, PixelPoint centre, double more) {
    const double slack = 1 + (search_slack - 1) * more;
    const double rim = search_rim * geometry.wide.width * more;
    const int width =
        static_cast<int>(std::ceil(geometry.tele.width / geometry.scale * slack + 2 * rim));
    const int height =
        static_cast<int>(std::ceil(geometry.tele.height / geometry.scale * slack + 2 * rim));
    return cut_to({static_cast<int>(std::lround(centre.x + 0.5 - width / 2.0)),
                   static_cast<int>(std::lround(centre.y + 0.5 - height / 2.0)), width, height},
                  geometry.wide);
}

cv::Mat half_of(const cv::Mat& picture) {
    return shrink_area(picture, {std::max(1, picture.cols / 2), std::max(1, picture.rows / 2)});
}

/// Where the tele frame's centre lies, by keypoints at half the wide scale over the whole frame.
std::optional<PixelPoint> search_everywhere(WideFrame& wide, const cv::Mat& tele_light,
                                            const PairGeometry& geometry,
                                            const RegisterSettings& settings) {
    const Frame frame = wide.whole();
    const PixelSize size{frame.rgb.cols / 2, frame.rgb.rows / 2};
    const cv::Mat light = shrink_luminance(frame, size).light;
    PairGeometry half = geometry;
    half.wide = size;
    half.scale = geometry.scale * frame.rgb.cols / size.width;
    const CoarseOptions options{settings.norm, settings.near, true, settings.seed};
    const CoarseEstimate estimate =
        estimate_coarse({coded(light), {0, 0}, coded(half_of(tele_light))}, half, options);
    if (!estimate.found) return std::nullopt;
    // Solve affine x = centre of the tele frame
    const auto& a = estimate.affine;
    const double tx = geometry.tele_centre().x / half.scale - a[2];
    const double ty = geometry.tele_centre().y / half.scale - a[5];
    const double determinant = a[0] * a[4] - a[1] * a[3];
    const double x = (a[4] * tx - a[1] * ty) / determinant;
    const double y = (a[0] * ty - a[3] * tx) / determinant;
    return PixelPoint{(x + 0.5) * frame.rgb.cols / size.width - 0.5,
                      (y + 0.5) * frame.rgb.rows / size.height - 0.5};
}

/// tele_light  at the wide scale, linear
CoarseEstimate search(WideFrame& wide, const cv::Mat& tele_light, const PairGeometry& geometry,
                      const RegisterSettings& settings) {
    const cv::Mat tele = coded(tele_light);
    const CoarseOptions options{settings.norm, settings.near, false, settings.seed};
    const auto attempt = [&](const PixelRect& window) {
        const Frame part = wide.part(window);
        const Luminance light = luminance_of(part, {0, 0, part.rgb.cols, part.rgb.rows});
        return estimate_coarse({coded(light.light),
                                {static_cast<double>(window.x), static_cast<double>(window.y)},
                                tele},
                               geometry, options);
    };
    CoarseEstimate best;
    for (const double more : {1.0, 2.0}) {
        CoarseEstimate estimate = attempt(search_window(geometry, geometry.wide_centre(), more));
        if (estimate.found) return estimate;
        if (more == 1 || estimate.inliers > best.inliers) best = estimate;
    }
    const auto centre = search_everywhere(wide, tele_light, geometry, settings);
    if (!centre) return best;
    const CoarseEstimate estimate = attempt(search_window(geometry, *centre, 1));
    return estimate.found ? estimate : best;
}

cv::Mat turned(const cv::Mat& picture, int degrees) {
    cv::Mat result;
    if (degrees == 90) cv::rotate(picture, result, cv::ROTATE_90_CLOCKWISE);
    if (degrees == 180) cv::rotate(picture, result, cv::ROTATE_180);
    if (degrees == 270) cv::rotate(picture, result, cv::ROTATE_90_COUNTERCLOCKWISE);
    return degrees == 0 ? picture : result;
}

std::string figure_of(const Gate& gate) {
    if (gate.name == "burnt") return fmt::format("burnt: {:.0f} %", 100 * gate.value);
    return fmt::format("{}: {:.3g}, limit {:.3g}", gate.name, gate.value, gate.limit);
}

/// Verdict and reason from the gates (registration.md 5).
void decide(PairWindow& window, const RegisterSettings& settings) {
    const Gate* failed = nullptr;
    bool only_moved = true;
    for (const Gate& gate : window.gates) {
        if (gate.pass) continue;
        if (!failed) failed = &gate;
        if (gate.name != "moved") only_moved = false;
    }
    if (!failed) {
        window.verdict = Verdict::ok;
        return;
    }
    if (only_moved && !settings.strict && failed->value <= settings.limits.at("moved_masked")) {
        window.verdict = Verdict::ok_masked;
        window.notes.push_back(figure_of(*failed));
        return;
    }
    window.verdict = Verdict::reject;
    window.reason = figure_of(*failed);
}

cv::Mat luminance_of_linear(const cv::Mat& rgb) {
    cv::Mat result(rgb.rows, rgb.cols, CV_32F);
    for (int y = 0; y < rgb.rows; ++y) {
        const float* from = rgb.ptr<float>(y);
        float* to = result.ptr<float>(y);
        for (int x = 0; x < rgb.cols; ++x, from += 3) {
            to[x] = 0.2126F * from[0] + 0.7152F * from[1] + 0.0722F * from[2];
        }
    }
    return result;
}

/// Cuts LR, warps HR, matches brightness, judges. `last`: the tele frame's pixels may go.
void deliver(PairWindow& window, const PairResult& pair, WideFrame& wide, Frame& tele, bool last,
             const RegisterSettings& settings, Watch& watch) {
    const CropWindow& crop = window.crop;

    // Warp
    cv::Mat hr, lr;  // linear
    const bool deep = tele.is_16bit() && wide.is_16bit();
    const Frame part = wide.part(crop.lr);
    if (settings.warp_lr) {
        constexpr int reach = 32;
        const PixelRect near = cut_to({crop.lr.x - reach, crop.lr.y - reach,
                                       crop.lr.width + 2 * reach, crop.lr.height + 2 * reach},
                                      wide.size());
        const WarpedLr warped =
            warp_lr(wide.part(near), near, tele, pair.fit.map, crop, pair.scale);
        hr = warped.hr_linear;
        lr = warped.linear;
    } else {
        const WarpedHr warped = warp_hr(tele, pair.fit.map, crop, pair.scale);
        hr = warped.linear;
        window.step = warped.step;
        window.hr_burnt_share = warped.burnt_share;
        if (window.step < least_step) window.notes.push_back("hr_upsampled");
        lr = linear_part(part, {0, 0, crop.lr.width, crop.lr.height});
    }
    if (last) tele.rgb.release();
    watch.note("warp");

    // Judge
    window.sharpness =
        tele_sharpness(luminance_of_linear(hr), settings.limits.at("tele_soft_ratio"));
    window.gates = judge(window.error, window.sharpness, settings.limits);
    decide(window, settings);
    watch.note("sharpness");
    const bool wanted = window.verdict == Verdict::ok || window.verdict == Verdict::ok_masked ||
                        settings.keep_rejected;
    if (!wanted) return;

    // Match HR's brightness to LR's
    PhotometricInput input;
    input.lr = lr;
    input.hr_mean = block_means(hr, pair.scale);
    input.weight = window.weight;
    input.hr_burnt_share = window.hr_burnt_share;
    input.lr_burnt_share = window.error.burnt_share;
    input.correlation = window.error.correlation;
    Photometric kind = settings.photometric;
    if (deep && kind == Photometric::curve) {
        kind = Photometric::gain;
        window.notes.push_back("photometric: gain, because RAW frames need no curve");
    }
    window.photometric = fit_photometric(input, kind);
    if (!window.photometric.why.empty()) {
        window.notes.push_back("photometric: none, " + window.photometric.why);
    }
    window.hr_small = input.hr_mean;
    watch.note("photometric");

    // Encode, a strip at a time
    window.hr8 = encode_matched(window.photometric, hr, 8);
    if (deep) window.hr16 = encode_matched(window.photometric, hr, 16);
    if (settings.warp_lr) {
        window.lr8 = encode_srgb(lr, 8);
        if (deep) window.lr16 = encode_srgb(lr, 16);
    } else {
        const PixelRect all{0, 0, crop.lr.width, crop.lr.height};
        window.lr8 = encoded_part(part, all, 8);
        if (deep) window.lr16 = encoded_part(part, all, 16);
    }
    watch.note("encode");
}

}  // namespace

std::string_view name_of(Verdict verdict) {
    switch (verdict) {
        case Verdict::ok:
            return "ok";
        case Verdict::ok_masked:
            return "ok_masked";
        case Verdict::reject:
            return "reject";
        case Verdict::error:
            return "error";
    }
    return "";
}

WideFrame::WideFrame(const Shot& shot, const std::optional<WhiteBalance>& white_balance)
    : shot_(shot), white_balance_(white_balance) {
    // The middle that a search at x8 needs, with room
    Frame frame = decode_shot(shot_, white_balance_);
    shot_.size = frame.size();
    const int width = static_cast<int>(0.21 * shot_.size.width);
    const int height = static_cast<int>(0.24 * shot_.size.height);
    held_ = {(shot_.size.width - width) / 2, (shot_.size.height - height) / 2, width, height};
    part_.encoding = frame.encoding;
    part_.rgb = frame.rgb(cv::Rect(held_.x, held_.y, held_.width, held_.height)).clone();
}

Frame WideFrame::part(const PixelRect& wanted) {
    const PixelRect area = cut_to(wanted, shot_.size);
    const bool inside = area.x >= held_.x && area.y >= held_.y &&
                        area.x + area.width <= held_.x + held_.width &&
                        area.y + area.height <= held_.y + held_.height;
    Frame result;
    if (inside) {
        result.encoding = part_.encoding;
        result.rgb =
            part_.rgb(cv::Rect(area.x - held_.x, area.y - held_.y, area.width, area.height));
        return result;
    }
    const Frame frame = decode_shot(shot_, white_balance_);
    held_ = area;
    part_.encoding = frame.encoding;
    part_.rgb = frame.rgb(cv::Rect(area.x, area.y, area.width, area.height)).clone();
    return part_;
}

Frame WideFrame::whole() const { return decode_shot(shot_, white_balance_); }

std::optional<PairGeometry> prior_of(const Shot& wide, const Shot& tele, std::string& reason) {
    // 35 mm equivalent over focal length: the crop factor of each frame, where known
    const auto crop_factor = [](const Shot& shot) -> std::optional<double> {
        if (!shot.exif.focal_length_35mm || !shot.exif.focal_length_mm) return std::nullopt;
        if (*shot.exif.focal_length_mm <= 0 || *shot.exif.focal_length_35mm <= 0) {
            return std::nullopt;
        }
        return *shot.exif.focal_length_35mm / *shot.exif.focal_length_mm;
    };
    for (const Shot* shot : {&wide, &tele}) {
        if (!shot->focal_mm() && !shot->exif.focal_length_35mm) {
            reason = fmt::format("no_focal: {} has no focal length; give --focal {}=mm",
                                 shot->name(), shot->name());
            return std::nullopt;
        }
    }
    const auto by_focal = focal_ratio(tele, wide);
    if (!by_focal) {
        reason = fmt::format(
            "no_focal: {} and {} do not say the same kind of focal length; give "
            "--focal FILE=mm for both",
            wide.name(), tele.name());
        return std::nullopt;
    }
    double ratio = *by_focal;
    if (wide.size != tele.size) {
        // Allowed when both frames have the same pixels: a crop of the sensor, not a smaller copy
        const auto a = crop_factor(wide), b = crop_factor(tele);
        const bool same_pixels =
            a && b && std::abs(*b * tele.size.width / (*a * wide.size.width) - 1) < 0.02 &&
            std::abs(static_cast<double>(tele.size.width) * wide.size.height /
                         (static_cast<double>(tele.size.height) * wide.size.width) -
                     1) < 0.02;
        if (!same_pixels) {
            reason = fmt::format("size_differs: {}x{} and {}x{}", wide.size.width, wide.size.height,
                                 tele.size.width, tele.size.height);
            return std::nullopt;
        }
        ratio *= *b / *a * tele.size.width / wide.size.width;
    }
    PairGeometry geometry{wide.size, tele.size, 0, ratio};
    const auto factor = crop_factor(wide);
    const bool z6 = wide.exif.model && wide.exif.model->find("Z 6") != std::string::npos;
    if (wide.focal_mm()) {
        const double sensor = z6 || !factor ? z6_sensor_width : equivalent_width / *factor;
        geometry.focal_px = *wide.focal_mm() / sensor * wide.size.width;
    } else {
        geometry.focal_px = *wide.exif.focal_length_35mm / equivalent_width * wide.size.width;
    }
    return geometry;
}

PairResult register_pair(WideFrame& wide, Frame tele, const PairGeometry& prior, int scale,
                         const RegisterSettings& settings, const std::optional<double>& fixed_k) {
    PairResult pair;
    pair.scale = scale;
    pair.geometry = prior;
    Watch watch(pair.seconds);

    // Shrink, search; only when that fails try turned frames
    Luminance light;
    for (const int degrees : {0, 90, 180, 270}) {
        PairGeometry geometry = prior;
        Frame frame{turned(tele.rgb, degrees), tele.encoding};
        geometry.tele = frame.size();
        const PixelSize size = work_size(geometry);
        light = shrink_luminance(frame, size, samples_per_pixel);
        watch.note("shrink");
        const cv::Mat small = shrink_area(
            light.light, {size.width / samples_per_pixel, size.height / samples_per_pixel});
        CoarseEstimate estimate = search(wide, small, geometry, settings);
        watch.note("coarse");
        if (degrees == 0 || estimate.found) pair.coarse = estimate;
        if (estimate.found) {
            pair.geometry = geometry;
            pair.turned = degrees;
            tele = frame;
            break;
        }
        if (!settings.try_turned) break;
    }
    if (!pair.coarse.found) {
        pair.reason = fmt::format("no_match: {} inliers, correlation {:.2f}", pair.coarse.inliers,
                                  pair.coarse.peak);
        return pair;
    }

    try {
        // Refine
        const CameraMap start = map_from(pair.coarse, settings.model, pair.geometry);
        const PixelRect area = window_of(start);
        if (area.width < 64 || area.height < 64) {
            pair.reason = "no_overlap: the tele frame lies outside of the wide frame";
            return pair;
        }
        const Frame part = wide.part(area);
        std::optional<WorkPictures> work = work_pictures(
            pair.geometry, area, luminance_of(part, {0, 0, part.rgb.cols, part.rgb.rows}), light);
        light = {};
        RefineOptions options;
        options.brightness = settings.brightness;
        options.from_afar = pair.coarse.points.empty();
        options.fixed_k = fixed_k;
        options.rounds_only = !settings.refine_pixels;
        pair.fit = refine_pixels(*work, start, options);
        watch.note("refine");
        pair.registered = true;
        if (!pair.fit.usable) {
            pair.reason = "texture_poor: fewer than 400 usable pixels";
            return pair;
        }

        // Place the windows
        const auto crops = place_crops(pair.fit.map, scale, settings.crop, settings.windows);
        if (crops.empty()) {
            pair.reason = "no_overlap: no HR window fits inside the tele frame";
            return pair;
        }
        pair.scale_true = pair.fit.map.scale_at({crops[0].lr.x + (crops[0].lr.width - 1) / 2.0,
                                                 crops[0].lr.y + (crops[0].lr.height - 1) / 2.0});
        for (const CropWindow& crop : crops) {
            PairWindow window;
            window.crop = crop;
            window.error = own_error(*work, pair.fit, crop.lr, options);
            const cv::Rect in_window(crop.lr.x - area.x, crop.lr.y - area.y, crop.lr.width,
                                     crop.lr.height);
            window.weight = pair.fit.weight(in_window).clone();
            pair.windows.push_back(std::move(window));
        }
        work.reset();  // 100 MB
        watch.note("own_error");
        for (PairWindow& window : pair.windows) {
            deliver(window, pair, wide, tele, &window == &pair.windows.back(), settings, watch);
            if (window.error.formal > most_formal_sigma) {
                window.verdict = Verdict::reject;
                window.reason = fmt::format("texture_poor: formal sigma {:.3f} LR px, limit {}",
                                            window.error.formal, most_formal_sigma);
            }
        }
    } catch (const Error& error) {
        // The map ran away: an answer, not a fault of the program
        if (error.fault() != Fault::internal) throw;
        pair.registered = false;
        pair.windows.clear();
        pair.reason = "no_match: " + error.sentence();
    }
    return pair;
}

}  // namespace ultrasr
