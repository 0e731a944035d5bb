// What stands where in the tables of results, before it becomes Markdown, LaTeX, CSV or HTML.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "leaderboard/render.h"
#include "leaderboard/scores.h"
#include "metrics/metric.h"

namespace ultrasr {

/// A metric as a table names it. A metric that this program does not know (results of another
/// version) keeps its name, four decimals, no direction and no ranking.
struct MetricHead {
    std::string name;
    std::string title;
    std::string unit;
    std::optional<Better> better;
    int decimals = 4;
};
MetricHead metric_head(const std::string& name);

/// A score as tables show it: "25.69", "inf", "undefined" for NaN.
std::string score_text(double score, const MetricHead& head);

enum class Rank { none, best, second };

struct TableCell {
    std::string text;  ///< the mean as shown; "undefined"; empty when the metric was not measured
    std::string note;  ///< "2 undefined", "98 of 100 pictures"; mostly empty
    bool unverified = false;  ///< the metric's own weights are not those on record
    Rank rank = Rank::none;
    const MetricSummary* summary = nullptr;  ///< null when the metric was not measured
};

struct TableRow {
    const Run* run = nullptr;
    bool unverified = false;  ///< some weights are not those on record
    std::vector<TableCell> cells;
};

/// One set at one scale.
struct ScoreLayout {
    std::string set;
    double scale = 0;
    std::string dataset;       ///< "realsr-x4"
    std::string hash;          ///< first digits of the set's hash when two sets share the name
    std::size_t pictures = 0;  ///< of the set; 0 when only published rows are here
    std::vector<MetricHead> heads;
    std::vector<TableRow> rows;
    bool ranked_published = false;
};

/// Sorts runs into tables. Columns are the metrics that were measured, rows keep the runs' order.
///
/// runs     must outlive the result; published rows without a measured set are left out, unless
///          nothing at all was measured
/// returns  tables in the order in which their sets first appear. Ranks compare the numbers as
///          shown: equal ones share a rank, "second" is the next different number, fewer than two
///          numbers are not ranked
std::vector<ScoreLayout> layout_tables(const std::vector<Run>& runs, const TableOptions& options);

/// What a reader must know: ranking, undefined scores, unverified weights, conventions, sources.
std::vector<std::string> table_notes(const std::vector<ScoreLayout>& tables);

/// The tables and notes as a fragment of HTML, and the style they need.
std::string html_tables(const std::vector<ScoreLayout>& tables);
std::string_view html_style();

}  // namespace ultrasr
