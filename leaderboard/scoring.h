// The loop that scores pictures: each is decoded once for all metrics; metrics without networks run
// on several pictures at once, networks on one picture with all threads.
#pragma once
#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/base/fwd.h"
#include "data/image.h"
#include "leaderboard/job.h"

namespace ultrasr {

struct SrHr {
    Image sr;
    Image hr;  ///< empty where there is none
};

/// What of a metric is still to be done for a picture.
struct Wanted {
    bool score = false;   ///< of a metric of single pictures
    bool sr_row = false;  ///< features of a metric of sets
    bool hr_row = false;
};

/// What came out for one picture, by LoadedMetric::key.
struct PictureScores {
    std::map<std::string, double> scores;
    std::map<std::string, std::vector<float>> sr_rows, hr_rows;
    double seconds = 0;
};

struct ScoringTask {
    std::vector<std::size_t> todo;          ///< places in the list
    std::vector<PixelSize> sizes;           ///< of the whole list
    std::string what;                       ///< for the progress
    std::function<SrHr(std::size_t)> read;  ///< called from several threads
    std::function<Wanted(std::size_t, const LoadedMetric&)> wanted;
    std::function<void(std::size_t, const PictureScores&)> done;  ///< called from one thread
    std::function<std::string(std::size_t)> name;                 ///< for messages
};

/// Works through the task in its order. What is done is told picture by picture, so that an
/// interruption costs the pictures at hand alone.
///
/// throws what read, the metrics or done throw, with the picture's name in front; Interrupted
void score_pictures(const ScoringTask& task, const std::vector<LoadedMetric>& metrics, int threads,
                    Progress& progress);

/// Below it the covariance of Inception's 2048 features has no full rank, and FID is biased.
inline constexpr std::size_t enough_for_fid = 2048;

/// A set metric's value over all rows; its count is that of the restored pictures. Warns, once,
/// where few of them bias it. `where` names the run.
MetricSummary summary_of_set(const LoadedMetric& metric, std::span<const float> sr,
                             std::span<const float> hr, const std::string& where);

}  // namespace ultrasr
