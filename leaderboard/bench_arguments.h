// The options of ultrasr-bench that several of its commands share: weights, methods, metrics.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/base/cli.h"
#include "metrics/metric.h"
#include "models/method.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace ultrasr {

/// The options of methods, as one command binds them.
struct MethodArguments {
    MethodOptions& options;
    std::vector<std::string> models;       ///< of --model
    std::vector<CLI::Option*> of_methods;  ///< those that only some methods read
};

/// --weights, --unverified-weights
void add_weight_options(CLI::App& app, WeightOptions& options);

/// Everything a method reads, weights included, but --dump.
void add_method_options(CLI::App& app, MethodArguments& arguments);

/// --dump; `where` ends its help.
CLI::Option* add_dump(CLI::App& app, std::filesystem::path& dump, const std::string& where);

/// Once parsed: completes the options, and warns of those given that no chosen method reads.
///
/// methods  as on the command line; those without a label get theirs where it depends on the
///          options
/// throws   Error(usage) for unknown methods and for a --model that names none, or not which
void finish_method_options(MethodArguments& arguments, const CommonOptions& common,
                           std::vector<std::string>& methods);

/// --metric-precision
void add_metric_precision(CLI::App& app, MetricOptions& options);

/// --metrics and what metrics read
void add_metric_options(CLI::App& app, std::vector<std::string>& metrics, MetricOptions& options);

/// throws Error(usage) for --dump-taps without a --dump
void check_dump(const MethodOptions& options, const std::filesystem::path& dump);

}  // namespace ultrasr
