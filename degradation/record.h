// The record of one output: enough to make the same bytes again, or other ones on purpose.
#pragma once
#include <set>
#include <string>
#include <string_view>
#include <nlohmann/json.hpp>

#include "degradation/pipeline.h"

namespace ultrasr {

constexpr std::string_view record_format = "ultrasr-degrade-record";
constexpr int record_version = 1;  ///< freezes the slots of draws.h too

/// The part of a record that a plan and its run make: seed, id, variant, gt, couple, tier, draws,
/// shared, levels. Every step as {name, step, params, measured}.
Json record_of(const Plan& plan, const Degraded& result);

/// The plan that made a record; nothing is drawn. Poisson vals are those that were measured.
/// throws Error(input) that names the record's id and what is wrong with it
Plan plan_from_record(const Json& record);

/// The pictures to store, 8-bit, by name: gt, gt_usm, lr_x8 ..., lr_up_x8 ... as far as `save` (of
/// gt, gt_usm, lr, lr_up) and the plan want them; cut by the record's paired_crop. Puts the SHA-256
/// of their bytes into record["sha256"].
std::vector<std::pair<std::string, cv::Mat>> pictures_of(Json& record, const Plan& plan,
                                                         const Degraded& result, const Planar& gt,
                                                         const std::set<std::string>& save);

/// Changes a parameter in a record: "final.jpeg.quality=40", "stage1.blur.kernel.sigma_x=2", for
/// one level "x8.final.jpeg.quality=40"; or by a short name: jpeg1_q, jpeg2_q, sigma1, sigma2,
/// scale1, scale2, resize1.
/// throws Error(usage) when the record has no such parameter: lists those it has
void override_parameter_(Json& record, std::string_view assignment);

/// The chain in words, a line a step.
std::string explained(const Json& record);

}  // namespace ultrasr
