// Records made into the same pictures again, or into others on purpose.
#pragma once
#include <filesystem>
#include <string>
#include <vector>
#include <nlohmann/json.hpp>

#include "data/base/fwd.h"
#include "data/base/json.h"

namespace ultrasr {

struct ReplayOptions {
    std::filesystem::path records;  ///< records.jsonl, a file with one record, or an HDF5 shard
    std::filesystem::path in;       ///< where the sources lie
    std::filesystem::path out;
    std::vector<std::string> ids;        ///< only these; empty = all
    std::vector<std::string> overrides;  ///< NAME=VALUE
    std::filesystem::path dump_steps;    ///< empty: none
    int png_level = 1;
    int threads = 1;
};

/// The records of a file: JSON lines, one JSON object, or an HDF5 shard of ultrasr-degrade.
/// throws Error(input)
std::vector<Json> read_records(const std::filesystem::path& path);

/// Makes each record's pictures again from its source and compares their hashes.
///
/// returns  {replayed, equal, different, ids of the different}; with overrides nothing is compared
///          (equal and different are 0) and the new records are written
/// throws   Error(input) when a source is missing or another file now, or nothing matches `ids`
Json replay(const ReplayOptions& options, Progress& progress);

}  // namespace ultrasr
