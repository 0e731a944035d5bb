// Everything that is decided before a pixel is touched: one picture, one or several levels.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>
#include <nlohmann/json.hpp>

#include "degradation/degradation.h"
#include "degradation/preset.h"

namespace ultrasr {

/// How the levels of one picture hang together (degradation.md 3.4).
enum class Couple {
    stage1,       ///< one set of draws; stage 1 and blur 2 are computed once
    comonotone,   ///< one u a slot, mapped through each level's own ranges, larger u = worse
    params,       ///< the same parameters, all noise fields independent
    independent,  ///< unrelated
    cascade,      ///< each level is made from the LR of the one before
};
/// throws Error(usage) that lists the known ones
Couple couple(std::string_view name);
std::string_view couple_name(Couple value);

struct LevelRequest {
    int scale = 4;  ///< 1 to 63
    Preset preset;
};

struct PlanRequest {
    Stream stream;
    PixelSize gt;                      ///< of the patch to degrade
    std::vector<LevelRequest> levels;  ///< from mild to severe, at least one
    Couple couple = Couple::stage1;
    Tier tier = Tier::exact;
};

/// A step with its place: "usm", "stage1.blur", "final.jpeg" ...
struct NamedStep {
    std::string name;
    std::string_view kind;  ///< of the list of degradations
    StepPtr step;
};

struct LevelPlan {
    int scale = 4;
    std::string preset;
    std::uint32_t level = 0;  ///< of its streams: the scale, and 64 more for each earlier twin
    PixelSize lr;
    int input = -1;  ///< -1: the end of the shared steps; else the LR of that level (cascade)
    std::vector<NamedStep> steps;
    std::vector<NamedStep> back;  ///< from LR to GT size; empty: not wanted
    Json draws = Json::object();
};

struct Plan {
    Stream stream;
    PixelSize gt;
    Couple couple = Couple::stage1;
    Tier tier = Tier::exact;
    std::vector<NamedStep> shared;  ///< for all levels that start from GT
    Json draws = Json::object();    ///< of the shared steps
    std::vector<LevelPlan> levels;
};

/// floor, round or ceil of size / scale, at least 1 (exact_crop and fixed_lr have cropped before).
PixelSize lr_size(PixelSize gt, int scale, LrSizeRule rule);

/// Draws and decides. A pure function of the request.
/// throws Error(usage) for no levels, a scale out of range or more than four alike
Plan make_plan(const PlanRequest& request);

/// Makes a step by its name in the list.
NamedStep named_step(std::string name, std::string_view kind, const Json& params, Tier tier);

}  // namespace ultrasr
