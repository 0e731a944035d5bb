// What a benchmark run leaves behind: scores of pictures, their summary, and where they came from.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/base/json.h"
#include "models/method.h"

namespace ultrasr {

/// One metric over the pictures of a run.
struct MetricSummary {
    std::string metric;
    double mean = 0;    ///< over the defined scores alone; NaN when there is none
    double std = 0;     ///< sample standard deviation (n - 1); 0 for one score
    double ci_low = 0;  ///< 95 % bootstrap interval of the mean
    double ci_high = 0;
    std::size_t count = 0;  ///< pictures scored, undefined ones included
    std::size_t nan = 0;    ///< pictures on which the metric is undefined
    std::map<std::string, std::string> settings;
};

/// One method on one set at one scale.
struct Run {
    std::string set;
    double scale = 0;
    std::string set_sha256;
    std::size_t pictures = 0;
    std::string label;   ///< names the row
    std::string method;  ///< the registry's name; empty for published rows
    Provenance provenance;
    std::vector<MetricSummary> metrics;
    bool published = false;  ///< numbers from a paper, not measured here
    std::string source;      ///< of published numbers
};

struct Results {
    std::string command;  ///< without absolute paths
    std::vector<Run> runs;
};

/// Scores of single pictures, as scores.csv holds them.
struct ScoreTable {
    std::vector<std::string> metrics;
    std::vector<std::string> images;          ///< file names
    std::vector<std::vector<double>> values;  ///< [image][metric]; NaN where undefined
};

/// Mean, deviation and interval of one metric.
///
/// values   NaN marks a picture on which the metric is undefined
/// seed     of the bootstrap: 2000 resamples of the defined scores, percentiles 2.5 and 97.5
///          (Efron and Tibshirani 1993, ch. 13)
MetricSummary summarise(const std::string& metric, const std::vector<double>& values,
                        std::uint64_t seed);

/// Format "ultrasr-results", version 1: no times, no absolute paths.
Json to_json(const Results& results);

/// throws Error(input) that names `name` when the text is of another format or version
Results results_from_json(const Json& json, const std::string& name);

/// DIR/results.json. throws Error(input).
Results read_results(const std::filesystem::path& folder);

/// Rows "image,<metric>,..."; numbers in the shortest form that reads back the same.
std::string to_csv(const ScoreTable& table);

/// throws Error(input)
ScoreTable read_score_table(const std::filesystem::path& file);

/// Published rows: columns table,dataset,method,psnr,ssim,... (dataset is SET-xSCALE); the short
/// column names stand for the conventions the paper states (psnr = psnr-y601, lpips = lpips-alex).
///
/// file     a CSV file, or "paper" for the table of the SDD paper that comes with the project
/// throws   Error(input) naming line and column
std::vector<Run> read_published(const std::string& file);

/// "realsr-x4": the name under which published rows know a set; lower case.
std::string dataset_name(const Run& run);

}  // namespace ultrasr
