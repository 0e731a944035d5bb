// Runs a plan on one picture: GT in, the LR of every level out.
#pragma once
#include <functional>
#include <string>
#include <vector>
#include <nlohmann/json.hpp>
#include <opencv2/core/mat.hpp>

#include "degradation/plan.h"

namespace ultrasr {

struct DegradedLevel {
    Planar lr;     ///< values in [0,1]; multiples of 1/255 unless the preset rounds later or never
    Planar lr_up;  ///< brought back to GT's size; empty unless the plan says so
    Json measured = Json::object();  ///< {step: what was found}, steps that found nothing left out
};

struct Degraded {
    Planar gt_usm;                   ///< the sharpened GT; empty without USM
    Json measured = Json::object();  ///< of the shared steps
    std::vector<DegradedLevel> levels;
};

/// Sees every intermediate: "stage1.blur", or "x8.stage2.noise" for the steps of one level, each
/// as soon as it is there.
using StepWatch = std::function<void(const std::string& name, const Planar& picture)>;

/// A pure function of (plan, gt).
///
/// gt      3 planes, RGB, [0,1], of the plan's size
/// throws  Error(input) for another size, or for values that are not finite
Degraded run_plan(const Plan& plan, const Planar& gt, const StepWatch& watch = {});

/// "x8", or "x8b", "x8c" for a second and third level of that scale.
std::string level_name(const LevelPlan& level);

}  // namespace ultrasr
