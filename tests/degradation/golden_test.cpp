// Every step against BasicSR's primitives, case by case. See tests/golden/make_degradation.py.
#include <map>
#include <optional>

#include "data/file.h"
#include "tests/degradation/steps.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

/// The kernel of a case in the middle of zeros, as large as the expected one.
Planar kernel_of(const Json& params, std::string_view step, int side, Tier tier) {
    Json spec = params;
    if (step == "sinc") spec["type"] = "sinc";
    const BlurKernel kernel = make_kernel(KernelSpec::from_json(spec), tier);
    Planar out = test::flat_picture(1, side, side, 0.0F);
    const int margin = (side - kernel.size) / 2;
    for (int y = 0; y < kernel.size; ++y) {
        std::copy_n(kernel.taps.data() + y * kernel.size, kernel.size,
                    out.row_(0, y + margin) + margin);
    }
    return out;
}

struct Case {
    const Json& json;
    std::string name, step;
    double tolerance;
    Planar expected;
    StepInputs given;  ///< the picture among them

    Case(const Json& j, const SafetensorsFile& file)
        : json(j),
          name(j["name"].get<std::string>()),
          step(j["step"].get<std::string>()),
          tolerance(j["tolerance"].get<double>()),
          expected(test::planar_of(file, j["expected"].get<std::string>())) {
        for (const auto& [role, tensor] : j["tensors"].items()) {
            given[role] = test::planar_of(file, tensor.get<std::string>());
        }
    }

    Planar result(Tier tier) const {
        const Json& params = json["params"];
        if (step == "kernel" || step == "sinc") {
            return kernel_of(params, step, expected.width(), tier);
        }
        StepInputs others = given;
        const Planar picture = others.extract("image").mapped();
        return test::applied(step, params.dump(), picture, others, nullptr, tier);
    }
};

/// The largest difference outside the blocks that hold a tie.
double difference(const Case& c, const Planar& ours) {
    if (!test::same_shape(ours, c.expected)) return INFINITY;
    Planar expected = c.expected;
    if (c.json.contains("exclude_blocks")) {
        for (const Json& block : c.json["exclude_blocks"]) {
            const int y0 = 16 * block[0].get<int>(), x0 = 16 * block[1].get<int>();
            for (int plane = 0; plane < ours.channels(); ++plane) {
                for (int y = y0; y < std::min(y0 + 16, ours.height()); ++y) {
                    const int last = std::min(x0 + 16, ours.width());
                    std::copy(ours.row(plane, y) + x0, ours.row(plane, y) + last,
                              expected.row_(plane, y) + x0);
                }
            }
        }
    }
    return test::largest_difference(ours, expected);
}

double decibels(double squares, double n) { return -10 * std::log10(squares / n); }

/// The number that the script computed from the reference's result, from ours: by the trap that it
/// belongs to.
std::optional<double> probed(const Case& c, const Planar& out) {
    const auto belongs = [&](const char* trap) { return c.name.starts_with(trap); };
    const auto n = static_cast<double>(out.plane_values());
    if (belongs("trap_T1_bilinear")) {  // the column nearest to 480, and where it came from
        int at = 0;
        const auto shown = [&](int x) { return (x + 0.5) * 512 / out.width(); };
        for (int x = 0; x < out.width(); ++x) {
            if (std::abs(shown(x) - 480) < std::abs(shown(at) - 480)) at = x;
        }
        return 512.0 * out.row(0, 0)[at] - shown(at);
    }
    if (belongs("trap_T2")) {
        double sum = 0;
        for (std::size_t i = 0; i < out.values(); ++i) sum += out.data()[i];
        return 8 * sum / static_cast<double>(out.values());
    }
    if (belongs("trap_T3")) {
        const std::vector<double> values(out.plane(0), out.plane(0) + out.plane_values());
        return 255 * std::sqrt(test::moments(values).variance);
    }
    if (belongs("trap_T4")) {  // PSNR of the last three rows and columns
        const Planar& picture = c.given.at("image");
        double squares = 0, count = 0;
        for (int plane = 0; plane < 3; ++plane) {
            for (int y = 0; y < 51; ++y) {
                for (int x = y < 48 ? 48 : 0; x < 51; ++x, ++count) {
                    const double d = out.row(plane, y)[x] - picture.row(plane, y)[x];
                    squares += d * d;
                }
            }
        }
        return decibels(squares, count);
    }
    if (belongs("trap_T15")) return *std::min_element(out.data(), out.data() + out.values());
    if (belongs("trap_T17")) {
        const Planar area = resize_to(c.given.at("image"), out.size(), ResizeMode::area);
        double squares = 0;
        for (std::size_t i = 0; i < out.values(); ++i) {
            squares += std::pow(static_cast<double>(out.data()[i]) - area.data()[i], 2);
        }
        return decibels(squares, 3 * n);
    }
    return std::nullopt;
}

struct Golden {
    Json json = parse_json(read_file(test::golden("degradation_steps.json")), "the golden steps");
    SafetensorsFile tensors{test::golden("degradation_steps.safetensors")};
};

TEST_SUITE("golden") {
    TEST_CASE("all steps, tier exact: BasicSR's results within each case's tolerance") {
        const Golden golden;
        std::map<std::string, int> cases;
        std::map<std::string, double> largest;
        int probes = 0;
        for (const Json& json : golden.json["cases"]) {
            const Case c(json, golden.tensors);
            const Planar ours = c.result(Tier::exact);
            const double d = difference(c, ours);
            CHECK_MESSAGE(d <= c.tolerance,
                          c.name << ": off by " << d << ", allowed " << c.tolerance);
            ++cases[c.step];
            largest[c.step] = std::max(largest[c.step], d);
            if (!json.contains("probe")) continue;
            const std::optional<double> probe = probed(c, ours);
            REQUIRE_MESSAGE(probe.has_value(), c.name << " has a probe that nobody computes");
            const double wanted = json["probe"]["value"].get<double>();
            CHECK_MESSAGE(std::abs(*probe - wanted) <= json["probe"]["tolerance"].get<double>(),
                          c.name << ": the probe is " << *probe << ", of the reference " << wanted);
            ++probes;
        }
        // None may get lost, here or by the script
        const std::map<std::string, int> all{{"kernel", 25},        {"sinc", 8},
                                             {"blur", 14},          {"usm", 3},
                                             {"resize_size", 39},   {"resize_scale_factor", 35},
                                             {"gaussian_noise", 4}, {"poisson_noise", 20},
                                             {"jpeg", 27},          {"clamp", 1},
                                             {"clamp_round", 1}};
        CHECK(cases == all);
        CHECK(golden.json["cases"].size() == 177);
        CHECK(probes == 14);
        for (const auto& [step, d] : largest) MESSAGE(step << ": largest difference " << d);
    }

    TEST_CASE("all steps, tier fast: 4e-6 more is allowed (degradation.md 4.3)") {
        const Golden golden;
        int cases = 0;
        double largest_blur = 0;
        for (const Json& json : golden.json["cases"]) {
            const Case c(json, golden.tensors);
            const double d = difference(c, c.result(Tier::fast));
            CHECK_MESSAGE(d <= c.tolerance + 4e-6, c.name << ": off by " << d);
            if (c.step == "blur") largest_blur = std::max(largest_blur, d);
            ++cases;
        }
        CHECK(cases == 177);
        MESSAGE("blur, fast: largest difference " << largest_blur);
    }

    TEST_CASE("Poisson: every case without vals finds those of its twin in the picture") {
        const Golden golden;
        int found = 0;
        for (const Json& json : golden.json["cases"]) {
            const Case c(json, golden.tensors);
            if (c.step != "poisson_noise" || !c.name.ends_with("_derived")) continue;
            StepInputs others = c.given;
            const Planar picture = others.extract("image").mapped();
            Json measured = Json::object();
            test::applied(c.step, json["params"].dump(), picture, others, &measured);
            const auto at = c.name.find("_v") + 2;
            CHECK_MESSAGE(measured["vals"] == std::stoi(c.name.substr(at)), c.name);
            ++found;
        }
        CHECK(found == 10);
    }
}

}  // namespace
}  // namespace ultrasr
