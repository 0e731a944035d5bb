// What a plan decides: sizes, options that move with the scale, and how levels hang together.
#include <array>
#include <cmath>
#include <map>
#include <numbers>
#include <opencv2/imgproc.hpp>

#include "data/file.h"
#include "data/image_io.h"
#include "degradation/draws.h"
#include "degradation/pipeline.h"
#include "degradation/severity.h"
#include "tests/degradation/plans.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

using test::preset;
using test::step_as;

constexpr PixelSize gt512{512, 512};

Plan plan_of(std::vector<LevelRequest> levels, Couple couple, std::uint64_t id,
             PixelSize gt = {48, 40}) {
    return make_plan(
        {.stream = {.seed = 7, .id = id}, .gt = gt, .levels = std::move(levels), .couple = couple});
}

Plan plan_of(const Preset& p, int scale, std::uint64_t id, PixelSize gt = {48, 40}) {
    return plan_of({{scale, p}}, Couple::stage1, id, gt);
}

/// The first id whose draw of a slot lies there.
std::uint64_t id_with(std::uint32_t slot_number, double low, double high) {
    for (std::uint64_t id = 0; id < 2'000'000; ++id) {
        const double u = draw_unit({.seed = 7, .id = id}, slot_number, 0);
        if (u >= low && u < high) return id;
    }
    fail(Fault::internal, "no id has such a draw");
}

/// Stage 2's size at one factor: all plans shrink (below 1) or all enlarge.
PixelSize stage2_size(Preset p, int scale, double ratio, PixelSize gt = gt512) {
    const bool down = ratio < 1;
    p.stage2.resize_weights = {down ? 0.0 : 1.0, down ? 1.0 : 0.0, 0};
    p.stage2.resize = {ratio, ratio};
    // Down is U(ratio, 1), up is U(1, ratio): draws at the end that gives the ratio up to 1e-5
    const std::uint64_t id =
        down ? id_with(slot::stage2 + 1, 0, 1e-5) : id_with(slot::stage2 + 1, 1 - 1e-5, 1);
    return step_as<ResizeStep>(plan_of(p, scale, id, gt), 0, "stage2.resize").size;
}

PixelSize square(int side) { return {side, side}; }

std::vector<LevelRequest> alike(const Preset& p, std::vector<int> scales) {
    std::vector<LevelRequest> levels;
    for (const int scale : scales) levels.push_back({scale, p});
    return levels;
}

std::vector<LevelRequest> graded(std::array<int, 3> scales = {4, 8, 14}) {
    return {{scales[0], preset("ultra-mild")},
            {scales[1], preset("ultra-moderate")},
            {scales[2], preset("ultra-severe")}};
}

/// The fields of all noise steps of a level, those of the shared steps first: (slot, level).
std::vector<std::pair<std::uint32_t, std::uint32_t>> fields_of(const Plan& plan, std::size_t i) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> fields;
    for (const auto* steps : {&plan.shared, &plan.levels[i].steps}) {
        for (const NamedStep& step : *steps) {
            const Json params = step.step->params();
            if (params.contains("field")) {
                fields.emplace_back(params["field"].get<std::uint32_t>(),
                                    params["level"].get<std::uint32_t>());
            }
        }
    }
    return fields;
}

/// A level without the numbers of its noise fields.
Json without_fields(Json level) {
    for (Json& step : level["steps"]) {
        step["params"].erase("field");
        step["params"].erase("level");
    }
    return level;
}

/// A parameter of a level as worse-when-larger; NaN when the level has no such step or parameter.
double severity(const Plan& plan, std::size_t i, const std::string& what) {
    const std::string step = what.substr(0, what.rfind('.'));
    const std::string key = what.substr(what.rfind('.') + 1);
    const NamedStep* found = test::step_of(plan, i, step);
    if (!found) return NAN;
    Json params = found->step->params();
    if (params.contains("kernel")) params = params["kernel"];
    if (!params.contains(key)) return NAN;
    const bool turned = key == "quality" || key == "ratio" || key == "omega";
    return turned ? -params[key].get<double>() : params[key].get<double>();
}

/// Skies, edges, foliage and lines: enough of a photograph for orders of PSNR.
Planar synthetic_photograph(std::uint64_t item, int side) {
    Rng rng(31, item);
    cv::Mat rgb(side, side, CV_32FC3);
    const double tilt = rng.uniform(), hue = rng.uniform();
    for (int y = 0; y < side; ++y) {
        for (int x = 0; x < side; ++x) {
            const double sky = 0.25 + 0.5 * (tilt * x + (1 - tilt) * y) / side;
            rgb.at<cv::Vec3f>(y, x) = {static_cast<float>(sky),
                                       static_cast<float>(sky * (0.7 + 0.3 * hue)),
                                       static_cast<float>(sky * (1 - 0.4 * hue))};
        }
    }
    const auto colour = [&] { return cv::Scalar(rng.uniform(), rng.uniform(), rng.uniform()); };
    const auto place = [&] { return static_cast<int>(rng.uniform() * side); };
    for (int i = 0; i < 14; ++i) {
        cv::ellipse(rgb, {place(), place()}, {8 + place() / 5, 8 + place() / 8},
                    360 * rng.uniform(), 0, 360, colour(), -1, cv::LINE_AA);
    }
    for (int i = 0; i < 40; ++i) {
        cv::line(rgb, {place(), place()}, {place(), place()}, colour(), 1 + i % 3, cv::LINE_AA);
    }
    // Texture with energy at all scales
    for (int octave = 2; octave < side; octave *= 2) {
        cv::Mat coarse(octave + 2, octave + 2, CV_32F), fine;
        for (int k = 0; k < static_cast<int>(coarse.total()); ++k) {
            coarse.ptr<float>()[k] = static_cast<float>((rng.uniform() - 0.5) / octave);
        }
        cv::resize(coarse, fine, {side, side}, 0, 0, cv::INTER_CUBIC);
        for (int y = 0; y < side; ++y) {
            for (int x = 0; x < side; ++x) {
                const float t = fine.at<float>(y, x);
                rgb.at<cv::Vec3f>(y, x) += cv::Vec3f(t, t, t);
            }
        }
    }
    return test::made_picture(3, side, side, [&](int c, int y, int x) {
        return std::clamp(static_cast<double>(rgb.at<cv::Vec3f>(y, x)[c]), 0.0, 1.0);
    });
}

struct OrderRates {
    double triplets = 0, pairs = 0;  ///< PSNR(4) > PSNR(8) > PSNR(14); PSNR(4) > PSNR(8)
};

/// Over eight draws of each picture.
OrderRates order_rates(const std::vector<Planar>& pictures, Couple couple) {
    Preset severe = preset("realesrgan");
    severe.usm = false;
    OrderRates rates;
    for (std::size_t i = 0; i < pictures.size(); ++i) {
        for (std::uint32_t draw = 0; draw < 8; ++draw) {
            const Plan plan = make_plan({.stream = {.seed = 2026, .id = i, .variant = draw},
                                         .gt = pictures[i].size(),
                                         .levels = alike(severe, {4, 8, 14}),
                                         .couple = couple});
            const Degraded out = run_plan(plan, pictures[i]);
            std::array<double, 3> psnr{};
            for (std::size_t k = 0; k < 3; ++k) {
                psnr[k] = severity_of(out.levels[k].lr, pictures[i]).psnr;
            }
            const double n = 8.0 * static_cast<double>(pictures.size());
            rates.pairs += (psnr[0] > psnr[1]) / n;
            rates.triplets += (psnr[0] > psnr[1] && psnr[1] > psnr[2]) / n;
        }
    }
    return rates;
}

/// Four photographs, two crops each.
std::vector<Planar> photographs(int side) {
    std::vector<Planar> pictures;
    const auto folder = test::source_folder() / "data" / "demo" / "photographs";
    for (const char* name : {"astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg"}) {
        const cv::Mat rgb = decode_pixels(read_file(folder / name), folder / name, {}).rgb;
        for (const bool second : {false, true}) {
            const cv::Rect crop(second ? rgb.cols - side : 0, second ? rgb.rows - side : 0, side,
                                side);
            pictures.push_back(planar_of_rgb(rgb(crop).clone()));
        }
    }
    return pictures;
}

TEST_SUITE("unit") {
    TEST_CASE("sizes: every cell of the table of degradation.md 3.2") {
        struct Row {
            int scale, lr;
            double effective;
            int jpeg_pad;
            std::array<int, 2> severe, mild;  ///< stage 2 at r2 .3 ... 1.2 and .6 ... 1.2
            int exact_gt;
        };
        for (const Row& row : {Row{4, 128, 4, 0, {38, 153}, {76, 153}, 512},
                               {8, 64, 8, 0, {19, 76}, {38, 76}, 512},
                               {10, 51, 10.039, 13, {15, 61}, {30, 61}, 510},
                               {12, 42, 12.190, 6, {12, 51}, {25, 51}, 504},
                               {14, 36, 14.222, 12, {10, 43}, {21, 43}, 504}}) {
            CAPTURE(row.scale);
            const Plan plan = plan_of(preset("realesrgan"), row.scale, 1, gt512);
            CHECK(plan.levels[0].lr == square(row.lr));
            CHECK(step_as<ResizeStep>(plan, 0, "final.resize").size == square(row.lr));
            CHECK(std::abs(512.0 / plan.levels[0].lr.width - row.effective) < 5e-4);
            CHECK((16 - row.lr % 16) % 16 == row.jpeg_pad);
            CHECK(row.scale * lr_size(gt512, row.scale, LrSizeRule::exact_crop).width ==
                  row.exact_gt);
            const Preset& severe = preset("osediff");
            const Preset& mild = preset("stablesr-768");
            CHECK(stage2_size(severe, row.scale, 0.3) == square(row.severe[0]));
            CHECK(stage2_size(severe, row.scale, 1.2) == square(row.severe[1]));
            CHECK(stage2_size(mild, row.scale, 0.6) == square(row.mild[0]));
            CHECK(stage2_size(mild, row.scale, 1.2) == square(row.mild[1]));
        }
    }

    TEST_CASE("lr_size: each rule, sides on their own, never under 1") {
        CHECK(lr_size({512, 300}, 12, LrSizeRule::floor) == PixelSize{42, 25});
        CHECK(lr_size({512, 300}, 12, LrSizeRule::round) == PixelSize{43, 25});
        CHECK(lr_size({512, 301}, 12, LrSizeRule::ceil) == PixelSize{43, 26});
        CHECK(lr_size({512, 300}, 12, LrSizeRule::ceil) == PixelSize{43, 25});
        CHECK(lr_size({512, 504}, 14, LrSizeRule::exact_crop) == PixelSize{36, 36});
        CHECK(lr_size({512, 512}, 8, LrSizeRule::fixed_lr) == PixelSize{64, 64});
        CHECK(lr_size({512, 512}, 14, LrSizeRule::round) == square(37));
        CHECK(lr_size({512, 512}, 14, LrSizeRule::ceil) == square(37));
        CHECK(lr_size({6, 7}, 4, LrSizeRule::round) == PixelSize{2, 2});  // halves go up
        for (const LrSizeRule rule : {LrSizeRule::floor, LrSizeRule::round, LrSizeRule::ceil,
                                      LrSizeRule::exact_crop, LrSizeRule::fixed_lr}) {
            CHECK(lr_size({3, 1}, 14, rule) == PixelSize{1, 1});
        }
        // The rule of each level's preset counts
        Preset up = preset("osediff");
        up.lr_size_rule = LrSizeRule::ceil;
        const Plan plan = plan_of({{14, preset("osediff")}, {14, up}}, Couple::stage1, 1, gt512);
        CHECK(plan.levels[0].lr == square(36));
        CHECK(plan.levels[1].lr == square(37));
    }

    TEST_CASE("resize2_min_px: raises small factors and nothing else") {
        Preset bounded = preset("realesrgan");
        bounded.resize2_min_px = 20;
        // x14: from r2 = .55 on nothing changes, below all become 20
        for (const double ratio : {0.3, 0.4, 0.5, 0.54}) {
            CHECK(stage2_size(bounded, 14, ratio) == square(20));
            CHECK(stage2_size(preset("realesrgan"), 14, ratio).width < 20);
        }
        for (const double ratio : {0.55, 0.7, 0.95, 1.2}) {
            CAPTURE(ratio);
            CHECK(stage2_size(bounded, 14, ratio) == stage2_size(preset("realesrgan"), 14, ratio));
        }
        // x4 and x8: no effect where r2 >= .3125 (20 of 64 pixels; 38 of 128 at x4's lowest)
        for (const double ratio : {0.3, 0.31, 0.5, 1.2}) {
            CHECK(stage2_size(bounded, 4, ratio) == stage2_size(preset("realesrgan"), 4, ratio));
        }
        for (const double ratio : {0.3126, 0.5, 1.2}) {
            CHECK(stage2_size(bounded, 8, ratio) == stage2_size(preset("realesrgan"), 8, ratio));
        }
        CHECK(stage2_size(bounded, 8, 0.3) == square(20));
        // The short side is bounded, the long one keeps its proportion
        CHECK(stage2_size(bounded, 14, 0.3, {1024, 512}) == PixelSize{40, 20});
        // An LR that is smaller than the bound is not enlarged for it
        CHECK(stage2_size(bounded, 14, 0.3, {140, 140}) == square(10));
        CHECK(stage2_size(bounded, 14, 1.2, {160, 160}) == square(13));
        // 20 is what our presets have, 0 the published ones
        for (const Preset& p : presets()) {
            CHECK(p.resize2_min_px == (p.name.starts_with("ultra") ? 20 : 0));
        }
        // Whatever is drawn, no side of ours is below 20
        for (std::uint64_t id = 0; id < 300; ++id) {
            const PixelSize size =
                step_as<ResizeStep>(plan_of(preset("ultra-severe"), 14, id, gt512), 0,
                                    "stage2.resize")
                    .size;
            REQUIRE(size.width >= 20);
        }
    }

    TEST_CASE("resize1_scaled: the lower end becomes .6 / s, the upper stays") {
        Preset p = preset("realesrgan");
        p.resize1_scaled = true;
        p.stage1.resize_weights = {0, 1, 0};
        const std::uint64_t lowest = id_with(slot::stage1 + 1, 0, 1e-5);
        const std::uint64_t highest = id_with(slot::stage1 + 1, 1 - 1e-5, 1);
        for (const auto& [scale, low] :
             {std::pair{4, 0.15}, {8, 0.075}, {14, 0.6 / 14}, {2, 0.15}}) {
            CAPTURE(scale);
            const auto ratio = [&](std::uint64_t id) {
                return *step_as<ResizeStep>(plan_of(p, scale, id), 0, "stage1.resize").ratio;
            };
            CHECK(std::abs(ratio(lowest) - low) < 1e-5);
            CHECK(std::abs(ratio(highest) - 1) < 1e-5);
        }
        for (const Preset& known : presets()) CHECK_FALSE(known.resize1_scaled);
        // What knows the scale is not shared by levels
        CHECK(plan_of(alike(p, {4, 8}), Couple::stage1, 1).shared.size() == 1);  // USM
        CHECK(plan_of(alike(preset("realesrgan"), {4, 8}), Couple::stage1, 1).shared.size() > 4);
    }

    TEST_CASE("blur_scale: the upper sigma of blur 2 times sqrt((4 + s) / 8)") {
        Preset plain = preset("realesrgan"), scaled = plain;
        plain.stage2.blur_prob = scaled.stage2.blur_prob = 1;
        plain.stage2.kernel.sinc_prob = scaled.stage2.kernel.sinc_prob = 0;
        scaled.blur_scale = BlurScale::bsrgan;
        const std::uint64_t widest = id_with(slot::kernel2 + 4, 1 - 1e-5, 1);
        const std::uint64_t narrowest = id_with(slot::kernel2 + 4, 0, 1e-5);
        for (const int scale : {2, 4, 8, 14}) {
            CAPTURE(scale);
            const auto sigma = [&](const Preset& p, std::uint64_t id, const char* blur) {
                return step_as<BlurStep>(plan_of(p, scale, id), 0, blur).spec.sigma_x;
            };
            const double factor = std::sqrt((4.0 + scale) / 8);
            CHECK(std::abs(sigma(scaled, widest, "stage2.blur") - 1.5 * factor) < 1e-4);
            CHECK(std::abs(sigma(plain, widest, "stage2.blur") - 1.5) < 1e-4);
            CHECK(std::abs(sigma(scaled, narrowest, "stage2.blur") - 0.2) < 1e-4);
            // Blur 1 lives in GT pixels
            CHECK(sigma(scaled, widest, "stage1.blur") == sigma(plain, widest, "stage1.blur"));
        }
        for (const Preset& known : presets()) CHECK(known.blur_scale == BlurScale::none);
        CHECK(plan_of(alike(scaled, {4, 8}), Couple::stage1, 1).shared.size() == 1);
    }

    TEST_CASE("resize_antialias: off, on, or drawn for each of three resizes") {
        std::map<std::string, std::array<double, 2>> seen;
        std::array<double, 3> equal{};
        Preset p = preset("osediff");
        for (std::uint64_t id = 0; id < 1000; ++id) {
            std::vector<bool> drawn;
            for (const char* name : {"stage1.resize", "stage2.resize", "final.resize"}) {
                p.antialias = Antialias::off;
                REQUIRE_FALSE(step_as<ResizeStep>(plan_of(p, 8, id), 0, name).antialias);
                p.antialias = Antialias::on;
                REQUIRE(step_as<ResizeStep>(plan_of(p, 8, id), 0, name).antialias);
                p.antialias = Antialias::drawn;
                p.antialias_prob = 0.25;
                drawn.push_back(step_as<ResizeStep>(plan_of(p, 8, id), 0, name).antialias);
                ++seen[name][drawn.back()];
            }
            for (std::size_t k = 0; k < 3; ++k) equal[k] += drawn[k] == drawn[(k + 1) % 3];
            REQUIRE_FALSE(step_as<ResizeStep>(plan_of(p, 8, id), 0, "back.resize").antialias);
        }
        for (const auto& [name, counts] : seen) {
            CHECK(test::count_deviations(counts[1], 1000, 0.25) < 3.3);
        }
        for (const double count : equal) {  // each has a draw of its own
            CHECK(test::count_deviations(count, 1000, 0.25 * 0.25 + 0.75 * 0.75) < 3.3);
        }
    }

    TEST_CASE("no_degradation_prob: left as it is but for its size, with those odds") {
        Preset p = preset("stablesr");
        p.no_degradation_prob = 0.2;
        double undegraded = 0;
        for (std::uint64_t id = 0; id < 1000; ++id) {
            const Plan plan = plan_of(alike(p, {4, 8}), Couple::stage1, id);
            const bool left = test::drawn(plan, 0, "undegraded");
            undegraded += left;
            if (!left) {
                REQUIRE(plan.shared.size() >= 5);
                continue;
            }
            // StableSR sharpens before it leaves the rest out
            REQUIRE(plan.shared.size() == 1);
            for (const LevelPlan& level : plan.levels) {
                REQUIRE(level.steps.size() == 2);
                REQUIRE(level.steps[0].kind == "resize_size");
                REQUIRE(test::as<ResizeStep>(level.steps[0]).size == level.lr);
                REQUIRE(level.steps[1].kind == "clamp");
                REQUIRE(level.back.size() == 2);
            }
        }
        CHECK(test::count_deviations(undegraded, 1000, 0.2) < 3.3);
        p.no_degradation_prob = 1;
        const Planar gt = test::noise_picture(3, 40, 48, 3);
        p.usm = false;
        const Degraded out = run_plan(plan_of(p, 4, 1), gt);
        CHECK(test::same_bytes(
            out.levels[0].lr,
            test::applied("clamp", "{}", resize_to(gt, {12, 10}, ResizeMode::bicubic, true))));
    }

    TEST_CASE("make_plan: faults name what may be asked for") {
        const auto fault = [](std::vector<LevelRequest> levels) {
            return test::sentence_of([&] { plan_of(std::move(levels), Couple::stage1, 1); },
                                     Fault::usage);
        };
        CHECK(test::has(fault({}), "at least one"));
        CHECK(test::has(fault(alike(preset("osediff"), {0})), "1 to 63"));
        CHECK(test::has(fault(alike(preset("osediff"), {64})), "not at 64"));
        CHECK(test::has(fault(alike(preset("osediff"), {8, 8, 8, 8, 8})), "four times"));
        CHECK(fault(alike(preset("osediff"), {1, 63, 8, 8, 8, 8})).empty());
        CHECK(test::has(test::sentence_of([] { couple("loose"); }, Fault::usage), "comonotone"));
        for (const char* name : {"stage1", "comonotone", "params", "independent", "cascade"}) {
            CHECK(couple_name(couple(name)) == name);
        }
    }

    TEST_CASE("couplings: which steps are shared, and whose fields the noise draws") {
        using Fields = std::vector<std::pair<std::uint32_t, std::uint32_t>>;
        const auto levels = alike(preset("osediff"), {4, 8, 8});
        for (std::uint64_t id = 0; id < 40; ++id) {
            // One set of draws; stage 1 once; noise 2 in a field of each level's own
            for (const Couple couple : {Couple::stage1, Couple::comonotone}) {
                const Plan plan = plan_of(levels, couple, id);
                const Json shared = test::json_of(plan.shared);
                REQUIRE(plan.shared.size() >= 4);
                REQUIRE(plan.shared.back().name.starts_with("stage"));
                for (const NamedStep& step : plan.shared) {
                    const bool of_stage1 = step.name.starts_with("stage1.");
                    REQUIRE((of_stage1 || step.name == "stage2.blur"));
                }
                for (std::size_t i = 0; i < 3; ++i) {
                    REQUIRE(plan.levels[i].steps[0].name == "stage2.resize");
                    REQUIRE(plan.levels[i].input == -1);
                    REQUIRE(fields_of(plan, i) ==
                            Fields{{128, 0}, {129, std::array{4U, 8U, 72U}[i]}});
                }
                // Twins differ by their fields alone
                REQUIRE(without_fields(test::whole_level(plan, 1)) ==
                        without_fields(test::whole_level(plan, 2)));
            }
            // The same parameters as with stage 1 shared, every field its own
            const Plan params = plan_of(levels, Couple::params, id);
            const Plan stage1 = plan_of(levels, Couple::stage1, id);
            REQUIRE(params.shared.empty());
            for (std::size_t i = 0; i < 3; ++i) {
                const std::uint32_t own = std::array{4U, 8U, 72U}[i];
                REQUIRE(fields_of(params, i) == Fields{{128, own}, {129, own}});
                REQUIRE(without_fields(test::whole_level(params, i)) ==
                        without_fields(test::whole_level(stage1, i)));
            }
            // Unrelated draws, twins too
            const Plan independent = plan_of(levels, Couple::independent, id);
            REQUIRE(independent.shared.empty());
            for (std::size_t i = 0; i < 3; ++i) {
                const std::uint32_t own = std::array{4U, 8U, 72U}[i];
                REQUIRE(fields_of(independent, i) == Fields{{128, own}, {129, own}});
                REQUIRE(step_as<JpegStep>(independent, i, "stage1.jpeg").quality !=
                        step_as<JpegStep>(independent, (i + 1) % 3, "stage1.jpeg").quality);
            }
            // Each level from the LR before it
            const Plan cascade = plan_of(levels, Couple::cascade, id);
            REQUIRE(cascade.shared.empty());
            for (std::size_t i = 0; i < 3; ++i) {
                REQUIRE(cascade.levels[i].input == static_cast<int>(i) - 1);
                // Its draws are those of independent levels, its sizes those of every coupling
                REQUIRE(cascade.levels[i].draws == independent.levels[i].draws);
                REQUIRE(cascade.levels[i].lr == independent.levels[i].lr);
            }
        }
        // Sharpening is for all, however they hang together
        for (const Couple couple : {Couple::stage1, Couple::comonotone, Couple::params,
                                    Couple::independent, Couple::cascade}) {
            const Plan plan = plan_of(alike(preset("realesrgan"), {4, 8}), couple, 3);
            CHECK(plan.shared[0].name == "usm");
            CHECK(test::step_of(plan.levels[1].steps, "usm") == nullptr);
        }
    }

    TEST_CASE(
        "noise2_field nested: the largest picture's field for all, where levels share draws") {
        const auto nested = [](std::vector<LevelRequest> levels, double gaussian) {
            for (LevelRequest& level : levels) {
                level.preset.noise2_field = Noise2Field::nested;
                level.preset.stage2.gaussian_noise_prob = gaussian;
            }
            return levels;
        };
        const auto independent = [](std::vector<LevelRequest> levels) {
            for (LevelRequest& level : levels) level.preset.noise2_field = Noise2Field::independent;
            return levels;
        };
        for (const Couple how : {Couple::stage1, Couple::comonotone, Couple::params,
                                 Couple::independent, Couple::cascade}) {
            CAPTURE(couple_name(how));
            const bool counts = how == Couple::stage1 || how == Couple::comonotone;
            for (std::uint64_t id = 0; id < 20; ++id) {
                // Not in the order of their sizes, and a GT so flat that least sides matter
                const auto levels = nested(graded({8, 4, 14}), 1);
                const PixelSize gt = id % 2 == 0 ? PixelSize{192, 160} : PixelSize{700, 48};
                const Plan plan = plan_of(levels, how, id, gt);
                const Plan plain = plan_of(independent(levels), how, id, gt);
                if (!counts) {
                    for (std::size_t i = 0; i < 3; ++i) {
                        CHECK(test::whole_level(plan, i) == test::whole_level(plain, i));
                    }
                    continue;
                }
                for (std::size_t i = 0; i < 3; ++i) {
                    const PixelSize own = step_as<ResizeStep>(plan, i, "stage2.resize").size;
                    const auto& noise = step_as<GaussianNoiseStep>(plan, i, "stage2.noise");
                    CHECK(noise.field.level == 4);
                    REQUIRE(noise.nested_from.has_value() == (i != 1));
                    if (i == 1) continue;
                    const PixelSize from = *noise.nested_from;
                    CHECK(from == step_as<ResizeStep>(plan, 1, "stage2.resize").size);
                    CHECK(from.width >= own.width);
                    CHECK(from.height >= own.height);
                }
                CHECK(test::whole_level(plan, 1) == test::whole_level(plain, 1));
                // Nothing else moves
                for (std::size_t i = 0; i < 3; ++i) {
                    Json ours = without_fields(test::whole_level(plan, i));
                    for (Json& step : ours["steps"]) step["params"].erase("nested_from");
                    CHECK(ours == without_fields(test::whole_level(plain, i)));
                }
            }
            // Poisson noise stays independent
            const auto photons = nested(graded(), 0);
            for (std::size_t i = 0; i < 3; ++i) {
                CHECK(test::whole_level(plan_of(photons, how, 3), i) ==
                      test::whole_level(plan_of(independent(photons), how, 3), i));
            }
        }
    }

    TEST_CASE("noise2_field nested: the noise that levels see is one field") {
        Preset p = preset("ultra-severe");
        p.noise2_field = Noise2Field::nested;
        p.stage2.gaussian_noise_prob = 1;
        p.stage2.noise = {5, 5};  // of mid-grey: never clamped
        for (const double gray : {0.0, 1.0}) {
            p.stage2.gray_noise_prob = gray;
            const Plan plan = plan_of({{2, p}, {8, p}}, Couple::stage1, 1, {320, 256});
            std::vector<Planar> noise;
            for (std::size_t i = 0; i < 2; ++i) {
                const auto& step = step_as<GaussianNoiseStep>(plan, i, "stage2.noise");
                const PixelSize size = step_as<ResizeStep>(plan, i, "stage2.resize").size;
                StepContext context{plan.stream, nullptr, nullptr};
                const Planar flat = test::flat_picture(3, size.height, size.width, 0.5F);
                Planar noisy = step.apply(flat, context);
                for (std::size_t k = 0; k < noisy.values(); ++k) noisy.data_()[k] -= 0.5F;
                noise.push_back(std::move(noisy));
            }
            const Planar averaged = resize_to(noise[0], noise[1].size(), ResizeMode::area);
            double ab = 0, aa = 0, bb = 0;
            for (std::size_t k = 0; k < averaged.values(); ++k) {
                const double a = averaged.data()[k], b = noise[1].data()[k];
                ab += a * b;
                aa += a * a;
                bb += b * b;
            }
            CHECK(ab / std::sqrt(aa * bb) > 0.99);
            const auto n = static_cast<double>(averaged.values());
            CHECK(std::sqrt(bb / n) * 255 == doctest::Approx(5).epsilon(0.1));  // few pixels
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE("comonotone: each oriented parameter grows from mild to severe, 500 plans") {
        const std::vector<std::string> parameters{
            "stage1.blur.sigma_x", "stage1.blur.sigma_y", "stage1.blur.omega",
            "stage1.noise.sigma",  "stage1.noise.scale",  "stage1.jpeg.quality",
            "stage2.blur.sigma_x", "stage2.blur.sigma_y", "stage2.noise.sigma",
            "stage2.noise.scale",  "final.jpeg.quality",  "final.blur.omega",
            "stage2.blur.omega"};
        std::map<std::string, int> compared, grown;
        double blurred[3] = {};
        std::map<std::string, std::array<double, 3>> directions;  ///< up, keep, down
        for (std::uint64_t id = 0; id < 500; ++id) {
            const Plan plan = plan_of(graded({8, 8, 8}), Couple::comonotone, id, {160, 160});
            REQUIRE(plan.shared.empty());
            for (const std::string& what : parameters) {
                CAPTURE(what);
                for (std::size_t i = 0; i + 1 < 3; ++i) {
                    const double mild = severity(plan, i, what);
                    const double severe = severity(plan, i + 1, what);
                    if (std::isnan(mild) || std::isnan(severe)) continue;
                    ++compared[what];
                    grown[what] += severe > mild;
                    REQUIRE(severe >= mild);
                }
            }
            // A blur that the milder level has, the severer one has too
            for (std::size_t i = 0; i < 3; ++i) {
                const bool here = test::step_of(plan, i, "stage2.blur") != nullptr;
                blurred[i] += here;
                if (i > 0) {
                    REQUIRE(here >= (test::step_of(plan, i - 1, "stage2.blur") != nullptr));
                }
            }
            // Factors: the same direction, further down; enlarging is common to all three
            for (const char* stage : {"stage1", "stage2"}) {
                const std::string name = stage;
                const Json direction = test::drawn(plan, 0, name + ".direction");
                ++directions[name].at(direction.get<std::size_t>());
                for (std::size_t i = 0; i + 1 < 3; ++i) {
                    REQUIRE(test::drawn(plan, i + 1, name + ".direction") == direction);
                    if (direction == 1) continue;  // kept
                    const double mild = test::drawn(plan, i, name + ".factor");
                    const double severe = test::drawn(plan, i + 1, name + ".factor");
                    ++compared[name + ".factor"];
                    grown[name + ".factor"] += severe < mild;
                    REQUIRE(severe <= mild);
                }
            }
        }
        for (const std::string& what : parameters) {
            CAPTURE(what);
            CHECK(compared[what] > 20);
            // The cut-offs have the same range in every preset
            CHECK((grown[what] > 0) == (what.find("omega") == std::string::npos));
        }
        CHECK(grown["stage1.factor"] > 100);
        for (const auto& [stage, odds] : {std::pair{"stage1", std::array{0.2, 0.1, 0.7}},
                                          {"stage2", std::array{0.3, 0.3, 0.4}}}) {
            for (std::size_t i = 0; i < 3; ++i) {
                CHECK(test::count_deviations(directions[stage][i], 500, odds[i]) < 3.3);
            }
        }
        CHECK(blurred[0] < blurred[1]);
        CHECK(blurred[1] < blurred[2]);
    }

    TEST_CASE("comonotone: a larger u is never the milder one, for every oriented draw") {
        // Draws of one level, sorted by their u
        std::map<std::string, std::vector<std::pair<double, double>>> seen;
        for (std::uint64_t id = 0; id < 500; ++id) {
            Preset p = preset("ultra-severe");
            p.no_degradation_prob = 0.2;
            const Plan plan = plan_of({{8, p}}, Couple::comonotone, id);
            for (const auto* draws : {&plan.draws, &plan.levels[0].draws}) {
                for (const auto& [name, drawn] : draws->items()) {
                    const std::string key = name.substr(name.rfind('.') + 1);
                    double value =
                        drawn[1].is_boolean() ? drawn[1].get<bool>() : drawn[1].get<double>();
                    std::string group = name;
                    if (key == "quality" || key == "factor" || key == "omega" ||
                        key == "undegraded") {
                        value = -value;
                    }
                    if (key == "factor") {  // each direction has its own range
                        const std::string stage = name.substr(0, name.find('.'));
                        group += test::drawn(plan, 0, stage + ".direction").dump();
                    }
                    if (key == "omega" && name != "final.omega") {
                        const std::string prefix = name.substr(0, name.rfind('.') + 1);
                        group += test::drawn(plan, 0, prefix + "size").get<int>() < 13 ? "small"
                                                                                       : "large";
                    }
                    if (key == "beta") continue;  // two ranges, and neither end is the worse one
                    seen[group].emplace_back(drawn[0].get<double>(), value);
                }
            }
        }
        CHECK(seen.size() > 25);
        for (auto& [name, values] : seen) {
            CAPTURE(name);
            std::sort(values.begin(), values.end());
            CHECK(std::is_sorted(values.begin(), values.end(),
                                 [](const auto& a, const auto& b) { return a.second < b.second; }));
        }
    }

    TEST_CASE("couplings: a further level changes none of the others") {
        const Planar gt = test::noise_picture(3, 56, 64, 9);
        const std::vector<std::vector<LevelRequest>> cases{
            alike(preset("ultra-severe"), {2, 4, 8}),
            alike(preset("bsrgan"), {2, 4, 8}),
            alike(preset("stablesr"), {2, 4, 8}),
            graded({2, 4, 8}),
        };
        for (const auto& levels : cases) {
            for (const Couple couple :
                 {Couple::stage1, Couple::params, Couple::independent, Couple::comonotone}) {
                CAPTURE(levels[0].preset.name);
                CAPTURE(couple_name(couple));
                for (std::uint64_t id = 0; id < 12; ++id) {
                    const Plan all = plan_of(levels, couple, id, {64, 56});
                    const Plan two = plan_of({levels[0], levels[1]}, couple, id, {64, 56});
                    const Plan one = plan_of({levels[0]}, couple, id, {64, 56});
                    // Not only the plans: vals come from pictures
                    const Degraded of_all = run_plan(all, gt), of_two = run_plan(two, gt),
                                   of_one = run_plan(one, gt);
                    REQUIRE(test::same_bytes(of_all.levels[0].lr, of_two.levels[0].lr));
                    REQUIRE(test::same_bytes(of_all.levels[1].lr, of_two.levels[1].lr));
                    REQUIRE(test::same_bytes(of_all.levels[0].lr, of_one.levels[0].lr));
                }
            }
        }
    }

    TEST_CASE("stage1: sharing the steps changes nothing, equal presets or one") {
        const Planar gt = test::noise_picture(3, 56, 64, 10);
        for (const char* name : {"realesrgan", "ultra-severe", "ultra-mild", "stablesr"}) {
            CAPTURE(std::string(name));
            // A title is no option: the copies stay equal. A name is one in the record alone, and
            // keeps the plan from sharing
            const Preset p = preset(name);
            Preset copy = p, other = p;
            copy.title = "the same";
            other.name = "the same by another name";
            for (std::uint64_t id = 0; id < 25; ++id) {
                const Plan shared = plan_of({{4, p}, {8, p}}, Couple::stage1, id, {64, 56});
                const Plan copied = plan_of({{4, p}, {8, copy}}, Couple::stage1, id, {64, 56});
                const Plan apart = plan_of({{4, p}, {8, other}}, Couple::stage1, id, {64, 56});
                REQUIRE(test::json_of(copied.shared) == test::json_of(shared.shared));
                REQUIRE(apart.shared.size() < 2);
                const Degraded a = run_plan(shared, gt), b = run_plan(copied, gt),
                               c = run_plan(apart, gt);
                for (std::size_t i = 0; i < 2; ++i) {
                    REQUIRE(test::same_bytes(a.levels[i].lr, b.levels[i].lr));
                    REQUIRE(test::same_bytes(a.levels[i].lr, c.levels[i].lr));
                }
            }
        }
    }

    TEST_CASE("A5: a million drawn parameter sets and 40,000 kernels hold no NaN") {
        // Of 10^6 streams every ranged slot's value (sigma, beta, cut-off, factor, noise, quality),
        // mapped as a plan does it, without making kernels, which cost 50 us each; kernels, of
        // 20,000 whole plans
        const Preset& p = preset("realesrgan");
        const double pi = std::numbers::pi;
        const std::vector<std::pair<std::uint32_t, Range>> ranged{
            {slot::kernel1 + 2, {pi / 5, pi}}, {slot::kernel1 + 4, p.stage1.kernel.sigma},
            {slot::kernel1 + 6, {-pi, pi}},    {slot::kernel1 + 8, {0.5, 4}},
            {slot::stage1 + 1, {0.15, 1}},     {slot::stage1 + 4, p.stage1.noise},
            {slot::stage1 + 6, p.stage1.jpeg}, {slot::stage2 + 1, {0.3, 1}},
            {slot::stage2 + 4, {0.05, 2.5}},   {slot::stage2 + 6, preset("pisasr").stage2.jpeg}};
        for (std::uint64_t id = 0; id < 1'000'000; ++id) {
            const Stream stream{.seed = 99, .id = id};
            for (const auto& [number, range] : ranged) {
                const double u = draw_unit(stream, number, 0);
                const double value = range.low + (range.high - range.low) * u;
                if (!(u >= 0 && u < 1 && value >= range.low && value < range.high)) {
                    FAIL("stream " << id << ", slot " << number);
                }
            }
        }
        std::size_t kernels = 0;
        for (std::uint64_t id = 0; id < 20'000; ++id) {
            const Plan plan = plan_of(id % 2 ? p : preset("stablesr"), 8, id);
            for (const auto* steps : {&plan.shared, &plan.levels[0].steps}) {
                for (const NamedStep& step : *steps) {
                    const auto* blur = dynamic_cast<const BlurStep*>(step.step.get());
                    if (!blur) continue;
                    ++kernels;
                    double sum = 0, largest = 0;
                    for (const float tap : blur->kernel.taps) {
                        sum += tap;
                        largest = std::isfinite(tap)
                                      ? std::max(largest, std::abs(static_cast<double>(tap)))
                                      : INFINITY;
                    }
                    if (!(std::abs(sum - 1) <= 1e-6 && largest <= 1)) FAIL("stream " << id);
                }
            }
        }
        CHECK(kernels > 40'000);
    }

    TEST_CASE("A6: stage1 keeps x4, x8 and x14 in order, independent draws do not") {
        // 64 draws each of synthetic pictures and of four photographs, two crops each, of 300
        // pixels: chelsea.jpg is no higher. Measured with stage1 1 and .984 of the triplets (the
        // spec's note: .94 at 512), with independent .750 and .625
        constexpr int side = 300;
        for (const bool synthetic : {true, false}) {
            std::vector<Planar> pictures;
            if (synthetic) {
                for (std::uint64_t i = 0; i < 8; ++i) {
                    pictures.push_back(synthetic_photograph(i, side));
                }
            } else {
                pictures = photographs(side);
            }
            REQUIRE(pictures.size() == 8);
            const OrderRates stage1 = order_rates(pictures, Couple::stage1);
            const OrderRates independent = order_rates(pictures, Couple::independent);
            CAPTURE(synthetic);
            MESSAGE(std::string(synthetic ? "synthetic" : "photographs")
                    << ": stage1 " << stage1.triplets << " (x4 > x8: " << stage1.pairs
                    << "), independent " << independent.triplets << " (" << independent.pairs
                    << ")");
            CHECK(stage1.triplets >= 0.9);
            CHECK(stage1.triplets >= independent.triplets + 0.2);
        }
    }
}

}  // namespace
}  // namespace ultrasr
