#include "degradation/pipeline.h"

#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/error.h"

namespace ultrasr {
namespace {

struct Run {
    const StepWatch& watch;
    StepContext context;

    Planar steps(const std::vector<NamedStep>& steps, Planar picture, const std::string& prefix,
                 Json& measured) {
        for (const NamedStep& step : steps) {
            Json found = Json::object();
            context.measured = &found;
            picture = step.step->apply(std::move(picture), context);
            if (!found.empty()) measured[step.name] = std::move(found);
            if (watch) watch(prefix + step.name, picture);
        }
        return picture;
    }
};

void require_finite(const Planar& picture) {
    float sum = 0;  // a NaN or an infinity stays in it
    for (std::size_t i = 0; i < picture.values(); ++i) sum += picture.data()[i] * 0.0F;
    require(sum == 0, "the picture holds values that are not finite; nothing can be made of it");
}

}  // namespace

std::string level_name(const LevelPlan& level) {
    const std::uint32_t twin = level.level / 64;
    return fmt::format("x{}{}", level.scale,
                       twin == 0 ? "" : std::string(1, static_cast<char>('a' + twin)));
}

Degraded run_plan(const Plan& plan, const Planar& gt, const StepWatch& watch) {
    require(gt.channels() == 3 && gt.size() == plan.gt,
            "the plan is for a picture of {} x {}, not {} x {} with {} planes", plan.gt.width,
            plan.gt.height, gt.width(), gt.height(), gt.channels());
    require_finite(gt);
    Degraded out;
    std::optional<int> shared_vals;
    Run run{watch, {plan.stream, &shared_vals, nullptr}};

    // Sharpen and run what all levels share
    std::vector<NamedStep> shared = plan.shared;
    if (!shared.empty() && shared[0].name == "usm") {
        out.gt_usm = run.steps({shared[0]}, gt, "", out.measured);
        shared.erase(shared.begin());
    }
    const Planar& source = out.gt_usm.empty() ? gt : out.gt_usm;
    Planar trunk;
    if (!shared.empty()) {
        // Stage 1's vals are not those that the levels share
        run.context.shared_vals = nullptr;
        trunk = run.steps(shared, source, "", out.measured);
        run.context.shared_vals = &shared_vals;
    }

    // Each level
    for (std::size_t i = 0; i < plan.levels.size(); ++i) {
        const LevelPlan& level = plan.levels[i];
        const std::string prefix = level_name(level) + ".";
        const Planar& from = level.input >= 0 ? out.levels[static_cast<std::size_t>(level.input)].lr
                             : trunk.empty()  ? source
                                              : trunk;
        DegradedLevel result;
        result.lr = run.steps(level.steps, from, prefix, result.measured);
        if (!level.back.empty()) {
            result.lr_up = run.steps(level.back, result.lr, prefix, result.measured);
        }
        out.levels.push_back(std::move(result));
    }
    return out;
}

}  // namespace ultrasr
