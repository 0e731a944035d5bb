// What a whole run says: manifest.json, the last lines a user sees, the remarks on stderr.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "acquisition/capture_set.h"
#include "data/base/json.h"
#include "registration/settings.h"

namespace ultrasr {

/// pair.json of every scene that lies finished in `out`, by name. throws Error(input) when one is
/// torn.
std::vector<Json> stored_records(const std::filesystem::path& out);

/// The manifest of what lies finished in `out`: every scene's record in short, counts, medians.
///
/// skipped  files that belong to no scene
Json manifest_of(const std::filesystem::path& out, const RegisterSettings& settings,
                 const std::vector<SkippedFile>& skipped);

/// The last lines a user sees: counts, accepted share, medians, and what was refused why.
std::string summary_of(const Json& manifest);

/// On stderr: files that belong to no scene, before the work.
void tell_skipped(const std::vector<SkippedFile>& skipped);

/// On stderr: what was left out of the scenes and why (registration.md 12).
void tell_what_was_left_out(const Json& manifest);

/// Some pair could at least be tried. throws Error(input) with the first reason otherwise
void require_a_pair(const Json& manifest, const std::filesystem::path& raw);

}  // namespace ultrasr
