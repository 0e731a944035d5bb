// The smaller jobs, on folders of pictures: score finished ones, FID statistics, restore some
// without HR.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/base/fwd.h"
#include "leaderboard/scores.h"
#include "metrics/metric.h"
#include "models/method.h"

namespace ultrasr {

/// Scores finished pictures, nothing is written.
struct ScoreOptions {
    std::filesystem::path sr;
    std::filesystem::path hr;  ///< empty: only metrics without a reference
    std::vector<std::string> metrics;
    MetricOptions metric;
    int threads = 1;
    std::uint64_t seed = 0;
};
struct ScoreOutcome {
    ScoreTable table;
    std::vector<MetricSummary> summaries;
};
ScoreOutcome score_folders(const ScoreOptions& options, Progress& progress);

/// FID's statistics of a folder and everything below it, for --fid-stats.
struct FidStatsOptions {
    std::filesystem::path pictures;
    std::filesystem::path out;
    MetricOptions metric;
    int threads = 1;
};
/// Returns how many pictures there were. throws Error(input) for fewer than two; Error(storage)
std::size_t write_fid_stats_of(const FidStatsOptions& options, Progress& progress);

/// Restores a file or a folder, no HR needed; the same names come out, as PNG.
struct RestoreOptions {
    std::string method;
    double scale = 4;
    std::filesystem::path in;
    std::filesystem::path out;
    std::filesystem::path dump;  ///< folder for <stem>.safetensors with what lies between; or empty
    MethodOptions options;
    int threads = 1;
    bool restart = false;
};
/// Returns how many pictures there are; those of an earlier run with the same input and settings
/// are kept.
std::size_t restore_pictures(const RestoreOptions& options, Progress& progress);

}  // namespace ultrasr
