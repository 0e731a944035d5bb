#include "acquisition/capture_plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/base/error.h"

namespace ultrasr {
namespace {

constexpr double crop_width = 3024, crop_height = 2008;  // HR px, registration.md 6
constexpr double infinity = std::numeric_limits<double>::infinity();

// registration.md 14; the numbered lines are for ticking off
constexpr std::array checklist{
    "Scene: nothing that moves (leaves, water, people, traffic), no heat haze; overcast or steady "
    "indoor light, flicker-free lamps or 1/50 s and longer.",
    "Tripod on firm ground, centre column down; turn the ring, not the camera; re-centre by the "
    "head only when the target leaves the middle quarter.",
    "Vibration reduction off, silent (electronic) shutter, 2 s delay or remote.",
    "Manual exposure, one ISO (100), the same f-number at all focal lengths; the shutter from the "
    "brightest frame, highlights at most at 80 %.",
    "White balance fixed: daylight or measured.",
    "14-bit RAW plus fine JPEG; Picture Control neutral, sharpening and noise reduction off, auto "
    "distortion and vignette control off.",
    "Focus: single AF on the target at each focal length, then manual; check at 100 %.",
    "Three frames at each focal length, 3 s of rest after touching the ring.",
    "The wide frame again at the end: it must register with the first one within 0.05 px.",
    "Note place, distance, indoor or outdoor. 30 scenes to keep 20.",
};

double upper_end(double from_mm, double longest_mm) {
    // Up to the next ten millimetres above 2.5 %: 224 to 230, 280 to 290, 336 to 350
    return std::min(longest_mm, 10.0 * std::ceil(1.025 * from_mm / 10.0 - 1e-9));
}

DepthRange sharp_range(double focal_m, double f_number, double blur_m, double distance_m) {
    const double hyperfocal = focal_m * focal_m / (f_number * blur_m) + focal_m;
    const double near =
        distance_m * (hyperfocal - focal_m) / (hyperfocal + distance_m - 2 * focal_m);
    const double far = distance_m >= hyperfocal
                           ? infinity
                           : distance_m * (hyperfocal - focal_m) / (hyperfocal - distance_m);
    return {near, far};
}

/// "4.0 m", "227 m", "infinity".
std::string metres(double value) {
    if (std::isinf(value)) return "infinity";
    if (value >= 100) return fmt::format("{:.0f} m", value);
    return value >= 10 ? fmt::format("{:.1f} m", value) : fmt::format("{:.2f} m", value);
}

std::string range_text(const DepthRange& range) {
    return fmt::format("{} to {}", metres(range.near_m), metres(range.far_m));
}

Json metres_json(double value) { return json_number(value); }

Json range_json(const DepthRange& range) {
    return {{"near_m", metres_json(range.near_m)},
            {"far_m", metres_json(range.far_m)},
            {"depth_m", metres_json(range.depth_m())}};
}

void check_usage(bool condition, std::string_view option, std::string_view what) {
    if (!condition) fail(Fault::usage, "{} must be {}", option, what);
}

}  // namespace

CapturePlan plan_capture(const PlanOptions& options) {
    const auto positive = [](double v) { return std::isfinite(v) && v > 0; };
    check_usage(positive(options.wide_mm), "--wide", "a focal length in mm");
    check_usage(positive(options.longest_mm) && options.longest_mm >= options.wide_mm, "--longest",
                "a focal length in mm, not below --wide");
    check_usage(positive(options.f_number), "--f-number", "a number above 0");
    check_usage(positive(options.distance_m) && options.distance_m > options.longest_mm / 500,
                "--distance", "a distance in metres, above twice the longest focal length");
    check_usage(positive(options.pixel_um), "--pixel", "a pixel pitch in micrometres");
    check_usage(positive(options.pupil_shift_m), "--pupil-shift", "a length in metres");
    check_usage(!options.scales.empty(), "--scales", "a list of factors such as 8,14");
    for (const double s : options.scales) {
        check_usage(positive(s) && s > 1 && s <= 100, "--scales", "factors above 1, at most 100");
    }

    CapturePlan plan{options, {}};
    std::vector<double> scales = options.scales;
    scales.push_back(1);
    std::sort(scales.begin(), scales.end());
    scales.erase(std::unique(scales.begin(), scales.end()), scales.end());
    for (const double s : scales) {
        PlannedFrame frame;
        frame.scale = s;
        frame.from_mm = s * options.wide_mm;
        frame.reachable = frame.from_mm <= options.longest_mm;
        frame.to_mm = s == 1 || !frame.reachable ? frame.from_mm
                                                 : upper_end(frame.from_mm, options.longest_mm);
        const double focal_m = frame.from_mm / 1000, pixel_m = options.pixel_um * 1e-6;
        const double z = options.distance_m;
        frame.sharp = sharp_range(focal_m, options.f_number, pixel_m, z);
        frame.crop_width_m = crop_width * pixel_m / focal_m * z;
        frame.crop_height_m = crop_height * pixel_m / focal_m * z;
        if (s > 1) {
            // Reciprocal distances may differ by q, half of it to either side
            const double half_diagonal = std::hypot(crop_width, crop_height) / 2 / s;
            const double q = options.parallax_lr_px / (half_diagonal * options.pupil_shift_m);
            frame.parallax = {1 / (1 / z + q / 2), 1 / z <= q / 2 ? infinity : 1 / (1 / z - q / 2)};
            frame.anything_from_m = 1 / q;
        }
        plan.frames.push_back(frame);
    }
    return plan;
}

std::string plan_text(const CapturePlan& plan) {
    const PlanOptions& o = plan.options;
    std::string text = fmt::format("Zoom series at {} from {}, f/{:g}\n\n", metres(o.distance_m),
                                   fmt::format("{:g} mm", o.wide_mm), o.f_number);
    const auto add = [&](std::string_view scale, std::string_view ring, std::string_view sharp,
                         std::string_view depth, std::string_view free, std::string_view shows) {
        text += fmt::format("  {:5} {:14} {:22} {:22} {:18} {}", scale, ring, sharp, depth, free,
                            shows);
        text.erase(text.find_last_not_of(' ') + 1);
        text += '\n';
    };
    add("scale", "set the ring to", "sharp (1 px)", "depth for parallax", "any depth beyond",
        "the crop shows");
    for (const PlannedFrame& frame : plan.frames) {
        const bool wide = frame.scale == 1;
        const std::string ring =
            frame.from_mm == frame.to_mm
                ? fmt::format("{:.0f} mm", frame.from_mm)
                : fmt::format("{:.0f} to {:.0f} mm", frame.from_mm, frame.to_mm);
        add(wide ? "wide" : fmt::format("x{:g}", frame.scale),
            frame.reachable ? ring : "out of reach", range_text(frame.sharp),
            wide ? "" : range_text(frame.parallax), wide ? "" : metres(frame.anything_from_m),
            wide ? "" : fmt::format("{:.2f} x {:.2f} m", frame.crop_width_m, frame.crop_height_m));
    }
    text += fmt::format("\nOrder: {:g} mm", o.wide_mm);
    for (const PlannedFrame& frame : plan.frames) {
        if (frame.scale > 1 && frame.reachable) text += fmt::format(", {:.0f}", frame.from_mm);
        if (frame.scale > 1 && frame.reachable && frame.to_mm > frame.from_mm) {
            text += fmt::format("-{:.0f}", frame.to_mm);
        }
    }
    text += fmt::format(", {:g} mm again; rather longer than shorter.\n\nChecklist\n", o.wide_mm);
    int number = 1;
    for (const char* line : checklist) text += fmt::format("  {:2}. {}\n", number++, line);
    for (const PlannedFrame& frame : plan.frames) {
        if (!frame.reachable) {
            text += fmt::format(
                "\nx{:g} needs {:.0f} mm, the lens ends at {:g} mm: leave it out or "
                "start from a shorter wide end.\n",
                frame.scale, frame.from_mm, o.longest_mm);
        }
    }
    return text;
}

Json plan_json(const CapturePlan& plan) {
    const PlanOptions& o = plan.options;
    Json frames = Json::array();
    for (const PlannedFrame& frame : plan.frames) {
        Json entry{{"scale", frame.scale},
                   {"from_mm", frame.from_mm},
                   {"to_mm", frame.to_mm},
                   {"reachable", frame.reachable},
                   {"sharp", range_json(frame.sharp)},
                   {"crop_width_m", frame.crop_width_m},
                   {"crop_height_m", frame.crop_height_m}};
        if (frame.scale > 1) {
            entry["parallax"] = range_json(frame.parallax);
            entry["anything_from_m"] = frame.anything_from_m;
        }
        frames.push_back(std::move(entry));
    }
    return {{"wide_mm", o.wide_mm},
            {"longest_mm", o.longest_mm},
            {"f_number", o.f_number},
            {"distance_m", o.distance_m},
            {"pixel_um", o.pixel_um},
            {"pupil_shift_m", o.pupil_shift_m},
            {"parallax_lr_px", o.parallax_lr_px},
            {"frames", std::move(frames)},
            {"checklist", checklist}};
}

}  // namespace ultrasr
