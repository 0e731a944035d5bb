// The main job: restore every picture of every set by every method, score, summarise.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/base/fwd.h"
#include "data/pair_dataset.h"
#include "leaderboard/render.h"
#include "leaderboard/scores.h"
#include "metrics/metric.h"
#include "models/method.h"

namespace ultrasr {

/// Every n-th picture by a stable hash of its name, for arrays of machines.
struct Shard {
    unsigned index = 1;  ///< 1 ... count
    unsigned count = 1;
    bool owns(std::string_view stem) const;
};

/// "2/8". throws Error(usage).
Shard parse_shard(std::string_view text);

struct BenchOptions {
    std::vector<std::string> data;     ///< sets as find_pair_sets takes them
    std::vector<std::string> methods;  ///< as parse_method takes them
    std::vector<std::string> metrics;  ///< names of metrics/registry.cpp
    std::filesystem::path out;
    std::filesystem::path dump;  ///< folder for what lies between LR and SR (dump_file()); or empty
    MethodOptions method;
    MetricOptions metric;
    std::string published;  ///< further table rows, as read_published takes them; may be empty
    TableOptions table;
    bool restart = false;  ///< throw earlier results of these runs away
    bool merge = false;    ///< join the shards' results, work on nothing
    Shard shard;
    int threads = 1;
    std::uint64_t seed = 0;
    std::string command;  ///< for the results; no absolute paths
};

/// Seconds of one run; they stand in timing.json, apart from what must not change between runs.
struct RunTiming {
    std::string set;
    double scale = 0;
    std::string label;
    double load_seconds = 0;
    double restore_median = 0;  ///< per picture; NaN for finished pictures
    double score_median = 0;
    StageTimes restore_split;  ///< medians of the method's parts; empty where it has none
};

struct BenchOutcome {
    Results results;
    std::vector<RunTiming> timing;
    std::vector<PageRun> page_runs;
    std::vector<PagePicture> pictures;
    std::size_t missing =
        0;  ///< pictures that other shards still have to do; results are empty then
};

/// Runs the benchmark below options.out: <set>/x<scale>/<label>/{images/<stem>.png, scores.csv,
/// journal*.jsonl}, results.json, timing.json, tables/, report.html.
///
/// Pictures and scores that an interrupted run finished are kept; they are done again when the
/// set's files or the method's settings have changed only on request (options.restart).
/// throws   Error(usage) for unknown names, Error(input) for contradictory or broken files and for
///          earlier results of other settings, Error(storage); Interrupted
BenchOutcome run_benchmark(const BenchOptions& options, Progress& progress);

/// results.json, timing.json, tables/ and report.html of an outcome.
void write_outcome(const BenchOptions& options, const BenchOutcome& outcome);

}  // namespace ultrasr
