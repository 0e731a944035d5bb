// What methods cost: parameters, multiply-adds, seconds by part, memory (the paper's Table 4).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/base/fwd.h"
#include "data/base/json.h"
#include "models/method.h"

namespace ultrasr {

struct ProfileOptions {
    std::vector<std::string> methods;  ///< as parse_method takes them
    int size = 512;                    ///< side of the restored picture
    double scale = 4.0;
    int runs = 3;  ///< timed, after one that is not
    MethodOptions options;
    bool published = false;  ///< the paper's rows too
};

struct MethodProfile {
    std::string label;
    Provenance provenance;
    std::optional<Cost> cost;  ///< empty where nobody can say
    double load_seconds = 0.0;
    double seconds = 0.0;  ///< of a picture, median; no file is read or written
    StageTimes split;      ///< the same by part; empty where the method has none
    // Resident memory of the process
    std::int64_t load_peak_bytes = 0;  ///< at its height while loading; mapped files count
    std::int64_t loaded_bytes = 0;     ///< when loaded: weights, and what any process takes
    std::int64_t peak_bytes = 0;       ///< at its height while restoring, the above included
};

/// Restores a picture by formula of round(size / scale) pixels a side, called "profile", by each
/// method in turn. The memory of a method before it is given back; measure methods one a call where
/// that matters.
///
/// throws  Error(usage) for unknown names, and for methods whose time says nothing (folder:,
///         command:); what making and restoring throw; Interrupted
std::vector<MethodProfile> profile_methods(const ProfileOptions& options, Progress& progress);

/// A table of the methods, then one of each method's parts.
std::string profile_text(const ProfileOptions& options, const std::vector<MethodProfile>& profiles);
Json profile_json(const ProfileOptions& options, const std::vector<MethodProfile>& profiles);

}  // namespace ultrasr
