// Results as tables: Markdown, LaTeX, CSV, and a page.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "leaderboard/scores.h"

namespace ultrasr {

enum class TableFormat { markdown, latex, csv, html };

struct TableOptions {
    bool rank_published = false;  ///< let published rows compete for best and second best
};

/// One table a set and scale: rows are methods, columns metrics with an arrow for the better
/// direction; best bold, second underlined; published rows marked and outside the ranking;
/// a mean over fewer pictures than the set has shows how many are undefined; results of
/// unverified weights are marked. The order is the runs' order.
std::string render_table(const std::vector<Run>& runs, TableFormat format,
                         const TableOptions& options = {});

/// The pictures and scores of one run, for the page.
struct PageRun {
    Run run;
    ScoreTable scores;
    std::filesystem::path images;  ///< folder of the restored pictures
};

/// The LR and HR files of one picture of a set.
struct PagePicture {
    std::string set;
    double scale = 0;
    std::string stem;
    std::filesystem::path lr;
    std::filesystem::path hr;
};

/// One self-contained HTML file: tables, thumbnails of a few pictures with all methods side by
/// side, scores of every picture, provenance. No script or picture is fetched from anywhere.
///
/// published   further rows for the tables
/// pictures    where to find LR and HR; missing files leave a gap, not an error
std::string render_page(const std::string& title, const std::string& command,
                        const std::vector<PageRun>& runs, const std::vector<Run>& published,
                        const std::vector<PagePicture>& pictures, const TableOptions& options = {});

}  // namespace ultrasr
