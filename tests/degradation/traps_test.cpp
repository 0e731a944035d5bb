// The traps of degradation.md 0 with its corrections: one case each, by its number.
#include <array>
#include <map>
#include <set>

#include "data/file.h"
#include "degradation/draws.h"
#include "degradation/pipeline.h"
#include "degradation/preset.h"
#include "degradation/preset_yaml.h"
#include "degradation/steps/exact_math.h"
#include "degradation/steps/steps.h"
#include "tests/degradation/steps.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

const Preset& preset(const std::string& name) {
    const auto found = std::find_if(presets().begin(), presets().end(),
                                    [&](const Preset& p) { return p.name == name; });
    require(found != presets().end(), "no preset {}", name);
    return *found;
}

Plan plan_of(const std::string& name, std::uint64_t id, PixelSize gt = {512, 512}, int scale = 4) {
    return make_plan(
        {.stream = {.seed = 1, .id = id}, .gt = gt, .levels = {{scale, preset(name)}}});
}

const NamedStep* step_of(const Plan& plan, const std::string& name) {
    for (const auto* steps : {&plan.shared, &plan.levels[0].steps, &plan.levels[0].back}) {
        for (const NamedStep& step : *steps) {
            if (step.name == name) return &step;
        }
    }
    return nullptr;
}

/// A value drawn for the first level or for all.
Json drawn(const Plan& plan, const std::string& name) {
    for (const Json* draws : {&plan.draws, &plan.levels[0].draws}) {
        if (draws->contains(name)) return (*draws)[name][1];
    }
    return nullptr;
}

/// A row whose value is the place of the pixel's centre.
Planar ramp(int width) {
    return test::made_picture(3, 2, width, [&](int, int, int x) { return (x + 0.5) / width; });
}

/// Multiplied by 8, so that hand-made rows are exact in float32.
std::vector<double> resized_row(const std::vector<double>& row, int width, const char* mode) {
    const Planar in = test::made_picture(3, 1, static_cast<int>(row.size()), [&](int, int, int x) {
        return row[static_cast<std::size_t>(x)] / 8;
    });
    const Planar out = test::applied(
        "resize_size", fmt::format(R"({{"mode":"{}","size":[1,{}]}})", mode, width), in);
    std::vector<double> values;
    for (int x = 0; x < width; ++x) values.push_back(8.0 * out.row(2, 0)[x]);
    return values;
}

double deviation_of(const Planar& picture, int plane = 0) {
    const float* p = picture.plane(plane);
    return 255 * std::sqrt(test::moments({p, p + picture.plane_values()}).variance);
}

/// 60 levels around mid-grey at the highest frequency that a block knows.
Planar wave(bool turned) {
    return test::made_picture(3, 48, 48, [&](int, int y, int x) {
        const int at = turned ? y : x;
        return (128 + 60 * std::cos((2 * (at % 8) + 1) * 7 * std::numbers::pi / 16)) / 255;
    });
}

Planar golden_picture(const std::string& name) {
    return test::planar_of(SafetensorsFile(test::golden("degradation_steps.safetensors")), name);
}

double decibels(const Planar& a, const Planar& b, int first_row = 0) {
    double squares = 0, n = 0;
    for (int c = 0; c < a.channels(); ++c) {
        for (int y = first_row; y < a.height(); ++y) {
            for (int x = 0; x < a.width(); ++x, ++n) {
                squares += std::pow(static_cast<double>(a.row(c, y)[x]) - b.row(c, y)[x], 2);
            }
        }
    }
    return -10 * std::log10(squares / n);
}

bool is_8_bit(const Planar& picture) {
    return std::all_of(picture.data(), picture.data() + picture.values(), [](float v) {
        return v == static_cast<float>(std::rint(v * 255.0F)) / 255.0F;
    });
}

TEST_SUITE("unit") {
    TEST_CASE("T1: a factor loses a part of a pixel, which the later resize to a size stretches") {
        const PixelSize back{512, 2};
        for (const auto& [ratio, columns, shift] :
             {std::tuple{0.1523, 77, -6.0}, {0.3, 153, -1.88}, {0.7, 358, -0.5}}) {
            CAPTURE(ratio);
            const auto shift_of = [&](const Planar& small) {
                return 512.0 * resize_to(small, back, ResizeMode::bilinear).row(0, 0)[480] - 480.5;
            };
            const std::string params = fmt::format(R"({{"mode":"bilinear","ratio":{}}})", ratio);
            const Planar small = test::applied("resize_scale_factor", params, ramp(512));
            REQUIRE(small.width() == columns);
            CHECK(std::abs(shift_of(small) - 480.5 * (columns / (512 * ratio) - 1)) < 2e-3);
            CHECK(std::abs(shift_of(small) - shift) < 0.05);  // as published, two digits
            // With the step in / out there is none, and area knows no other
            const Planar exact = resize_to(ramp(512), small.size(), ResizeMode::bilinear);
            CHECK(std::abs(shift_of(exact)) < 2e-3);
            const std::string area = fmt::format(R"({{"mode":"area","ratio":{}}})", ratio);
            CHECK(test::same_bytes(test::applied("resize_scale_factor", area, ramp(512)),
                                   resize_to(ramp(512), small.size(), ResizeMode::area)));
        }
        CHECK(sampling_by(400, 0.29, ResizeMode::bilinear).m == 115);
        // Presets after the references keep the shift, ours do not
        CHECK_FALSE(preset("realesrgan").resize1_exact);
        CHECK(step_of(plan_of("realesrgan", 1), "stage1.resize")->kind == "resize_scale_factor");
        CHECK(step_of(plan_of("ultra-severe", 1), "stage1.resize")->kind == "resize_size");
    }

    TEST_CASE("T1: bilinear copies an axis that keeps its length, bicubic samples it with 1 / r") {
        const Planar picture = test::noise_picture(3, 37, 43, 1);
        const auto run = [&](const char* mode) {
            return test::applied("resize_scale_factor",
                                 fmt::format(R"({{"mode":"{}","ratio":1.0123}})", mode), picture);
        };
        CHECK(test::same_bytes(run("bilinear"), picture));
        CHECK(test::same_shape(run("bicubic"), picture));
        CHECK(test::largest_difference(run("bicubic"), picture) > 0.3);
        // One axis alone: 43 becomes 44, 37 stays
        const Planar wider =
            test::applied("resize_scale_factor", R"({"mode":"bilinear","ratio":1.026})", picture);
        CHECK(wider.width() == 44);
        CHECK(test::same_bytes(
            wider, resize(picture, {37, 37, 1, true}, sampling_by(43, 1.026, ResizeMode::bilinear),
                          ResizeMode::bilinear)));
    }

    TEST_CASE("T2: area is the plain mean of every pixel that the output touches") {
        using Row = std::vector<double>;
        CHECK(resized_row({1, 2, 3, 4}, 6, "area") == Row{1, 1.5, 2, 3, 3.5, 4});
        CHECK(resized_row({0, 1, 2, 3, 4, 5, 6}, 3, "area") == Row{1, 3, 5});
        CHECK(resized_row({1, 2, 3}, 6, "area") == Row{1, 1, 2, 2, 3, 3});  // whole: replication
        const Row shares = resized_row({0, 1, 2, 3, 4, 5, 6}, 3, "area_cv");
        const Row wanted{0.7142857, 3, 5.2857143};  // OpenCV's
        for (std::size_t i = 0; i < 3; ++i) CHECK(std::abs(shares[i] - wanted[i]) < 1e-6);
    }

    TEST_CASE("T3: the luma table lies transposed to its axes") {
        const std::string diff = R"({"quality":10,"backend":"diff"})";
        CHECK(std::abs(deviation_of(test::applied("jpeg", diff, wave(false))) - 45.0) < 0.05);
        CHECK(std::abs(deviation_of(test::applied("jpeg", diff, wave(true))) - 38.1) < 0.05);
        for (const bool turned : {false, true}) {  // the codec's entries end at 255 both ways
            const Planar out =
                test::applied("jpeg", R"({"quality":10,"backend":"turbo"})", wave(turned));
            CHECK(std::abs(deviation_of(out) - 31.7) < 0.3);
        }
        // Entries [v=0,h=1] and [0,7] as DiffJPEG divides by; Annex K has 11 and 61
        CHECK(diff_jpeg_luma[1] == 12);
        CHECK(diff_jpeg_luma[7] == 72);
        CHECK(diff_jpeg_luma[8] == 11);
        CHECK(diff_jpeg_luma[56] == 61);
    }

    TEST_CASE("T4: black padding spoils the last blocks, the repeated edge does not") {
        const auto run = [](const Planar& picture, const char* pad) {
            return test::applied("jpeg", fmt::format(R"({{"quality":40,"pad":"{}"}})", pad),
                                 picture);
        };
        // Whole tiles need none
        const Planar whole = test::noise_picture(3, 32, 48, 3, 0.3, 0.7);
        CHECK(test::same_bytes(run(whole, "zero"), run(whole, "replicate")));
        // A flat picture of 51: steps of the second kind return it within a rounding of its levels
        const Planar flat = test::flat_picture(3, 51, 51, 0.5F);
        const Planar black = run(flat, "zero"), edge = run(flat, "replicate");
        CHECK(test::largest_difference(edge, flat) < 0.02);
        CHECK(test::largest_difference(black, flat) > 0.05);
        for (int y = 0; y < 48; ++y) {
            for (int x = 0; x < 48; ++x) REQUIRE(black.row(1, y)[x] == edge.row(1, y)[x]);
        }
        // Of a photograph the strip loses several decibels
        const Planar photo = golden_picture("jpeg_51x51");
        CHECK(decibels(run(photo, "zero"), photo, 48) <
              decibels(run(photo, "replicate"), photo, 48) - 2);
        // Who pads how, both JPEGs alike
        for (const char* step : {"stage1.jpeg", "final.jpeg"}) {
            CHECK(step_of(plan_of("realesrgan", 1), step)->step->params()["pad"] == "zero");
            CHECK(step_of(plan_of("ultra-mild", 1), step)->step->params()["pad"] == "replicate");
        }
    }

    TEST_CASE("T5: quality 100 gives finite values and no jump") {
        const Planar picture = test::noise_picture(3, 20, 35, 5, -0.3, 1.3);
        const auto at = [&](double quality) {
            return test::applied("jpeg", Json{{"quality", quality}}.dump(), picture);
        };
        const Planar hundred = at(100);
        for (const double quality : {99.999, 99.99, 99.9, 99.5, 99.0, 60.0}) {
            CAPTURE(quality);
            const Planar out = at(quality);
            for (std::size_t i = 0; i < out.values(); ++i) {
                REQUIRE((out.data()[i] >= 0 && out.data()[i] <= 1));  // a NaN is neither
            }
            // Half of the coarsest step, 121 f, in each of 64 coefficients at the very most
            CHECK(test::largest_difference(out, hundred) <= 0.06 * (100 - quality) + 1e-3);
        }
        CHECK(test::same_bytes(hundred, at(most_jpeg_quality)));
        Json measured = Json::object();
        test::applied("jpeg", R"({"quality":100})", picture, {}, &measured);
        CHECK(measured["quality_used"] == most_jpeg_quality);
        // What is left of the quantisation is invisible: a picture of 2 x 2 pixels, whose chroma
        // survives the halving
        const Planar coarse =
            resize_to(test::noise_picture(3, 24, 24, 55), {48, 48}, ResizeMode::area);
        CHECK(test::largest_difference(test::applied("jpeg", R"({"quality":100})", coarse),
                                       coarse) < 2e-4);
        // The chroma is halved there as well: red next to blue cannot stay
        const Planar stripes = test::made_picture(
            3, 16, 16, [](int c, int, int x) { return c == (x % 2 == 0 ? 0 : 2) ? 1.0 : 0.0; });
        CHECK(test::largest_difference(test::applied("jpeg", R"({"quality":100})", stripes),
                                       stripes) > 0.2);
    }

    TEST_CASE("T6: a step's quality is the same after it ran") {
        const StepPtr step = degradation("jpeg").make(Json{{"quality", 37.25}}, {}, Tier::exact);
        const Planar picture = test::noise_picture(3, 16, 16, 6);
        StepContext context;
        const Planar once = step->apply(picture, context);
        CHECK(step->params()["quality"] == 37.25);
        CHECK(test::same_bytes(step->apply(picture, context), once));
    }

    TEST_CASE("T7: Poisson noise grows as levels get fewer") {
        for (const auto& [levels, vals] : {std::pair{1, 1},
                                           {2, 2},
                                           {3, 4},
                                           {4, 4},
                                           {5, 8},
                                           {128, 128},
                                           {129, 256},
                                           {256, 256}}) {
            CAPTURE(levels);
            CHECK(poisson_vals(levels) == vals);
        }
        // Flat mid-grey: one level, one photon; 181/255 unclamped (here a tenth of it), 125 clamped
        const Planar flat = test::flat_picture(3, 200, 200, 128.0F / 255.0F);
        Json measured = Json::object();
        const Planar clamped =
            test::applied("poisson_noise", R"({"scale":1})", flat, {}, &measured);
        CHECK(measured == Json{{"distinct_levels", 1}, {"vals", 1}});
        CHECK(std::abs(deviation_of(clamped) - 125) < 1);  // 40,000 pixels: 0.3
        const Planar weak = test::applied("poisson_noise", R"({"scale":0.1})", flat);
        CHECK(std::abs(10 * deviation_of(weak) - 181) < 3);
        // With all levels there: 11.3/255
        const Planar full = test::applied("poisson_noise", R"({"scale":1,"vals":256})", flat);
        CHECK(std::abs(deviation_of(full) - 11.3) < 0.2);
        // All channels count, and rounding comes first
        const Planar two = test::made_picture(
            3, 4, 4, [](int c, int, int) { return (c == 2 ? 80.0 : 79.6) / 255; });
        CHECK(distinct_levels(two, false) == 1);
        const Planar three =
            test::made_picture(3, 4, 4, [](int c, int, int) { return (80.0 + c) / 255; });
        CHECK(distinct_levels(three, false) == 3);
        CHECK(distinct_levels(three, true) == 1);
    }

    TEST_CASE("T7: levels may share their vals, or fix them") {
        std::optional<int> shared;
        StepContext context{{}, &shared, nullptr};
        const auto step = degradation("poisson_noise")
                              .make(Json{{"scale", 1.0}, {"vals", "shared"}}, {}, Tier::exact);
        const Planar rich = test::noise_picture(3, 64, 64, 7);
        const Planar flat = test::flat_picture(3, 100, 100, 128.0F / 255.0F);
        step->apply(rich, context);
        CHECK(shared == 256);
        CHECK(std::abs(deviation_of(step->apply(flat, context)) - 11.3) < 0.3);
        CHECK(preset("realesrgan").poisson_vals == PoissonVals::content);
        CHECK(preset("ultra-severe").poisson_vals == PoissonVals::shared);
    }

    TEST_CASE("T8: each picture has a grey field of its own, which its channels share") {
        const Planar flat = test::flat_picture(3, 64, 64, 0.5F);
        const auto of = [&](std::uint64_t id) {
            return test::applied("gaussian_noise", R"({"sigma":10,"gray":true})", flat, {}, nullptr,
                                 Tier::exact, {.seed = 1, .id = id});
        };
        const Planar a = of(1), b = of(2);
        CHECK(test::same_bytes(a, of(1)));
        const std::size_t n = a.plane_values();
        CHECK(std::equal(a.plane(0), a.plane(0) + n, a.plane(1)));
        CHECK(std::equal(a.plane(0), a.plane(0) + n, a.plane(2)));
        const double r =
            test::correlation({a.plane(0), a.plane(0) + n}, {b.plane(0), b.plane(0) + n});
        CHECK(std::abs(r) < 4 / std::sqrt(static_cast<double>(n)));
    }

    TEST_CASE("T9: a yml's blur_kernel_size is named as unused, and changes nothing") {
        const test::TemporaryFolder folder;
        const auto import = [&](const std::string& text) {
            write_file(folder.path() / "a.yml", text);
            return preset_from_yaml(folder.path() / "a.yml");
        };
        const ImportedPreset with =
            import("blur_kernel_size: 41\nblur_kernel_size2: 11\nnoise_range: [2, 20]\n");
        REQUIRE(with.notices.size() == 2);
        CHECK(test::has(with.notices[0], "'blur_kernel_size' is not used"));
        CHECK(test::has(with.notices[1], "'blur_kernel_size2' is not used"));
        const ImportedPreset without = import("noise_range: [2, 20]\n");
        CHECK(without.notices.empty());
        CHECK(with.preset.json() == without.preset.json());
    }

    TEST_CASE("T10: beta is exactly 1 in half of the plateau kernels") {
        int plateau = 0, one = 0;
        for (std::uint64_t id = 0; id < 6000; ++id) {
            const Plan plan = plan_of("osediff", id, {64, 64});
            const Json type = drawn(plan, "stage1.kernel.type");
            if (type.is_null() || type.get<int>() < 4) continue;
            ++plateau;
            one += drawn(plan, "stage1.kernel.beta") == 1.0;
        }
        CHECK(plateau > 700);  // 0.15 * 0.9 of them
        const double share = static_cast<double>(one) / plateau;
        CHECK(std::abs(share - 0.5) < 4 * 0.5 / std::sqrt(plateau));
    }

    TEST_CASE("T11: every draw differs from picture to picture") {
        std::map<std::string, std::set<std::string>> seen;
        for (std::uint64_t id = 0; id < 60; ++id) {
            const Plan plan = plan_of("osediff", id, {64, 64});
            for (const char* name :
                 {"stage2.is_blurred", "stage1.direction", "stage1.factor", "stage1.mode",
                  "stage2.direction", "stage2.factor", "stage2.mode", "stage1.is_gaussian",
                  "stage2.is_gaussian", "final.order", "final.mode", "back.mode", "stage1.quality",
                  "stage1.gray", "stage2.gray", "final.quality"}) {
                const Json value = drawn(plan, name);
                if (!value.is_null()) seen[name].insert(value.dump());
            }
        }
        for (const auto& [name, values] : {std::pair{"stage2.is_blurred", 2u},
                                           {"stage1.direction", 3u},
                                           {"stage2.direction", 3u},
                                           {"stage1.mode", 3u},
                                           {"stage2.mode", 3u},
                                           {"final.mode", 3u},
                                           {"back.mode", 3u},
                                           {"stage1.is_gaussian", 2u},
                                           {"stage2.is_gaussian", 2u},
                                           {"stage1.gray", 2u},
                                           {"stage2.gray", 2u},
                                           {"final.order", 2u}}) {
            CAPTURE(name);
            CHECK(seen[name].size() == values);
        }
        for (const char* name : {"stage1.quality", "final.quality"}) CHECK(seen[name].size() == 60);
        for (const char* name : {"stage1.factor", "stage2.factor"}) CHECK(seen[name].size() > 30);
    }

    TEST_CASE("T12: OSEDiff rounds after the resize back, Real-ESRGAN at LR size, StableSR never") {
        const auto run = [](const char* name) {
            const PixelSize size{64, 64};
            const Planar gt = test::noise_picture(3, 64, 64, 12);
            return run_plan(plan_of(name, 4, size), gt).levels[0];
        };
        const DegradedLevel osediff = run("osediff");
        CHECK_FALSE(is_8_bit(osediff.lr));
        CHECK(osediff.lr_up.size() == PixelSize{64, 64});
        CHECK(is_8_bit(osediff.lr_up));
        const DegradedLevel realesrgan = run("realesrgan");
        CHECK(is_8_bit(realesrgan.lr));
        CHECK(realesrgan.lr_up.empty());
        const DegradedLevel stablesr = run("stablesr");
        CHECK_FALSE(is_8_bit(stablesr.lr));
        CHECK_FALSE(is_8_bit(stablesr.lr_up));
    }

    TEST_CASE("T13: SeeSR's bicubic comes from the unrounded LR, and its saved GT is sharpened") {
        CHECK(preset("seesr").usm);
        for (const Preset& p : presets()) {
            CAPTURE(p.name);
            CHECK((p.gt_saved == GtSaved::usm) == (p.name == "seesr"));
        }
        const Planar gt = test::noise_picture(3, 64, 64, 13);
        const Degraded out = run_plan(plan_of("seesr", 4, {64, 64}), gt);
        CHECK_FALSE(out.gt_usm.empty());
        CHECK_FALSE(is_8_bit(out.levels[0].lr));
        const Planar up = resize_to(out.levels[0].lr, {64, 64}, ResizeMode::bicubic);
        CHECK(test::same_bytes(out.levels[0].lr_up, test::applied("clamp", "{}", up)));
    }

    TEST_CASE("T14: sides that the reference refuses are defined down to one pixel") {
        const std::string kernel =
            R"({"kernel":{"type":"aniso","size":21,"sigma_x":3,"sigma_y":0.8,"rotation":0.6}})";
        for (const auto& [height, width] :
             {std::pair{1, 1}, {1, 9}, {3, 2}, {10, 10}, {11, 11}, {25, 31}}) {
            CAPTURE(height);
            const Planar flat = test::flat_picture(3, height, width, 0.25F);
            CHECK(test::largest_difference(test::applied("blur", kernel, flat), flat) < 1e-6);
            CHECK(test::largest_difference(test::applied("usm", "{}", flat), flat) < 1e-6);
            const Planar noise = test::noise_picture(3, height, width, 14);
            const Planar out = test::applied("usm", "{}", noise);
            for (std::size_t i = 0; i < out.values(); ++i) {
                REQUIRE((out.data()[i] >= 0 && out.data()[i] <= 1));
            }
        }
    }

    TEST_CASE("T15: bicubic reaches -0.445 ... 1.445, and nothing clamps before the noise") {
        // One output pixel half between taps of -, +, +, - on both axes
        const auto lit = [](int y, int x) {
            const auto inner = [](int i) { return i == 1 || i == 2; };
            return inner(y) == inner(x);
        };
        const auto middle = [&](bool of) {
            const Planar in =
                test::made_picture(3, 4, 4, [&](int, int y, int x) { return lit(y, x) == of; });
            return test::applied("resize_size", R"({"mode":"bicubic","size":[1,1]})", in).data()[0];
        };
        CHECK(std::abs(middle(true) - 1.4453125F) < 1e-6F);
        CHECK(std::abs(middle(false) + 0.4453125F) < 1e-6F);
        // Blur keeps what overshot
        const Planar over = test::flat_picture(3, 9, 9, 1.4F);
        CHECK(test::applied("blur", R"({"kernel":{"type":"iso","size":7,"sigma_x":1}})", over)
                  .data()[0] > 1.39F);
        CHECK(test::applied("gaussian_noise", R"({"sigma":0})", over).data()[0] == 1.0F);
    }

    TEST_CASE("T15: sinc kernels have negative lobes and need their division by the sum") {
        double least_sum = 9, most_sum = 0, least = 0;
        for (int size = 7; size <= 21; size += 2) {
            const double low = std::numbers::pi / (size < 13 ? 3 : 5);
            for (int i = 0; i <= 200; ++i) {
                const double omega = low + (std::numbers::pi - low) * i / 200;
                double raw = omega * omega / (4 * std::numbers::pi);
                for (int y = -size / 2; y <= size / 2; ++y) {
                    for (int x = -size / 2; x <= size / 2; ++x) {
                        const double r = std::hypot(x, y);
                        if (r == 0) continue;
                        raw += omega * exact::bessel_j1(omega * r) / (2 * std::numbers::pi * r);
                    }
                }
                least_sum = std::min(least_sum, raw);
                most_sum = std::max(most_sum, raw);
                const BlurKernel kernel =
                    make_kernel(KernelSpec{.type = KernelType::sinc, .size = size, .omega = omega});
                double sum = 0;
                for (const float tap : kernel.taps) {
                    sum += tap;
                    least = std::min(least, static_cast<double>(tap));
                    REQUIRE(std::abs(tap) <= 1);
                }
                REQUIRE(std::abs(sum - 1) < 1e-6);
            }
        }
        CHECK(std::abs(least_sum - 0.737) < 2e-3);
        CHECK(std::abs(most_sum - 1.371) < 2e-3);
        CHECK(std::abs(least + 0.085) < 2e-3);
    }

    TEST_CASE("T16: FeMaSR cuts to 8 bits; whole levels stay") {
        const Planar levels = test::made_picture(3, 1, 256, [](int c, int, int x) {
            return (x + (c == 0 ? 0 : c == 1 ? 0.99 : 0.5)) / 255;
        });
        const Planar cut = test::applied("clamp_truncate", "{}", levels);
        for (int x = 0; x < 256; ++x) {
            for (int c = 0; c < 3; ++c) {
                REQUIRE(cut.row(c, 0)[x] == static_cast<float>(x) / 255.0F);
            }
        }
        CHECK(preset("femasr").quantise == Quantise::truncate);
        for (const Preset& p : presets()) {
            CHECK((p.quantise == Quantise::truncate) == (p.name == "femasr"));
        }
    }

    TEST_CASE("T17: at x14 plain resizing is near to point sampling, with antialias it is not") {
        const auto looked_at = [](ResizeMode mode, bool antialias) {
            const AxisTaps taps = axis_taps(sampling_to(512, 36), mode, antialias);
            std::set<int> seen;
            for (std::size_t i = 0; i < taps.index.size(); ++i) {
                if (std::abs(taps.weight[i]) > 1e-6F) seen.insert(taps.index[i]);
            }
            return seen.size();
        };
        CHECK(looked_at(ResizeMode::bilinear, false) <= 2 * 36);
        CHECK(looked_at(ResizeMode::bicubic, false) <= 4 * 36);
        CHECK(looked_at(ResizeMode::bilinear, true) == 512);
        CHECK(looked_at(ResizeMode::bicubic, true) > 500);  // the kernel's zeros may hit a pixel
        // Noise shows it: the mean of 14 pixels is quieter than one
        const Planar noise = test::noise_picture(3, 8, 512, 17);
        const auto loudness = [&](const char* mode, bool antialias) {
            const std::string params =
                Json{{"mode", mode}, {"size", {8, 36}}, {"antialias", antialias}}.dump();
            return deviation_of(test::applied("resize_size", params, noise)) / 255;
        };
        const double one = std::sqrt(1 / 12.0);
        for (const char* mode : {"bilinear", "bicubic"}) {
            CAPTURE(mode);
            CHECK(loudness(mode, false) > 0.7 * one);
            CHECK(loudness(mode, true) < 0.35 * one);
        }
        CHECK(preset("realesrgan").antialias == Antialias::off);
        CHECK(preset("ultra-severe").antialias == Antialias::drawn);
        CHECK(preset("ultra-severe").antialias_prob == 0.5);
    }
}

}  // namespace
}  // namespace ultrasr
