// What a run has drawn and what its LR looks like: histograms as SVG and CSV, two runs side by
// side.
#pragma once
#include <filesystem>
#include <string>

#include "data/base/fwd.h"
#include "data/base/json.h"

namespace ultrasr {

struct StatisticsOptions {
    std::filesystem::path source;    ///< folder of results, records.jsonl or an HDF5 shard
    std::filesystem::path against;   ///< empty, another of these, or a folder of real LR pictures
    std::filesystem::path svg, csv;  ///< empty: not written
    int threads = 1;
};

/// Histograms of every draw, and of what is measured in LR: noise, blur, blockiness.
///
/// returns  {records, quantities: {name: {count, mean, std, quantiles: [5 %, 50 %, 95 %], bins:
///          [low, high, counts]}}}; with `against` also its values and the two-sample
///          Kolmogorov-Smirnov distance of each quantity that both have
/// throws   Error(input), Error(storage)
Json statistics(const StatisticsOptions& options, Progress& progress);

/// A table in words.
std::string statistics_text(const Json& result);

}  // namespace ultrasr
