// BSRGAN's family and the face set: the orders, what is drawn, and the steps that only they have.
#include <array>
#include <map>
#include <numbers>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "degradation/steps/shuffled_steps.h"
#include "tests/degradation/plans.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

constexpr std::uint64_t plans = 4000;
constexpr double rare = 1e-3;  // the odds below which a test of this file fails

Plan plan_of(const std::string& name, std::uint64_t id, int scale, PixelSize gt = {64, 48}) {
    return make_plan(
        {.stream = {.seed = 5, .id = id}, .gt = gt, .levels = {{scale, test::preset(name)}}});
}

/// "op7.blur" to 7; -1 for the rest.
int operation_of(const NamedStep& step) {
    return step.name.starts_with("op") ? std::stoi(step.name.substr(2)) : -1;
}

/// The operations below `limit` in their order, each once.
std::vector<int> order_of(const Plan& plan, int limit) {
    std::vector<int> order;
    for (const NamedStep& step : plan.levels[0].steps) {
        const int op = operation_of(step);
        if (op >= 0 && op < limit && (order.empty() || order.back() != op)) order.push_back(op);
    }
    return order;
}

/// What plans of one set decided, by name: values to hold against a range, answers to hold against
/// odds.
struct Sample {
    std::map<std::string, std::vector<double>> values;
    std::map<std::string, std::vector<double>> counts;
    std::map<std::string, std::array<double, 2>> answers;  ///< no, yes

    void count(const std::string& name, std::size_t i, std::size_t cells) {
        counts[name].resize(cells);
        ++counts[name].at(i);
    }
    void answer(const std::string& name, bool yes) { ++answers[name][yes]; }

    void check_uniform(const std::string& name, double low, double high, std::size_t least) const {
        CAPTURE(name);
        REQUIRE(values.contains(name));
        CHECK(values.at(name).size() >= least);
        CHECK(test::uniform_excess(values.at(name), low, high) < 1);
    }
    void check_even(const std::string& name, std::size_t cells) const {
        CAPTURE(name);
        REQUIRE(counts.contains(name));
        CHECK(counts.at(name).size() == cells);
        CHECK(test::even_odds(counts.at(name)) > rare);
    }
    void check_odds(const std::string& name, double probability) const {
        CAPTURE(name);
        REQUIRE(answers.contains(name));
        const auto& [no, yes] = answers.at(name);
        CHECK(test::count_deviations(yes, no + yes, probability) < 3.3);  // both tails: 1e-3
    }
};

void note_blur(Sample& sample, const std::string& name, const BlurStep& step) {
    const KernelSpec& spec = step.spec;
    const bool aniso = spec.type == KernelType::aniso;
    REQUIRE((aniso || spec.type == KernelType::iso));
    sample.answer(name + ".aniso", aniso);
    REQUIRE(spec.size % 2 == 1);
    sample.count(name + ".size", static_cast<std::size_t>((spec.size - 7) / 2), 10);
    if (aniso) {
        sample.values[name + ".variance"].push_back(spec.sigma_x * spec.sigma_x);
        sample.values[name + ".variance"].push_back(spec.sigma_y * spec.sigma_y);
        sample.values[name + ".rotation"].push_back(spec.rotation);
    } else {
        sample.values[name + ".sigma"].push_back(spec.sigma_x);
    }
}

/// Diagonal: colour; first column: grey; else correlated.
void note_noise(Sample& sample, const std::string& name, const MixedNoiseStep& step) {
    const auto& m = step.mixing;
    const bool correlated = m[1][0] != m[0][0] && m[0][1] != 0;
    sample.answer(name + ".gray", step.gray);
    sample.answer(name + ".correlated", correlated);
    if (correlated) return;
    const double level = m[0][0] * 255;
    REQUIRE(std::abs(level - std::round(level)) < 1e-9);
    sample.count(name + ".level", static_cast<std::size_t>(std::lround(level)) - 2, 24);
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) {
            REQUIRE(m[i][j] == ((step.gray ? j == 0 : i == j) ? m[0][0] : 0));
        }
    }
}

std::size_t note_mode(Sample& sample, const std::string& name, ResizeMode mode) {
    constexpr std::array modes{ResizeMode::bilinear, ResizeMode::bicubic, ResizeMode::area_cv};
    const auto i =
        static_cast<std::size_t>(std::find(modes.begin(), modes.end(), mode) - modes.begin());
    sample.count(name + ".mode", i, 3);
    return i;
}

void note_jpeg(Sample& sample, const std::string& name, const JpegStep& step) {
    REQUIRE(step.quality == std::round(step.quality));
    REQUIRE(step.backend == JpegBackend::turbo);
    sample.count(name + ".quality", static_cast<std::size_t>(step.quality) - 30, 66);
}

/// One plan of BSRGAN or FeMaSR; names carry the scale that its operations know.
void note_bsrgan(Sample& sample, const Plan& plan, int scale) {
    const auto& steps = plan.levels[0].steps;
    int sf = scale;
    PixelSize size = plan.gt;
    const NamedStep* halved = test::step_of(steps, "op23.resize");
    sample.answer("halved", halved != nullptr);
    if (halved) {
        REQUIRE(halved == &steps[0]);
        const auto& step = test::as<ResizeStep>(*halved);
        const bool matlab = step.mode == ResizeMode::bicubic_matlab;
        sample.answer("halved.matlab", matlab);
        REQUIRE(step.antialias == matlab);
        if (!matlab) note_mode(sample, "halved", step.mode);
        size = {plan.gt.width / 2, plan.gt.height / 2};
        REQUIRE(step.size == size);
        sf = 2;
    }
    const std::string by = fmt::format("x{}", sf);
    for (const int op : {0, 1}) {
        const std::string name = fmt::format("op{}.blur", op);
        note_blur(sample, by + ".blur" + std::to_string(op),
                  test::step_as<BlurStep>(plan, 0, name));
    }
    const NamedStep* resized = test::step_of(steps, "op2.resize");
    const NamedStep* shifted = test::step_of(steps, "op2.downsample");
    REQUIRE((resized != nullptr) != (shifted != nullptr));
    sample.answer("resized", resized != nullptr);
    if (resized) {
        const double divisor = test::drawn(plan, 0, "op2.divisor");
        sample.values[by + ".divisor"].push_back(divisor);
        const auto& step = test::as<ResizeStep>(*resized);
        note_mode(sample, "resized", step.mode);
        const auto side = [&](int n) { return std::max(1, static_cast<int>(1 / divisor * n)); };
        REQUIRE(step.size == PixelSize{side(size.width), side(size.height)});
    } else {
        const auto& step = test::as<ShiftedDownsampleStep>(*shifted);
        REQUIRE(step.scale == sf);
        sample.values[by + ".shifted"].push_back(step.sigma);
    }
    const auto& last = test::step_as<ResizeStep>(plan, 0, "op3.resize");
    note_mode(sample, "last", last.mode);
    REQUIRE(last.size == plan.levels[0].lr);
    note_noise(sample, "noise", test::step_as<MixedNoiseStep>(plan, 0, "op4.noise"));
    const NamedStep* jpeg = test::step_of(steps, "op5.jpeg");
    sample.answer("jpeg", jpeg != nullptr);
    if (jpeg) note_jpeg(sample, "jpeg", test::as<JpegStep>(*jpeg));
    REQUIRE(steps[steps.size() - 2].name == "op22.jpeg");
    note_jpeg(sample, "last", test::as<JpegStep>(steps[steps.size() - 2]));
}

void note_plus(Sample& sample, const Plan& plan) {
    const auto& steps = plan.levels[0].steps;
    REQUIRE(steps[0].kind == "usm");
    REQUIRE(test::step_of(steps, "op23.resize") == nullptr);
    PixelSize size = plan.gt;
    for (const NamedStep& step : steps) {  // in their order: each resize starts from the one before
        const int op = operation_of(step);
        if (step.kind != "resize_size" || op > 8) continue;
        const std::string name = fmt::format("op{}", op);
        const auto direction =
            test::drawn(plan, 0, name + ".direction").template get<std::size_t>();
        const Json factor = test::drawn(plan, 0, name + ".factor");
        for (std::size_t i = 0; i < 3; ++i) {
            sample.answer("direction" + std::to_string(i), direction == i);
        }
        if (direction < 2) {
            sample.values[direction == 0 ? "up" : "down"].push_back(factor.get<double>());
        } else {
            REQUIRE(factor.is_null());
        }
        const double by = direction < 2 ? factor.get<double>() : 1;
        const auto& resize = test::as<ResizeStep>(step);
        note_mode(sample, "resize", resize.mode);
        // int(1 / (1 / by) n) there and here; by itself rounds differently once in a while
        const auto side = [&](int n) { return std::max(1, static_cast<int>(by * n)); };
        REQUIRE(std::abs(resize.size.width - side(size.width)) <= 1);
        REQUIRE(std::abs(resize.size.height - side(size.height)) <= 1);
        size = resize.size;
    }
    for (const int op : {0, 7}) {
        note_blur(sample, "blur", test::step_as<BlurStep>(plan, 0, fmt::format("op{}.blur", op)));
    }
    for (const int op : {2, 9}) {
        const auto& noise = test::step_as<MixedNoiseStep>(plan, 0, fmt::format("op{}.noise", op));
        REQUIRE_FALSE(noise.multiplied);
        note_noise(sample, "noise", noise);
    }
    for (const int op : {3, 10}) {
        const NamedStep* step = test::step_of(steps, fmt::format("op{}.poisson", op));
        sample.answer("poisson" + std::to_string(op), step != nullptr);
        if (!step) continue;
        const auto& poisson = test::as<PhotonNoiseStep>(*step);
        sample.values["log_vals"].push_back(std::log10(poisson.vals));
        sample.answer("poisson.gray", poisson.gray);
    }
    for (const int op : {4, 11}) {
        const NamedStep* step = test::step_of(steps, fmt::format("op{}.speckle", op));
        sample.answer("speckle" + std::to_string(op), step != nullptr);
        if (!step) continue;
        REQUIRE(test::as<MixedNoiseStep>(*step).multiplied);
        note_noise(sample, "speckle", test::as<MixedNoiseStep>(*step));
    }
    note_jpeg(sample, "jpeg", test::step_as<JpegStep>(plan, 0, "op6.jpeg"));
    note_jpeg(sample, "last", test::step_as<JpegStep>(plan, 0, "op22.jpeg"));
    REQUIRE(steps[steps.size() - 2].name == "op22.jpeg");
    const auto& last = test::step_as<ResizeStep>(plan, 0, "op21.resize");
    note_mode(sample, "last", last.mode);
    REQUIRE(last.size == plan.levels[0].lr);
}

double at(const Planar& picture, std::size_t i, int channel) { return picture.plane(channel)[i]; }

/// The mean product of two channels' deviations from `centre`.
double covariance(const Planar& picture, int a, int b, double centre) {
    double sum = 0;
    for (std::size_t i = 0; i < picture.plane_values(); ++i) {
        sum += (at(picture, i, a) - centre) * (at(picture, i, b) - centre);
    }
    return sum / static_cast<double>(picture.plane_values());
}

/// The odds of a Poisson count, Stirling-free.
double poisson_odds(int n, double mean) {
    return std::exp(n * std::log(mean) - mean - std::lgamma(n + 1.0));
}

/// The picture of the script behind the numbers below.
Planar script_picture(int height, int width) {
    return test::made_picture(3, height, width, [](int c, int y, int x) {
        return ((37 * x + 91 * y + 53 * c + (x * y) % 17 * 11) % 256) / 255.0;
    });
}

TEST_SUITE("property") {
    TEST_CASE("bsrgan: all orders alike, but the last resize after the downsampling") {
        for (const char* name : {"bsrgan", "femasr"}) {
            CAPTURE(name);
            std::map<std::vector<int>, double> seen;
            std::size_t without_jpeg = 0;
            for (std::uint64_t id = 0; id < plans; ++id) {
                const Plan plan = plan_of(name, id, 8, {16, 16});
                const std::vector<int> order = order_of(plan, 7);
                const auto two = std::find(order.begin(), order.end(), 2);
                const auto three = std::find(order.begin(), order.end(), 3);
                REQUIRE(three != order.end());
                REQUIRE(two < three);
                if (order.size() == 6) {
                    ++seen[order];
                } else {
                    REQUIRE(order.size() == 5);  // op 5 one time in ten not; op 6 never
                    ++without_jpeg;
                }
            }
            CHECK(without_jpeg > 300);
            // 6! / 2 orders with about ten plans each
            CHECK(seen.size() > 350);
            std::vector<double> counts(360, 0);
            std::size_t i = 0;
            for (const auto& [order, count] : seen) counts.at(i++) = count;
            CHECK(test::even_odds(counts) > rare);
        }
    }

    TEST_CASE("bsrgan-plus: half of the plans shuffle all, the others only their noise") {
        // Operations that are always there; 5 and 12 are never
        const std::vector<int> always{0, 1, 2, 6, 7, 8, 9};
        std::vector<std::vector<double>> places(always.size(), std::vector<double>(7, 0));
        std::map<int, std::array<double, 2>> before;  // of a rare operation: was it before 2 or 9
        std::vector<double> first_two(49, 0);
        double shuffled = 0;
        for (std::uint64_t id = 0; id < plans; ++id) {
            const Plan plan = plan_of("bsrgan-plus", id, 4, {16, 16});
            const std::vector<int> order = order_of(plan, 13);
            std::vector<int> kept;
            for (const int op : order) {
                if (std::count(always.begin(), always.end(), op)) kept.push_back(op);
            }
            REQUIRE(kept.size() == always.size());
            const bool all = test::drawn(plan, 0, "op20.shuffled");
            shuffled += all;
            const auto index = [&](int op) {
                return static_cast<std::size_t>(std::find(always.begin(), always.end(), op) -
                                                always.begin());
            };
            if (all) {
                for (std::size_t i = 0; i < kept.size(); ++i) ++places[index(kept[i])][i];
                ++first_two[index(kept[0]) * 7 + index(kept[1])];
                continue;
            }
            REQUIRE(kept == always);
            const auto place = [&](int op) {
                return std::find(order.begin(), order.end(), op) - order.begin();
            };
            for (const auto& [op, normal, from, to] :
                 {std::array{3, 2, 1, 6}, {4, 2, 1, 6}, {10, 9, 8, 99}, {11, 9, 8, 99}}) {
                if (!std::count(order.begin(), order.end(), op)) continue;
                ++before[op][place(op) < place(normal)];
                REQUIRE(place(op) > place(from));
                if (to < 99) REQUIRE(place(op) < place(to));
            }
        }
        CHECK(test::count_deviations(shuffled, plans, 0.5) < 3.3);
        for (const auto& counts : places) CHECK(test::even_odds(counts) > rare);
        std::vector<double> pairs;
        for (std::size_t i = 0; i < 49; ++i) {
            if (i % 8 != 0) pairs.push_back(first_two[i]);  // not the same one twice
        }
        CHECK(test::even_odds(pairs) > rare);
        CHECK(before.size() == 4);
        for (const auto& [op, counts] : before) {
            CAPTURE(op);
            CHECK(test::count_deviations(counts[1], counts[0] + counts[1], 0.5) < 3.3);
        }
    }

    TEST_CASE("bsrgan, femasr: every draw's odds and range") {
        for (const auto& [name, scale] : {std::pair{"bsrgan", 4}, {"femasr", 4}, {"bsrgan", 8}}) {
            CAPTURE(name);
            CAPTURE(scale);
            Sample sample;
            for (std::uint64_t id = 0; id < plans; ++id) {
                const Plan plan = plan_of(name, id, scale);
                note_bsrgan(sample, plan, scale);
                const std::string_view last = plan.levels[0].steps.back().kind;
                REQUIRE(last == (name == std::string("femasr") ? "clamp_truncate" : "clamp_round"));
            }
            // The pre-step is x4's alone, and what follows degrades for x2
            std::vector<int> known{scale};
            if (scale == 4) {
                known.push_back(2);
                sample.check_odds("halved", 0.25);
                sample.check_odds("halved.matlab", 0.5);
                sample.check_even("halved.mode", 3);
            } else {
                CHECK(sample.answers["halved"][1] == 0);
                CHECK_FALSE(sample.values.contains("x2.divisor"));
            }
            for (const int sf : known) {
                const std::string by = fmt::format("x{}", sf);
                for (const char* blur : {".blur0", ".blur1"}) {
                    sample.check_odds(by + blur + ".aniso", 0.5);
                    sample.check_even(by + blur + ".size", 10);
                    sample.check_uniform(by + blur + ".variance", 0, 4 + sf, 800);
                    sample.check_uniform(by + blur + ".rotation", 0, std::numbers::pi, 400);
                    sample.check_uniform(by + blur + ".sigma", 0, 2 + 0.2 * sf, 400);
                }
                sample.check_uniform(by + ".divisor", 1, 2 * sf, 600);
                sample.check_uniform(by + ".shifted", 0.1, 0.6 * sf, 200);
            }
            sample.check_odds("resized", 0.75);
            sample.check_even("resized.mode", 3);
            sample.check_even("last.mode", 3);
            sample.check_odds("noise.gray", 0.4);
            sample.check_odds("noise.correlated", 0.2);
            sample.check_even("noise.level", 24);
            sample.check_odds("jpeg", 0.9);
            sample.check_even("jpeg.quality", 66);
            sample.check_even("last.quality", 66);
        }
    }

    TEST_CASE("bsrgan-plus: every draw's odds and range") {
        Sample sample;
        for (std::uint64_t id = 0; id < plans; ++id) {
            note_plus(sample, plan_of("bsrgan-plus", id, 4));
        }
        sample.check_odds("blur.aniso", 0.5);
        sample.check_even("blur.size", 10);
        sample.check_uniform("blur.variance", 0, 8, 6000);
        sample.check_uniform("blur.rotation", 0, std::numbers::pi, 3000);
        sample.check_uniform("blur.sigma", 0, 2.8, 3000);
        sample.check_odds("direction0", 0.2);
        sample.check_odds("direction1", 0.7);
        sample.check_odds("direction2", 0.1);
        sample.check_uniform("up", 1, 2, 1000);
        sample.check_uniform("down", 0.125, 1, 5000);
        sample.check_even("resize.mode", 3);
        sample.check_even("last.mode", 3);
        for (const char* noise : {"noise", "speckle"}) {
            sample.check_odds(noise + std::string(".gray"), 0.4);
            sample.check_odds(noise + std::string(".correlated"), 0.2);
            sample.check_even(noise + std::string(".level"), 24);
        }
        for (const char* op : {"poisson3", "poisson10", "speckle4", "speckle11"}) {
            sample.check_odds(op, 0.1);
        }
        sample.check_uniform("log_vals", 2, 4, 600);
        sample.check_odds("poisson.gray", 0.5);
        sample.check_even("jpeg.quality", 66);
        sample.check_even("last.quality", 66);
    }

    TEST_CASE("face-codeformer: every draw's odds and range") {
        Sample sample;
        const PixelSize gt{80, 64};
        for (std::uint64_t id = 0; id < plans; ++id) {
            const Plan plan = plan_of("face-codeformer", id, 4, gt);
            const auto& spec = test::step_as<BlurStep>(plan, 0, "stage1.blur").spec;
            REQUIRE(spec.size == 41);
            const bool aniso = spec.type == KernelType::aniso;
            REQUIRE((aniso || spec.type == KernelType::iso));
            sample.answer("aniso", aniso);
            sample.values["sigma_x"].push_back(spec.sigma_x);
            if (aniso) {
                sample.values["sigma_y"].push_back(spec.sigma_y);
                sample.values["rotation"].push_back(spec.rotation);
            } else {
                REQUIRE(spec.sigma_y == spec.sigma_x);
            }
            const double divisor = test::drawn(plan, 0, "divisor");
            sample.values["divisor"].push_back(divisor);
            const auto& small = test::step_as<ResizeStep>(plan, 0, "stage1.resize");
            REQUIRE(small.mode == ResizeMode::bilinear);
            REQUIRE(small.size ==
                    PixelSize{static_cast<int>(80 / divisor), static_cast<int>(64 / divisor)});
            const auto& noise = test::step_as<GaussianNoiseStep>(plan, 0, "stage1.noise");
            REQUIRE_FALSE(noise.gray);
            sample.values["noise"].push_back(noise.sigma);
            const auto& jpeg = test::step_as<JpegStep>(plan, 0, "stage1.jpeg");
            REQUIRE(jpeg.backend == JpegBackend::turbo);
            sample.values["quality"].push_back(jpeg.quality);
            sample.answer("gray", test::step_of(plan, 0, "final.gray") != nullptr);
            REQUIRE(test::step_as<ResizeStep>(plan, 0, "final.resize").size == PixelSize{20, 16});
            const auto& back = test::step_as<ResizeStep>(plan, 0, "back.resize");
            REQUIRE(back.size == gt);
            REQUIRE(back.mode == ResizeMode::bilinear);
        }
        sample.check_odds("aniso", 0.5);
        sample.check_uniform("sigma_x", 0.1, 15, plans);
        sample.check_uniform("sigma_y", 0.1, 15, 1800);
        sample.check_uniform("rotation", -std::numbers::pi, std::numbers::pi, 1800);
        sample.check_uniform("divisor", 0.8, 32, plans);
        sample.check_uniform("noise", 0, 20, plans);
        sample.check_uniform("quality", 30, 100, plans);
        sample.check_odds("gray", 0.01);
    }

    TEST_CASE("correlated_mixing: mixing mixing^T has no negative entry and keeps d's sum") {
        // Magnitudes of three by three positive matrices are positive again, so that the trace of
        // |U^T D U| is that of D
        for (std::uint64_t i = 0; i < 500; ++i) {
            Rng rng(3, i);
            std::array<double, 3> d{};
            std::array<double, 9> a{};
            for (double& v : d) v = rng.uniform();
            for (double& v : a) v = rng.uniform();
            const auto m = correlated_mixing(d, a, 1);
            double trace = 0;
            for (const auto& row : m) {
                for (const double v : row) {
                    REQUIRE(std::isfinite(v));
                    trace += v * v;
                }
            }
            REQUIRE(std::abs(trace - (d[0] + d[1] + d[2])) < 1e-9);
            for (std::size_t r = 0; r < 3; ++r) {
                for (std::size_t c = 0; c < 3; ++c) {
                    double sum = 0;
                    for (std::size_t k = 0; k < 3; ++k) sum += m[r][k] * m[c][k];
                    REQUIRE(sum >= -1e-12);
                }
            }
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("mixed_noise: channels vary together as mixing mixing^T says") {
        const auto params = [](const Json& mixing, bool gray, bool multiplied) {
            return Json{{"mixing", mixing}, {"gray", gray}, {"multiplied", multiplied}}.dump();
        };
        const std::array<std::array<double, 3>, 3> m{
            {{0.05, -0.01, 0.02}, {0.03, 0.04, 0}, {-0.02, 0.01, 0.06}}};
        constexpr int side = 400;
        for (const bool multiplied : {false, true}) {
            CAPTURE(multiplied);
            // Mid-grey lies nine deviations from both ends; speckle is scaled by the picture
            const double value = multiplied ? 0.375 : 0.5, scale = multiplied ? value : 1;
            const Planar noisy =
                test::applied("mixed_noise", params(m, false, multiplied),
                              test::flat_picture(3, side, side, static_cast<float>(value)));
            for (std::size_t a = 0; a < 3; ++a) {
                for (std::size_t b = a; b < 3; ++b) {
                    double expected = 0, va = 0, vb = 0;
                    for (std::size_t k = 0; k < 3; ++k) {
                        expected += m[a][k] * m[b][k];
                        va += m[a][k] * m[a][k];
                        vb += m[b][k] * m[b][k];
                    }
                    // The sample covariance's own deviation over 160,000 pixels
                    const double deviation = std::sqrt((va * vb + expected * expected)) / side;
                    CHECK(std::abs(
                              covariance(noisy, static_cast<int>(a), static_cast<int>(b), value) -
                              expected * scale * scale) < 4 * deviation * scale * scale);
                }
            }
        }
        // Grey: the first column alone, one field
        const Planar grey = test::applied("mixed_noise", params(m, true, false),
                                          test::flat_picture(3, 64, 64, 0.5F));
        for (std::size_t i = 0; i < grey.plane_values(); ++i) {
            REQUIRE(std::abs((at(grey, i, 1) - 0.5) * 0.05 - (at(grey, i, 0) - 0.5) * 0.03) < 1e-8);
            REQUIRE(std::abs((at(grey, i, 2) - 0.5) * 0.05 + (at(grey, i, 0) - 0.5) * 0.02) < 1e-8);
        }
    }

    TEST_CASE("mixed_noise: clamped after, speckle before too; black stays black under speckle") {
        const std::string strong =
            R"({"mixing": [[5,0,0],[0,5,0],[0,0,5]], "multiplied": MULTIPLIED})";
        const auto with = [&](const char* word) {
            std::string text = strong;
            return text.replace(text.find("MULTIPLIED"), 10, word);
        };
        const Planar wild = test::noise_picture(3, 20, 20, 4, -0.5, 1.5);
        for (const char* word : {"true", "false"}) {
            const Planar out = test::applied("mixed_noise", with(word), wild);
            CHECK(*std::min_element(out.data(), out.data() + out.values()) == 0);
            CHECK(*std::max_element(out.data(), out.data() + out.values()) == 1);
        }
        // Clamped before: values below 0 are black, and black times noise is black
        const Planar below = test::flat_picture(3, 20, 20, -0.25F);
        const Planar speckled = test::applied("mixed_noise", with("true"), below);
        CHECK(*std::max_element(speckled.data(), speckled.data() + speckled.values()) == 0);
    }
}

TEST_SUITE("golden") {
    // numpy 2.4.6, scipy 1.17.1: U = scipy.linalg.orth(a), c = |U.T @ diag(d) @ U|; w, v =
    // numpy.linalg.eigh(c), m = v @ diag(|w|) @ v.T. strength 1; 1e-12 is double arithmetic
    TEST_CASE("correlated_mixing: numpy's covariances") {
        struct Case {
            std::array<double, 3> d;
            std::array<double, 9> a, covariance;
        };
        const std::vector<Case> cases{
            {{0.9, 0.1, 0.4},
             {0.3, 0.8, 0.2, 0.6, 0.1, 0.9, 0.5, 0.4, 0.7},
             {0.3560516505872618, 0.28410296563217047, 0.037142762530585065, 0.28410296563217047,
              0.675156374716878, 0.22044887322731113, 0.037142762530585086, 0.22044887322731116,
              0.36879197469586117}},
            {{0.05, 0.95, 0.6},
             {0.9, 0.2, 0.1, 0.1, 0.8, 0.3, 0.7, 0.05, 0.6},
             {0.4148950499638152, 0.22443806131240568, 0.25021367633921554, 0.22443806131240568,
              0.8556857914850752, 0.11442964510966441, 0.2502136763392155, 0.11442964510966441,
              0.32941915855110854}},
            {{0.2, 0.3, 0.99},
             {0.11, 0.52, 0.93, 0.84, 0.35, 0.06, 0.47, 0.78, 0.29},
             {0.5337396057111625, 0.11459794639590712, 0.35105960928727964, 0.11459794639590712,
              0.26876192542387767, 0.06157856308767449, 0.3510596092872797, 0.06157856308767447,
              0.687498468864959}},
        };
        for (const Case& c : cases) {
            for (const double strength : {1.0, 25 / 255.0}) {
                const auto m = correlated_mixing(c.d, c.a, strength);
                for (std::size_t i = 0; i < 3; ++i) {
                    for (std::size_t j = 0; j < 3; ++j) {
                        double sum = 0;
                        for (std::size_t k = 0; k < 3; ++k) sum += m[i][k] * m[j][k];
                        CAPTURE(i);
                        CAPTURE(j);
                        CHECK(std::abs(sum / (strength * strength) - c.covariance[3 * i + j]) <
                              1e-12);
                    }
                }
            }
        }
    }

    TEST_CASE("photon_noise: counts of a Poisson law from few photons to 10,000") {
        struct Case {
            double vals;
            int level;  ///< of 255
        };
        // No case reaches white: that would clamp
        for (const auto& [vals, level] : {Case{30, 51},
                                          {100, 20},
                                          {100, 128},
                                          {333.5, 128},
                                          {1000, 77},
                                          {10000, 200},
                                          {19920, 128}}) {
            CAPTURE(vals);
            CAPTURE(level);
            const double Q = level / 255.0, mean = vals * Q;
            // One word a pixel in all cases: a stream's luck shows in all of them at once
            const Planar out = test::applied("photon_noise", Json{{"vals", vals}}.dump(),
                                             test::flat_picture(3, 120, 120, static_cast<float>(Q)),
                                             {}, nullptr, Tier::exact, {.seed = 4, .id = 9});
            // Whole numbers of photons, each count as often as it should
            const int low = std::max(0, static_cast<int>(mean - 8 * std::sqrt(mean)));
            const int high = static_cast<int>(mean + 8 * std::sqrt(mean) + 8);
            std::vector<double> counts(static_cast<std::size_t>(high - low + 1), 0), expected;
            for (int n = low; n <= high; ++n) {
                expected.push_back(static_cast<double>(out.values()) * poisson_odds(n, mean));
            }
            std::vector<double> values;
            for (std::size_t i = 0; i < out.values(); ++i) {
                const double n = out.data()[i] * vals;
                values.push_back(n);
                REQUIRE(std::abs(n - std::round(n)) < 1e-6 * vals + 1e-4);
                ++counts.at(static_cast<std::size_t>(std::lround(n) - low));
            }
            CHECK(test::counts_odds(counts, expected) > rare);
            const test::Moments m = test::moments(values);
            const auto n = static_cast<double>(values.size());
            CHECK(std::abs(m.mean - mean) < 4 * std::sqrt(mean / n));
            CHECK(std::abs(m.variance / mean - 1) < 4 * std::sqrt((2 + 1 / mean) / n));
        }
        // The table of levels follows the picture: a ramp's rows each have their own mean
        const Planar ramp =
            test::made_picture(3, 256, 300, [](int, int y, int) { return y / 255.0; });
        const Planar out = test::applied("photon_noise", R"({"vals":400})", ramp);
        for (int y = 0; y < 200; ++y) {
            double sum = 0;
            for (int x = 0; x < 300; ++x) sum += out.row(0, y)[x];
            const double mean = y / 255.0, deviation = std::sqrt(mean / 400 / 300);
            REQUIRE(std::abs(sum / 300 - mean) <= 4.5 * deviation);
        }
    }

    TEST_CASE("photon_noise: grey noise follows the luma of the rounded picture") {
        const Planar picture = test::made_picture(3, 100, 100, [](int c, int, int) {
            return (c == 0 ? 200.3 : c == 1 ? 100.4 : 60.0) / 255;
        });
        const double vals = 2000;
        const Planar out = test::applied("photon_noise", R"({"vals":2000,"gray":true})", picture);
        const double luma = std::round(0.299 * 200 + 0.587 * 100 + 0.114 * 60) / 255;
        std::vector<double> counts;
        for (std::size_t i = 0; i < out.plane_values(); ++i) {
            const double noise = at(out, i, 0) - 200.0 / 255;
            REQUIRE(std::abs(at(out, i, 1) - 100.0 / 255 - noise) < 1e-6);
            REQUIRE(std::abs(at(out, i, 2) - 60.0 / 255 - noise) < 1e-6);
            const double n = (noise + luma) * vals;
            REQUIRE(std::abs(n - std::round(n)) < 1e-2);
            counts.push_back(n);
        }
        const test::Moments m = test::moments(counts);
        CHECK(std::abs(m.mean - luma * vals) < 4 * std::sqrt(luma * vals / 10000));
        CHECK(std::abs(m.variance / (luma * vals) - 1) < 4 * std::sqrt(2 / 10000.0));
    }

    // scipy 1.17.1: the kernel exp(-r^2 / 2 sigma^2) of 25 x 25 normalised, read at positions
    // clip(i + (s - 1) / 2, 0, 24) by linear interpolation, normalised; scipy.ndimage.convolve(
    // picture, kernel, mode='mirror')[::s, ::s] of channel 1: the first twelve values, the mean and
    // the last. 5e-7: a sum of 625 products in float32
    TEST_CASE("shifted_downsample: scipy's convolution") {
        struct Case {
            double sigma;
            int scale, height, width, rows, columns;
            std::array<double, 12> values;
            double mean, last;
        };
        const std::vector<Case> cases{
            {1.1,
             2,
             9,
             14,
             5,
             7,
             {0.539410463, 0.533662498, 0.512638187, 0.475282889, 0.412636746, 0.566051788,
              0.570959547, 0.546565193, 0.505253817, 0.472559467, 0.447090512, 0.399971285},
             0.463853246768,
             0.390053501610},
            {2.3,
             4,
             17,
             22,
             5,
             6,
             {0.524469253, 0.469170231, 0.457833376, 0.46735799, 0.452672484, 0.443747081,
              0.493549731, 0.444660049, 0.428066484, 0.46444513, 0.458902929, 0.435234503},
             0.507341975549,
             0.615146053843},
            {0.15,
             4,
             30,
             31,
             8,
             8,
             {0.555882353, 0.391176471, 0.361764706, 0.197058824, 0.302941177, 0.640196078,
              0.543137255, 0.446078431, 0.485294118, 0.345098039, 0.455882353, 0.315686275},
             0.484283088234,
             0.687254901863},
            {8.0,
             14,
             40,
             43,
             3,
             4,
             {0.465748392, 0.486813835, 0.505957531, 0.512353072, 0.507422716, 0.501229066,
              0.486630434, 0.488963409, 0.504138368, 0.488539014, 0.490425115, 0.500658496},
             0.494906620645,
             0.500658495789},
            {0.4,
             3,
             26,
             10,
             9,
             4,
             {0.714030163, 0.352637005, 0.800610064, 0.139369691, 0.872835854, 0.839112865,
              0.163124913, 0.413439553, 0.215721994, 0.683324935, 0.373475591, 0.124398062},
             0.467896197041,
             0.730226225759}};
        for (const Case& c : cases) {
            CAPTURE(c.scale);
            const Planar out = test::applied("shifted_downsample",
                                             Json{{"sigma", c.sigma}, {"scale", c.scale}}.dump(),
                                             script_picture(c.height, c.width));
            REQUIRE(out.size() == PixelSize{c.columns, c.rows});
            double sum = 0;
            for (std::size_t i = 0; i < out.plane_values(); ++i) sum += at(out, i, 1);
            CHECK(std::abs(sum / static_cast<double>(out.plane_values()) - c.mean) < 5e-7);
            for (std::size_t i = 0; i < 12; ++i)
                CHECK(std::abs(at(out, i, 1) - c.values[i]) < 5e-7);
            CHECK(std::abs(at(out, out.plane_values() - 1, 1) - c.last) < 5e-7);
        }
    }

    TEST_CASE("area_cv, bilinear, bicubic: cv::resize of the OpenCV that is linked") {
        const std::vector<std::pair<PixelSize, PixelSize>> sizes{
            {{50, 40}, {25, 20}}, {{50, 40}, {17, 13}}, {{51, 37}, {36, 36}},
            {{20, 30}, {33, 47}}, {{20, 30}, {40, 60}}, {{7, 5}, {3, 5}},
            {{64, 64}, {9, 50}},  {{33, 21}, {1, 1}},   {{12, 9}, {60, 9}}};
        for (const auto& [from, to] : sizes) {
            CAPTURE(from.width);
            CAPTURE(to.width);
            const Planar picture = script_picture(from.height, from.width);
            // Float32 there and here with other orders of sums and coordinates: correction 3
            for (const auto& [mode, flag, tolerance] :
                 {std::tuple{ResizeMode::area_cv, cv::INTER_AREA, 2e-6},
                  {ResizeMode::bilinear, cv::INTER_LINEAR, 1e-5},
                  {ResizeMode::bicubic, cv::INTER_CUBIC, 2e-5}}) {
                CAPTURE(flag);
                const Planar out = resize_to(picture, to, mode);
                for (int c = 0; c < 3; ++c) {
                    const cv::Mat plane(from.height, from.width, CV_32F,
                                        const_cast<float*>(picture.plane(c)));
                    cv::Mat wanted;
                    cv::resize(plane, wanted, {to.width, to.height}, 0, 0, flag);
                    double largest = 0;
                    for (int y = 0; y < to.height; ++y) {
                        for (int x = 0; x < to.width; ++x) {
                            largest = std::max(
                                largest, std::abs(1.0 * out.row(c, y)[x] - wanted.at<float>(y, x)));
                        }
                    }
                    CHECK(largest < tolerance);
                }
            }
        }
    }

    // numpy 2.4.6, written from MATLAB's published definition of imresize (contributions: kernel
    // s k(s x) of width 4 / s when s < 1, left = floor(u - width / 2), ceil(width) + 2 taps,
    // normalised, edges mirrored with repetition), in double; channel 2: the first twelve values,
    // the mean and the last. 3e-6: the step is a float32
    TEST_CASE("bicubic_matlab: MATLAB's imresize") {
        struct Case {
            PixelSize from, to;
            std::array<double, 12> values;
            double mean, last;
        };
        const std::vector<Case> cases{
            {{10, 12},
             {5, 6},
             {0.581422514, 0.621639955, 0.564962649, 0.406333774, 0.534671439, 0.450438974,
              0.405476768, 0.449042646, 0.604544486, 0.551258461, 0.502079683, 0.504679901},
             0.539281045752,
             0.457882930},
            {{9, 7},
             {4, 3},
             {0.559678873, 0.609932719, 0.497663503, 0.462014676, 0.455708364, 0.428075557,
              0.456935869, 0.673768642, 0.570602804, 0.436632041, 0.545554052, 0.493766452},
             0.515861129266,
             0.493766452},
            {{5, 6},
             {10, 12},
             {0.369006587, 0.405370136, 0.478097235, 0.577665441, 0.704074755, 0.80033701,
              0.866452206, 0.938079236, 1.015218099, 1.053787531, 0.489009842, 0.536135445},
             0.517647058824,
             1.047732843},
            {{8, 8},
             {11, 3},
             {0.467853064, 0.619652325, 0.62264836, 0.444396684, 0.603672891, 0.658004452,
              0.57560315, 0.398306019, 0.518228039, 0.504803472, 0.379183433, 0.481727464},
             0.516372460557,
             0.614170070}};
        for (const Case& c : cases) {
            CAPTURE(c.from.width);
            const Planar out = resize_to(script_picture(c.from.height, c.from.width), c.to,
                                         ResizeMode::bicubic_matlab);
            double sum = 0;
            for (std::size_t i = 0; i < out.plane_values(); ++i) sum += at(out, i, 2);
            CHECK(std::abs(sum / static_cast<double>(out.plane_values()) - c.mean) < 3e-6);
            for (std::size_t i = 0; i < 12; ++i)
                CHECK(std::abs(at(out, i, 2) - c.values[i]) < 3e-6);
            CHECK(std::abs(at(out, out.plane_values() - 1, 2) - c.last) < 3e-6);
        }
    }
}

}  // namespace
}  // namespace ultrasr
