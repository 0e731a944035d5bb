#include "leaderboard/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "metrics/metric.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

std::size_t column_of(const ScoreTable& table, const std::string& metric) {
    const auto at = std::find(table.metrics.begin(), table.metrics.end(), metric);
    if (at == table.metrics.end()) {
        std::string known;
        for (const std::string& name : table.metrics) known += (known.empty() ? "" : ", ") + name;
        fail(Fault::usage, "{} is not among the scores; there are: {}", metric, known);
    }
    return static_cast<std::size_t>(at - table.metrics.begin());
}

Comparison compare_metric(const ScoreTable& a, const ScoreTable& b, const std::string& metric,
                          std::uint64_t seed) {
    const std::size_t column_a = column_of(a, metric);
    const std::size_t column_b = column_of(b, metric);
    std::map<std::string, double> scores_b;
    for (std::size_t i = 0; i < b.images.size(); ++i) scores_b[b.images[i]] = b.values[i][column_b];

    // Pair the pictures
    Comparison result;
    result.metric = metric;
    std::vector<double> differences;
    for (std::size_t i = 0; i < a.images.size(); ++i) {
        const auto other = scores_b.find(a.images[i]);
        if (other == scores_b.end()) continue;
        const double score_a = a.values[i][column_a];
        const double score_b = other->second;
        if (std::isnan(score_a) || std::isnan(score_b)) {
            ++result.undefined;
            continue;
        }
        ++result.pictures;
        result.mean_a += score_a;
        result.mean_b += score_b;
        differences.push_back(score_b - score_a);
        result.largest.push_back({a.images[i], score_a, score_b});
    }
    require(result.pictures + result.undefined > 0, "the two runs share no picture");
    const auto n = static_cast<double>(result.pictures);
    result.mean_a /= n;
    result.mean_b /= n;

    // Interval and sign test
    const MetricSummary summary = summarise(metric, differences, seed);
    result.mean_difference = summary.mean;
    result.ci_low = summary.ci_low;
    result.ci_high = summary.ci_high;
    const bool higher = find_metric(metric).better == Better::higher;
    for (const double d : differences) {
        if (d != 0) ++((d > 0) == higher ? result.b_better : result.a_better);
    }
    result.sign_test_p = sign_test(result.b_better, result.a_better);

    // Keep the pictures with the largest change
    std::stable_sort(
        result.largest.begin(), result.largest.end(),
        [](const auto& x, const auto& y) { return std::abs(x.b - x.a) > std::abs(y.b - y.a); });
    if (result.largest.size() > 5) result.largest.resize(5);
    return result;
}

}  // namespace

double sign_test(std::size_t wins, std::size_t losses) {
    const std::size_t n = wins + losses;
    const std::size_t fewer = std::min(wins, losses);
    double tail = 0;
    for (std::size_t k = 0; k <= fewer; ++k) {
        const auto choose = [](std::size_t from, std::size_t pick) {
            return std::lgamma(static_cast<double>(from) + 1) -
                   std::lgamma(static_cast<double>(pick) + 1) -
                   std::lgamma(static_cast<double>(from - pick) + 1);
        };
        tail += std::exp(choose(n, k) - static_cast<double>(n) * std::log(2.0));
    }
    return std::min(1.0, 2 * tail);
}

std::vector<Comparison> compare_scores(const ScoreTable& a, const ScoreTable& b,
                                       const std::string& metric, std::uint64_t seed) {
    if (!metric.empty()) return {compare_metric(a, b, metric, seed)};
    std::vector<Comparison> all;
    for (const std::string& name : a.metrics) {
        if (std::find(b.metrics.begin(), b.metrics.end(), name) != b.metrics.end()) {
            all.push_back(compare_metric(a, b, name, seed));
        }
    }
    require(!all.empty(), "the two runs share no metric");
    return all;
}

ScoreTable read_scores_of(const fs::path& path) {
    return read_score_table(fs::is_directory(path) ? path / "scores.csv" : path);
}

std::string to_text(const std::vector<Comparison>& comparisons, const std::string& a,
                    const std::string& b) {
    std::string text = fmt::format("A = {}\nB = {}\n", a, b);
    for (const Comparison& c : comparisons) {
        text += fmt::format("\n{} on {} pictures", c.metric, c.pictures);
        if (c.undefined > 0) text += fmt::format(" ({} undefined, left out)", c.undefined);
        text += fmt::format("\n  mean A {:.4f}, mean B {:.4f}\n", c.mean_a, c.mean_b);
        text += fmt::format("  B - A  {:+.4f}, 95 % interval [{:+.4f}, {:+.4f}]\n",
                            c.mean_difference, c.ci_low, c.ci_high);
        text += fmt::format("  B better on {}, A better on {}, sign test p = {:.3g}\n", c.b_better,
                            c.a_better, c.sign_test_p);
        text += "  largest changes:\n";
        for (const auto& change : c.largest) {
            text += fmt::format("    {:<32} {:>10.4f} -> {:>10.4f}  ({:+.4f})\n", change.image,
                                change.a, change.b, change.b - change.a);
        }
    }
    return text;
}

Json to_json(const std::vector<Comparison>& comparisons) {
    Json list = Json::array();
    for (const Comparison& c : comparisons) {
        Json largest = Json::array();
        for (const auto& change : c.largest) {
            largest.push_back({{"image", change.image}, {"a", change.a}, {"b", change.b}});
        }
        list.push_back({{"metric", c.metric},
                        {"pictures", c.pictures},
                        {"undefined", c.undefined},
                        {"mean_a", json_number(c.mean_a)},
                        {"mean_b", json_number(c.mean_b)},
                        {"mean_difference", json_number(c.mean_difference)},
                        {"ci95", {json_number(c.ci_low), json_number(c.ci_high)}},
                        {"b_better", c.b_better},
                        {"a_better", c.a_better},
                        {"sign_test_p", c.sign_test_p},
                        {"largest", largest}});
    }
    return list;
}

}  // namespace ultrasr
