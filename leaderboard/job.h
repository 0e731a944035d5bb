// What the jobs of this folder share: time, threads, odd input files, loaded metrics and methods.
#pragma once
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "data/base/json.h"
#include "data/image_io.h"
#include "leaderboard/scores.h"
#include "metrics/metric.h"
#include "models/method.h"

namespace ultrasr {

/// Seconds of wall time since it was made.
class Stopwatch {
  public:
    double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Calls work(i) for i in [0, n), on that many threads. An exception of one call ends the others'
/// turn and leaves.
void for_each(std::size_t n, int threads, const std::function<void(std::size_t)>& work);

/// Counts what is odd about input files, so that it is said once a folder, not once a file.
struct OddFiles {
    std::atomic<std::size_t> deep{0};
    std::atomic<std::size_t> alpha{0};
    std::atomic<std::size_t> lossy{0};

    void count(const ImageOrigin& origin) {
        if (origin.bits > 8) ++deep;
        if (origin.has_alpha()) ++alpha;
        if (origin.lossy) ++lossy;
    }
    /// Warns about deep and transparent pictures. `where` names the folder.
    void tell(const std::string& where) const;
    /// Warns about pictures that went through lossy compression.
    void tell_lossy(const std::string& where) const;
};

/// "1 picture", "2 pictures".
std::string pictures(std::size_t n);

/// A metric in use: of single pictures, or of sets.
struct LoadedMetric {
    const MetricInfo* info;
    MetricPtr metric;                             ///< null for a metric of sets
    SetMetricPtr set;                             ///< null for a metric of single pictures
    std::map<std::string, std::string> settings;  ///< for the results
    std::string key;  ///< in the journal: a score of another profile, precision, network or choice
                      ///< of crops is another score
};

/// "paper" stands for the seven metrics of the SDD paper's Tables 1 and 2.
///
/// throws Error(usage) for unknown names, a name given twice, or none at all; Error(input) for
///        weights that are missing or wrong
std::vector<LoadedMetric> load_metrics(const std::vector<std::string>& names,
                                       const MetricOptions& options);

/// throws Error(input) when the picture is too small for the metric
void check_side(const LoadedMetric& metric, PixelSize size, const std::string& picture);

/// The summary with the metric's settings; warns about undefined scores. `where` names the run.
MetricSummary summary_of(const LoadedMetric& metric, const std::vector<double>& values,
                         std::uint64_t seed, const std::string& where);

/// The median of the numbers among them; NaN when there are none.
double median(std::vector<double> values);

/// The median of each part, over those that have it.
StageTimes median_split(const std::vector<StageTimes>& splits);

/// Whether a method's pixels (or files beside them) depend on the option, such as "--tile".
bool reads_option(const MethodInfo& method, std::string_view option);

/// Loads a method. throws what its make() throws, with the label in front.
MethodPtr make_method(const MethodSpec& spec, MethodOptions options);

/// Everything that the pixels of a run depend on, for its journal.
Json settings_of(const std::string& input_sha256, double scale, const std::string& method,
                 const Provenance& provenance);

}  // namespace ultrasr
