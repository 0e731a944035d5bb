#include "leaderboard/table_layout.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "leaderboard/scoring.h"

namespace ultrasr {
namespace {

bool has_unverified_weights(const Run& run) {
    const auto& weights = run.provenance.weights;
    return std::any_of(weights.begin(), weights.end(),
                       [](const WeightRecord& w) { return !w.verified; });
}

const MetricSummary* find_summary(const Run& run, const std::string& metric) {
    for (const MetricSummary& summary : run.metrics) {
        if (summary.metric == metric) return &summary;
    }
    return nullptr;
}

/// A distance of sets over so few pictures that it is biased.
bool is_of_few(const MetricSummary& summary) {
    const auto setting = summary.settings.find("setting");
    return setting != summary.settings.end() && setting->second.starts_with("fid") &&
           summary.count < enough_for_fid;
}

TableCell make_cell(const Run& run, const MetricHead& head) {
    TableCell cell;
    cell.summary = find_summary(run, head.name);
    if (!cell.summary) return cell;
    const MetricSummary& s = *cell.summary;
    const auto printed = s.settings.find("printed");
    cell.text =
        run.published && printed != s.settings.end() ? printed->second : score_text(s.mean, head);
    if (run.published || std::isnan(s.mean)) return cell;
    if (s.nan > 0) cell.note = fmt::format("{} undefined", s.nan);
    if (s.count < run.pictures) {
        cell.note = fmt::format("{} of {} pictures", s.count - s.nan, run.pictures);
    }
    const auto verified = s.settings.find("weights_verified");
    cell.unverified = verified != s.settings.end() && verified->second == "no";
    return cell;
}

/// Marks the best and the second best number of one column.
void rank_column(ScoreLayout& table, std::size_t column) {
    if (!table.heads[column].better) return;
    const bool higher = *table.heads[column].better == Better::higher;

    // Collect the numbers as shown
    std::vector<std::pair<double, TableCell*>> shown;
    for (TableRow& row : table.rows) {
        TableCell& cell = row.cells[column];
        if (row.run->published && !table.ranked_published) continue;
        if (!cell.summary || std::isnan(cell.summary->mean)) continue;
        shown.emplace_back(std::strtod(cell.text.c_str(), nullptr), &cell);
    }
    if (shown.size() < 2) return;

    // The best goes first, then the first that differs from it
    std::stable_sort(shown.begin(), shown.end(), [&](const auto& a, const auto& b) {
        return higher ? a.first > b.first : a.first < b.first;
    });
    const double best = shown.front().first;
    const auto next =
        std::find_if(shown.begin(), shown.end(), [&](const auto& s) { return s.first != best; });
    for (auto& [number, cell] : shown) {
        if (number == best)
            cell->rank = Rank::best;
        else if (number == next->first)
            cell->rank = Rank::second;
    }
}

void add_columns(ScoreLayout& table, const Run& run) {
    for (const MetricSummary& summary : run.metrics) {
        const bool known =
            std::any_of(table.heads.begin(), table.heads.end(),
                        [&](const MetricHead& h) { return h.name == summary.metric; });
        if (!known) table.heads.push_back(metric_head(summary.metric));
    }
}

/// Two metrics of one title go by their names.
void tell_titles_apart(std::vector<MetricHead>& heads) {
    std::vector<std::string> titles;
    for (const MetricHead& head : heads) titles.push_back(head.title);
    for (MetricHead& head : heads) {
        if (std::count(titles.begin(), titles.end(), head.title) > 1) head.title = head.name;
    }
}

bool same_but_case(const std::string& a, const std::string& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
        return std::tolower(x) == std::tolower(y);
    });
}

}  // namespace

MetricHead metric_head(const std::string& name) {
    for (const MetricInfo* info : all_metrics()) {
        if (info->name == name)
            return {name, info->title, info->unit, info->better, info->decimals};
    }
    return {name, name, "", std::nullopt, 4};
}

std::string score_text(double score, const MetricHead& head) {
    if (std::isnan(score)) return "undefined";
    return fmt::format("{:.{}f}", score, head.decimals);
}

std::vector<ScoreLayout> layout_tables(const std::vector<Run>& runs, const TableOptions& options) {
    // Open a table for every set of pictures
    const bool measured =
        std::any_of(runs.begin(), runs.end(), [](const Run& run) { return !run.published; });
    std::vector<ScoreLayout> tables;
    std::vector<std::string> hashes;
    for (const Run& run : runs) {
        if (run.published && measured) continue;
        const std::string dataset = dataset_name(run);
        std::size_t t = 0;
        while (t < tables.size() && (tables[t].dataset != dataset || hashes[t] != run.set_sha256)) {
            ++t;
        }
        if (t == tables.size()) {
            tables.push_back({run.set, run.scale, dataset, "", 0, {}, {}, options.rank_published});
            hashes.push_back(run.set_sha256);
        }
        tables[t].pictures = std::max(tables[t].pictures, run.pictures);
        add_columns(tables[t], run);
    }

    // Fill in the rows
    for (std::size_t t = 0; t < tables.size(); ++t) {
        ScoreLayout& table = tables[t];
        tell_titles_apart(table.heads);
        for (const Run& run : runs) {
            if (dataset_name(run) != table.dataset) continue;
            if (!run.published && run.set_sha256 != hashes[t]) continue;
            TableRow row{&run, has_unverified_weights(run), {}};
            for (const MetricHead& head : table.heads) row.cells.push_back(make_cell(run, head));
            table.rows.push_back(std::move(row));
        }
        for (std::size_t c = 0; c < table.heads.size(); ++c) rank_column(table, c);
        const auto namesakes = std::count_if(tables.begin(), tables.end(), [&](const auto& other) {
            return other.dataset == table.dataset;
        });
        if (namesakes > 1) table.hash = hashes[t].substr(0, 8);
    }
    return tables;
}

std::vector<std::string> table_notes(const std::vector<ScoreLayout>& tables) {
    bool ranked = false, undefined = false, unverified = false, published = false;
    bool ranked_published = false, policy = false, few = false;
    std::vector<std::string> conventions, sources;
    const auto add = [](std::vector<std::string>& list, const std::string& text) {
        if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(text);
    };
    for (const ScoreLayout& table : tables) {
        ranked_published |= table.ranked_published;
        for (const MetricHead& head : table.heads) {
            if (!same_but_case(head.title, head.name)) {
                add(conventions, fmt::format("{} is {}", head.title, head.name));
            }
        }
        for (const TableRow& row : table.rows) {
            unverified |= row.unverified;
            published |= row.run->published;
            policy |= !row.run->provenance.scale_policy.empty();
            if (row.run->published) add(sources, row.run->source);
            for (const TableCell& cell : row.cells) {
                ranked |= cell.rank != Rank::none;
                undefined |= !cell.note.empty() || cell.text == "undefined";
                unverified |= cell.unverified;
                few |= cell.summary && !row.run->published && is_of_few(*cell.summary);
            }
        }
    }
    std::vector<std::string> notes;
    if (ranked) notes.push_back("The best mean is bold, the second best underlined.");
    if (!conventions.empty()) notes.push_back(fmt::format("{}.", fmt::join(conventions, ", ")));
    if (policy) {
        notes.push_back(
            "Policy: how a network of fixed scale reaches another one (post: resized afterwards, "
            "pre: enlarged first, cascade: applied twice).");
    }
    if (undefined) {
        notes.push_back("A mean leaves out the pictures on which the metric is undefined.");
    }
    if (few) {
        notes.push_back(fmt::format(
            "FID over fewer than {} pictures is biased upwards: compare it only over equally many.",
            enough_for_fid));
    }
    if (unverified) {
        notes.push_back("\u2020 Made with weights that are not those on record (unverified).");
    }
    if (published) {
        notes.push_back(fmt::format("Published rows are quoted, not measured here{}: {}.",
                                    ranked_published ? "" : ", and not ranked",
                                    fmt::join(sources, "; ")));
    }
    return notes;
}

}  // namespace ultrasr
