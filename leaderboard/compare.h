// Two methods on the same pictures: is the difference real, and where is it largest?
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/base/json.h"
#include "leaderboard/scores.h"

namespace ultrasr {

/// One metric, picture by picture. Differences are B - A.
struct Comparison {
    std::string metric;
    std::size_t pictures = 0;   ///< scored by both and defined for both
    std::size_t undefined = 0;  ///< undefined for one of them, left out
    double mean_a = 0;
    double mean_b = 0;
    double mean_difference = 0;
    double ci_low = 0;  ///< 95 % bootstrap interval of the mean difference
    double ci_high = 0;
    std::size_t b_better = 0;  ///< in the metric's better direction
    std::size_t a_better = 0;
    double sign_test_p = 1;  ///< two-sided; ties left out (Dixon and Mood 1946)
    struct Change {
        std::string image;
        double a = 0;
        double b = 0;
    };
    std::vector<Change> largest;  ///< at most five, by falling |B - A|
};

/// Compares two tables on the pictures and metrics both have.
///
/// metric   one metric's name, or empty for all they share
/// throws   Error(usage) for a metric that is not in both, Error(input) when no picture is shared
std::vector<Comparison> compare_scores(const ScoreTable& a, const ScoreTable& b,
                                       const std::string& metric, std::uint64_t seed);

/// A scores.csv, or the folder of a run that holds one. throws Error(input).
ScoreTable read_scores_of(const std::filesystem::path& path);

std::string to_text(const std::vector<Comparison>& comparisons, const std::string& a,
                    const std::string& b);
Json to_json(const std::vector<Comparison>& comparisons);

/// Two-sided probability of a split at least as uneven as `wins` to `losses` under p = 1/2.
double sign_test(std::size_t wins, std::size_t losses);

}  // namespace ultrasr
