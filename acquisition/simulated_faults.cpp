#include "acquisition/simulated_faults.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace ultrasr {
namespace {

// ---- Ranges (registration.md 15); lengths in LR px ----

constexpr double moving_cover_low = 0.05, moving_cover_high = 0.35;
constexpr double moving_shift_low = 5, moving_shift_high = 60;
constexpr double parallax_cover = 1.0 / 3.0;
constexpr double parallax_low = 0.5, parallax_high = 3;
constexpr double defocus_low = 1, defocus_high = 3;
constexpr double shake_low = 1, shake_high = 4;
constexpr double haze_low = 0.1, haze_high = 0.3;
constexpr double haze_reach = 30;  // over which the shifts of the air are alike
constexpr double haze_grid = 21;   // grid of cubic B-splines with that reach
constexpr double pupil_along_low = 0.03, pupil_along_high = 0.1;  // metres, registration.md 14
constexpr double pupil_across = 0.003;                            // the head turns beside the pupil
constexpr double near_low = 6, near_high = 15, middle_high = 60;  // metres
constexpr std::size_t most_things = 400;

/// The tele frame's part of the world, upright, about the place of its centre.
WorldRect footprint(const FrameDraw& tele, const FrameDraw& wide) {
    const LensView view = lens_view(tele, wide);
    const PixelSize size = tele.camera.size;
    const PixelPoint ray =
        rotate_ray(view.world_from_camera,
                   ray_of_pixel(tele.camera, {0.5 * (size.width - 1), 0.5 * (size.height - 1)}));
    const double x = ray.x * wide.camera.f_px, y = ray.y * wide.camera.f_px;
    const double ratio = tele.camera.f_px / wide.camera.f_px;
    const double a = 0.5 * size.width / ratio, b = 0.5 * size.height / ratio;
    return {x - a, y - b, x + a, y + b};
}

/// Ellipses until each footprint is covered to `share`, the least covered one served next.
std::vector<Cutout> scattered_ellipses(Draw& draw, const std::vector<WorldRect>& footprints,
                                       double share) {
    std::vector<Cutout> things;
    while (things.size() < most_things) {
        double least = 1;
        const WorldRect* barest = nullptr;
        for (const WorldRect& rect : footprints) {
            const double covered = covered_share(things, rect);
            if (covered < least) {
                least = covered;
                barest = &rect;
            }
        }
        if (!barest || least >= share) break;
        Cutout thing;
        thing.x = draw.between(barest->x0, barest->x1);
        thing.y = draw.between(barest->y0, barest->y1);
        thing.half_width = draw.between(0.03, 0.11) * barest->width();
        thing.half_height = thing.half_width * draw.between(0.4, 1.0);
        thing.angle = draw.between(0, std::numbers::pi);
        things.push_back(thing);
    }
    return things;
}

std::vector<WorldRect> all_footprints(const SimulatorOptions& options, int scene,
                                      const FrameDraw& wide) {
    std::vector<WorldRect> rects;
    for (const double scale : options.scales) {
        rects.push_back(footprint(draw_tele(options, scene, scale, wide), wide));
    }
    return rects;
}

Json thing_json(const Cutout& thing) {
    return {{"x", thing.x},
            {"y", thing.y},
            {"half_width", thing.half_width},
            {"half_height", thing.half_height},
            {"angle", thing.angle},
            {"gain", thing.shift.gain},
            {"dx", thing.shift.dx},
            {"dy", thing.shift.dy}};
}

Json things_json(const std::vector<Cutout>& things) {
    Json list = Json::array();
    for (const Cutout& thing : things) list.push_back(thing_json(thing));
    return list;
}

}  // namespace

const std::vector<std::string>& fault_names() {
    static const std::vector<std::string> names{
        "none",  "moving", "parallax", "defocus_tele", "defocus_wide",
        "shake", "other",  "haze",     "depth",        "broken"};
    return names;
}

SceneFault draw_scene_fault(const SimulatorOptions& options, int scene, const FrameDraw& wide,
                            const WorldRect& detail) {
    SceneFault fault;
    fault.name = options.faults[static_cast<std::size_t>(scene) % options.faults.size()];
    Draw draw = draw_stream(options, scene, Stream::scene_fault);
    if (fault.name == "moving") {
        const double share = draw.between(moving_cover_low, 0.9 * moving_cover_high);
        fault.things = scattered_ellipses(draw, all_footprints(options, scene, wide), share);
        for (Cutout& thing : fault.things) {  // they look like another part of the world
            thing.from_dx = draw.between(detail.x0, detail.x1) * 0.8 - thing.x;
            thing.from_dy = draw.between(detail.y0, detail.y1) * 0.8 - thing.y;
        }
    } else if (fault.name == "parallax") {
        fault.things =
            scattered_ellipses(draw, all_footprints(options, scene, wide), parallax_cover);
    } else if (fault.name == "depth") {
        fault.things =
            scattered_ellipses(draw, all_footprints(options, scene, wide), parallax_cover);
        // One or two planes before the far one, the nearer one in front
        const double near = draw.between(near_low, near_high);
        const double middle = draw.chance(0.5) ? draw.between(near_high, middle_high) : near;
        const std::size_t nearer = fault.things.size() / 2;
        for (std::size_t i = 0; i < fault.things.size(); ++i) {
            fault.distances.push_back(i < nearer ? near : middle);
        }
    } else if (fault.name == "defocus_wide") {
        fault.wide_sigma_px = draw.between(defocus_low, defocus_high);
    } else if (fault.name == "broken") {
        fault.broken_scale =
            options.scales[draw.below(static_cast<std::uint32_t>(options.scales.size()))];
    }
    return fault;
}

PairFault draw_pair_fault(const SimulatorOptions& options, int scene, double scale,
                          const SceneFault& fault, const FrameDraw& wide, const FrameDraw& tele,
                          const WorldRect& detail) {
    PairFault pair;
    pair.name = fault.name;
    pair.details = Json::object();
    Draw draw = draw_stream(options, scene, Stream::pair_fault, scale);
    const double ratio = tele.camera.f_px / wide.camera.f_px;
    const double turn = 2 * std::numbers::pi;
    double haze = options.haze_lr_px;
    if (fault.name == "moving" || fault.name == "parallax") {
        const double angle = draw.between(0, turn);
        const double size = draw.between(parallax_low, parallax_high);
        for (Cutout thing : fault.things) {
            // Moving things go each their own way; parallax moves all alike
            const bool moving = fault.name == "moving";
            const double way = moving ? draw.between(0, turn) : angle;
            const double length = moving ? draw.between(moving_shift_low, moving_shift_high) : size;
            thing.shift = {1, length * std::cos(way), length * std::sin(way)};
            pair.cutouts.push_back(thing);
        }
        if (fault.name == "parallax") pair.details["shift_lr_px"] = size;
    } else if (fault.name == "depth") {
        const double along = draw.either_sign(draw.between(pupil_along_low, pupil_along_high));
        const double across_x = draw.around(pupil_across), across_y = draw.around(pupil_across);
        for (std::size_t i = 0; i < fault.things.size(); ++i) {
            // Seen from the tele's pupil at (across, along), a point of the plane Z
            Cutout thing = fault.things[i];
            const double z = fault.distances[i] - along;
            thing.shift = {fault.distances[i] / z, -wide.camera.f_px * across_x / z,
                           -wide.camera.f_px * across_y / z};
            pair.cutouts.push_back(thing);
        }
        pair.details["pupil_shift_m"] = {across_x, across_y, along};
        pair.details["distances_m"] = fault.distances;
    } else if (fault.name == "defocus_tele") {
        const double sigma = draw.between(defocus_low, defocus_high);
        pair.tele_sigma_px = sigma * ratio;
        pair.details["sigma_lr_px"] = sigma;
    } else if (fault.name == "defocus_wide") {
        pair.details["sigma_lr_px"] = fault.wide_sigma_px;
    } else if (fault.name == "shake") {
        const double length = draw.between(shake_low, shake_high), angle = draw.between(0, turn);
        pair.shake_dx_px = length * ratio * std::cos(angle);
        pair.shake_dy_px = length * ratio * std::sin(angle);
        pair.details["length_lr_px"] = length;
        pair.details["angle"] = angle;
    } else if (fault.name == "other") {
        pair.other_world = true;
    } else if (fault.name == "haze") {
        haze = draw.between(haze_low, haze_high);
    } else if (fault.name == "broken") {
        const double share = draw.between(0.3, 0.9);
        if (scale == fault.broken_scale) {
            pair.kept_share = share;
            pair.details["kept_share"] = share;
        } else {
            pair.name = "none";
        }
    }
    if (!pair.cutouts.empty()) {
        pair.details["covered_share"] = covered_share(fault.things, footprint(tele, wide));
        pair.details["things"] = things_json(pair.cutouts);
    }
    if (haze > 0) {
        pair.air.emplace(draw.word(), detail, haze_grid, haze);
        pair.details["haze_rms_lr_px"] = haze;
        pair.details["haze_greatest_lr_px"] = pair.air->greatest();
        pair.details["haze_reach_lr_px"] = haze_reach;
    }
    return pair;
}

}  // namespace ultrasr
