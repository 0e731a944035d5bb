// What the tests of plans share: presets and steps by name, drawn values, uniform samples.
#pragma once
#include <algorithm>
#include <string>
#include <vector>
#include <fmt/format.h>

#include "degradation/plan.h"
#include "degradation/steps/steps.h"
#include "tests/degradation/steps.h"

namespace ultrasr::test {

inline const Preset& preset(const std::string& name) {
    const auto found = std::find_if(presets().begin(), presets().end(),
                                    [&](const Preset& p) { return p.name == name; });
    require(found != presets().end(), "no preset {}", name);
    return *found;
}

/// The step of that name, or null.
inline const NamedStep* step_of(const std::vector<NamedStep>& steps, const std::string& name) {
    const auto found = std::find_if(steps.begin(), steps.end(),
                                    [&](const NamedStep& s) { return s.name == name; });
    return found == steps.end() ? nullptr : &*found;
}

/// Of the shared steps, the level's own or those back to GT's size.
inline const NamedStep* step_of(const Plan& plan, std::size_t level, const std::string& name) {
    for (const auto* steps : {&plan.shared, &plan.levels[level].steps, &plan.levels[level].back}) {
        if (const NamedStep* step = step_of(*steps, name)) return step;
    }
    return nullptr;
}

template <class Kind>
const Kind& as(const NamedStep& step) {
    const auto* found = dynamic_cast<const Kind*>(step.step.get());
    require(found != nullptr, "step {} is of another kind", step.name);
    return *found;
}

/// The step of that name and kind; throws when the plan has none.
template <class Kind>
const Kind& step_as(const Plan& plan, std::size_t level, const std::string& name) {
    const NamedStep* step = step_of(plan, level, name);
    require(step != nullptr, "the plan has no step {}", name);
    return as<Kind>(*step);
}

/// A value drawn for a level or for all of them; null when it was not.
inline Json drawn(const Plan& plan, std::size_t level, const std::string& name) {
    for (const Json* draws : {&plan.draws, &plan.levels[level].draws}) {
        if (draws->contains(name)) return (*draws)[name][1];
    }
    return nullptr;
}

/// Names, kinds and parameters of steps, for comparisons.
inline Json json_of(const std::vector<NamedStep>& steps) {
    Json list = Json::array();
    for (const NamedStep& step : steps) {
        list.push_back({{"name", step.name}, {"step", step.kind}, {"params", step.step->params()}});
    }
    return list;
}

/// Everything that is done for one level, shared steps first.
inline Json whole_level(const Plan& plan, std::size_t i) {
    const LevelPlan& level = plan.levels[i];
    Json steps = json_of(plan.shared);
    for (const auto* more : {&level.steps, &level.back}) {
        for (const Json& step : json_of(*more)) steps.push_back(step);
    }
    return {{"lr", {level.lr.height, level.lr.width}}, {"input", level.input}, {"steps", steps}};
}

/// Kolmogorov's distance of a sample from U(low, high), over its limit at odds of 1e-3: a sample of
/// that law stays below 1.
inline double uniform_excess(std::vector<double> values, double low, double high) {
    if (values.empty()) return INFINITY;
    std::sort(values.begin(), values.end());
    const auto n = static_cast<double>(values.size());
    double distance = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double expected = (values[i] - low) / (high - low);
        if (expected < 0 || expected > 1) return INFINITY;
        distance = std::max({distance, expected - static_cast<double>(i) / n,
                             static_cast<double>(i + 1) / n - expected});
    }
    return distance / (1.95 / std::sqrt(n));
}

/// How far a count lies from its expectation, in standard deviations of a binomial one.
inline double count_deviations(double count, double n, double probability) {
    return std::abs(count - n * probability) / std::sqrt(n * probability * (1 - probability));
}

/// The odds of so uneven counts when all cells are alike.
inline double even_odds(const std::vector<double>& counts) {
    double sum = 0;
    for (const double c : counts) sum += c;
    return counts_odds(
        counts, std::vector<double>(counts.size(), sum / static_cast<double>(counts.size())));
}

}  // namespace ultrasr::test
