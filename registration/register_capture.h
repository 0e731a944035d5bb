// A whole capture: scenes in parallel, resumed where an earlier run stopped.
#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "data/base/fwd.h"
#include "data/base/json.h"
#include "registration/scene_job.h"
#include "registration/settings.h"

namespace ultrasr {

struct RegisterRun {
    std::filesystem::path raw;
    std::filesystem::path out;
    RegisterSettings settings;
    std::optional<std::filesystem::path> truth;
    std::string options;  ///< text of settings.json, written once `out` is ours; empty: none
    int threads = 1;
    int scenes_at_once = 0;  ///< 0: as many as cores and memory allow
    int shard = 1, shards = 1;
    bool merge = false;    ///< join what shards have done, register nothing
    bool restart = false;  ///< throw earlier results away
    bool timing = true;
};

/// Registers every scene of `raw` (registration.md 9 to 13) and writes out/manifest.json.
///
/// returns  the manifest
/// throws   Error(input) when `raw` is missing or holds no pair that can be tried, Error(storage)
///          when `out` is locked or not writable, Interrupted
Json register_capture(const RegisterRun& run, Progress& progress);

}  // namespace ultrasr
