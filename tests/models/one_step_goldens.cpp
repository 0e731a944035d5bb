#include "tests/models/one_step_goldens.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/file.h"
#include "tests/metrics/generated_weights.h"
#include "tests/test.h"

namespace ultrasr::test {

Json one_step_golden(const std::string& file) {
    const auto path = golden("one_step/" + file);
    return parse_json(read_file(path), path.string());
}

at::Tensor golden_input(const Json& golden_case, const std::string& name) {
    const auto shape = golden_case.at("inputs").at(name).get<std::vector<std::int64_t>>();
    return generated_tensor(
        fmt::format("input.{}.{}", golden_case.at("name").get<std::string>(), name), shape);
}

Taps Listener::taps() {
    return [this](const std::string& name, const at::Tensor& value) {
        heard[name] = value.to(at::kFloat).contiguous().clone();
    };
}

double distance_to_summary(const at::Tensor& value, const Json& summary) {
    constexpr double none = std::numeric_limits<double>::infinity();
    if (value.sizes() != summary.at("shape").get<std::vector<std::int64_t>>()) return none;
    const at::Tensor flat = value.contiguous().flatten().to(at::kDouble);
    if (!at::isfinite(flat).all().item<bool>()) return none;
    const double largest = summary.at("max_abs").get<double>();
    double worst = 0.0;
    const auto compare = [&](double ours, double theirs) {
        worst = std::max(worst, std::abs(ours - theirs));
    };
    compare(flat.mean().item<double>(), summary.at("mean").get<double>());
    compare(flat.std(false).item<double>(), summary.at("std").get<double>());
    compare(flat.abs().max().item<double>(), largest);
    const std::int64_t n = flat.numel();
    const Json& samples = summary.at("samples");
    for (std::int64_t k = 0; k < static_cast<std::int64_t>(samples.size()); ++k) {
        compare(flat[(k * n / 16 + k) % n].item<double>(),
                samples[static_cast<std::size_t>(k)].get<double>());
    }
    return worst / std::max(1.0, largest);
}

void check_taps(const Json& golden_case, const NamedTensors& heard, double tolerance) {
    for (const Json& tap : golden_case.at("taps")) {
        const std::string name = tap.at("name");
        CAPTURE(name);
        REQUIRE(heard.contains(name));
        at::Tensor value = heard.at(name);
        const auto shape = tap.at("shape").get<std::vector<std::int64_t>>();
        if (value.size(0) == 1) value = value.expand(shape);  // the same for the whole batch
        CHECK(distance_to_summary(value, tap) < tolerance);
    }
}

double distance_to_values(const at::Tensor& value, const Json& values) {
    const at::Tensor flat = value.contiguous().flatten().to(at::kDouble);
    REQUIRE(flat.numel() == static_cast<std::int64_t>(values.size()));
    double worst = 0.0, largest = 1.0;
    const double* ours = flat.const_data_ptr<double>();
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double theirs = values[i].get<double>();
        const double d = std::abs(ours[i] - theirs);
        worst = std::isnan(d) ? std::numeric_limits<double>::infinity() : std::max(worst, d);
        largest = std::max(largest, std::abs(theirs));
    }
    return worst / largest;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
    REQUIRE(a.sizes() == b.sizes());
    return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace ultrasr::test
