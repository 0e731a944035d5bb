// What the scenes of one session say of each other (registration.md 4.7, 5).
#pragma once
#include <map>
#include <string>
#include <vector>

#include "registration/scene_job.h"

namespace ultrasr {

/// Judges each pair by the others of its focal length: a tele distortion more than 0.004 off the
/// median is noted as `k_odd` (and refitted with the median under `session_k`); a sharpness ratio
/// below a third of the median is `tele_blurred`. Groups of fewer than three pairs judge nobody.
/// A note alone goes into the manifest; the others need the scene done again.
///
/// records  pair.json of every scene; figures of a pair are those of its own first estimate
/// returns  by scene and scale, pairs without a remark left out
std::map<std::string, std::map<int, SessionVerdict>> judge_session(
    const std::vector<Json>& records, const RegisterSettings& settings);

}  // namespace ultrasr
