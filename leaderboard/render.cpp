#include "leaderboard/render.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "data/markup.h"
#include "leaderboard/csv.h"
#include "leaderboard/table_layout.h"

namespace ultrasr {
namespace {

constexpr std::string_view dash = "\u2013";  // "not measured", "does not apply"

std::string_view arrow(const MetricHead& head) {
    if (!head.better) return "";
    return *head.better == Better::higher ? " \u2191" : " \u2193";
}

std::string title_with_unit(const MetricHead& head) {
    return head.unit.empty() ? head.title : fmt::format("{} ({})", head.title, head.unit);
}

/// "realsr x4, 100 pictures" with the given sign for "x".
std::string caption(const ScoreLayout& table, std::string_view set, std::string_view times) {
    std::string text = fmt::format("{} {}{}", set, times, table.scale);
    if (table.pictures > 0) {
        text += fmt::format(", {} picture{}", table.pictures, table.pictures == 1 ? "" : "s");
    }
    if (!table.hash.empty()) text += fmt::format(", set {}", table.hash);
    return text;
}

std::string pictures_text(const Run& run) {
    return run.published ? std::string(dash) : fmt::format("{}", run.pictures);
}

std::string policy_text(const Run& run) {
    const std::string& policy = run.provenance.scale_policy;
    return policy.empty() ? std::string(dash) : policy;
}

// ---- Markdown ----

bool is_word(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || static_cast<unsigned char>(c) >= 0x80;
}

/// Escapes what Markdown would take for markup; '_' inside a word stays readable.
std::string escape_markdown(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const bool inside =
            i > 0 && i + 1 < text.size() && is_word(text[i - 1]) && is_word(text[i + 1]);
        if (static_cast<unsigned char>(c) < 0x20)
            out += ' ';
        else if (c == '&')
            out += "&amp;";
        else if (c == '<')
            out += "&lt;";
        else if (std::string_view("\\|*`[]~").find(c) != std::string_view::npos ||
                 (c == '_' && !inside)) {
            out += '\\';
            out += c;
        } else
            out += c;
    }
    return out;
}

/// Characters of a UTF-8 text.
std::size_t width_of(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    }));
}

std::string pad(const std::string& text, std::size_t width, bool right) {
    const std::string blanks(width - std::min(width, width_of(text)), ' ');
    return right ? blanks + text : text + blanks;
}

std::string markdown_cell(const TableCell& cell) {
    if (!cell.summary) return std::string(dash);
    std::string text = cell.text;
    if (cell.rank == Rank::best) text = fmt::format("**{}**", text);
    if (cell.rank == Rank::second) text = fmt::format("<u>{}</u>", text);
    if (cell.unverified) text += " \u2020";
    return cell.note.empty() ? text : fmt::format("{} ({})", text, cell.note);
}

std::string markdown(const ScoreLayout& table) {
    // Fill a grid of texts; method and policy stand left, numbers right
    std::vector<std::vector<std::string>> grid{{"Method", "n", "Policy"}};
    for (const MetricHead& head : table.heads) {
        grid[0].push_back(escape_markdown(title_with_unit(head)) + std::string(arrow(head)));
    }
    for (const TableRow& row : table.rows) {
        std::string label = escape_markdown(row.run->label);
        if (row.unverified) label += " \u2020";
        if (row.run->published) label += " (published)";
        auto& line = grid.emplace_back();
        line = {label, pictures_text(*row.run), escape_markdown(policy_text(*row.run))};
        for (const TableCell& cell : row.cells) line.push_back(markdown_cell(cell));
    }
    const auto right = [](std::size_t column) { return column != 0 && column != 2; };

    // Measure the columns, then write
    std::vector<std::size_t> widths(grid[0].size(), 3);
    for (const auto& line : grid) {
        for (std::size_t c = 0; c < line.size(); ++c) {
            widths[c] = std::max(widths[c], width_of(line[c]));
        }
    }
    std::string text =
        fmt::format("### {}\n\n", caption(table, escape_markdown(table.set), "\u00D7"));
    for (std::size_t r = 0; r < grid.size(); ++r) {
        text += "|";
        for (std::size_t c = 0; c < widths.size(); ++c) {
            text += fmt::format(" {} |", pad(grid[r][c], widths[c], right(c)));
        }
        text += "\n";
        if (r > 0) continue;
        text += "|";
        for (std::size_t c = 0; c < widths.size(); ++c) {
            const std::string line(widths[c] + 1, '-');
            text += right(c) ? line + ":|" : ":" + line + "|";
        }
        text += "\n";
    }
    return text;
}

std::string markdown(const std::vector<ScoreLayout>& tables) {
    std::string text;
    for (const ScoreLayout& table : tables) text += markdown(table) + "\n";
    for (const std::string& note : table_notes(tables)) {
        text += fmt::format("* {}\n", escape_markdown(note));
    }
    return text;
}

// ---- LaTeX ----

std::string escape_latex(std::string_view text) {
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 17> replacements{
        {{"\\", "\\textbackslash{}"},
         {"{", "\\{"},
         {"}", "\\}"},
         {"_", "\\_"},
         {"%", "\\%"},
         {"&", "\\&"},
         {"#", "\\#"},
         {"$", "\\$"},
         {"^", "\\textasciicircum{}"},
         {"~", "\\textasciitilde{}"},
         {"<", "\\textless{}"},
         {">", "\\textgreater{}"},
         {"|", "\\textbar{}"},
         {"\"", "\\textquotedblright{}"},
         {"\u2013", "--"},
         {"\u2020", "$\\dagger$"},
         {"\u00D7", "$\\times$"}}};
    std::string out;
    while (!text.empty()) {
        const auto found = std::find_if(replacements.begin(), replacements.end(),
                                        [&](const auto& r) { return text.starts_with(r.first); });
        if (found != replacements.end()) {
            out += found->second;
            text.remove_prefix(found->first.size());
        } else {
            out += static_cast<unsigned char>(text[0]) < 0x20 ? ' ' : text[0];
            text.remove_prefix(1);
        }
    }
    return out;
}

std::string latex_cell(const TableCell& cell) {
    if (!cell.summary) return "--";
    std::string text = cell.text;
    if (cell.rank == Rank::best) text = fmt::format("\\textbf{{{}}}", text);
    if (cell.rank == Rank::second) text = fmt::format("\\underline{{{}}}", text);
    if (cell.unverified) text += " $\\dagger$";
    return cell.note.empty() ? text : fmt::format("{} ({})", text, cell.note);
}

/// Letters, digits and hyphens: what \label takes without harm.
std::string latex_label(std::string text) {
    for (char& c : text) {
        if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.') c = '-';
    }
    return text;
}

std::string latex(const ScoreLayout& table) {
    std::string notes;
    for (const std::string& note : table_notes({table})) notes += " " + escape_latex(note);
    std::string text = fmt::format(
        "\\begin{{table}}\n\\centering\n\\caption{{{}.{}}}\n\\label{{tab:{}{}}}\n"
        "\\begin{{tabular}}{{lrl{}}}\n\\toprule\nMethod & $n$ & Policy",
        caption(table, escape_latex(table.set), "$\\times$"), notes, latex_label(table.dataset),
        table.hash.empty() ? "" : "-" + table.hash, std::string(table.heads.size(), 'r'));
    for (const MetricHead& head : table.heads) {
        text += " & " + escape_latex(title_with_unit(head));
        if (head.better) {
            text += *head.better == Better::higher ? " $\\uparrow$" : " $\\downarrow$";
        }
    }
    text += " \\\\\n\\midrule\n";
    for (const TableRow& row : table.rows) {
        text += escape_latex(row.run->label);
        if (row.unverified) text += " $\\dagger$";
        if (row.run->published) text += " (published)";
        text += fmt::format(" & {} & {}", escape_latex(pictures_text(*row.run)),
                            escape_latex(policy_text(*row.run)));
        for (const TableCell& cell : row.cells) text += " & " + latex_cell(cell);
        text += " \\\\\n";
    }
    return text + "\\bottomrule\n\\end{tabular}\n\\end{table}\n";
}

// ---- CSV ----

/// One table for all sets: means in full precision, empty where nothing was measured.
std::string csv(const std::vector<ScoreLayout>& tables) {
    std::vector<std::string> metrics;
    for (const ScoreLayout& table : tables) {
        for (const MetricHead& head : table.heads) {
            if (std::find(metrics.begin(), metrics.end(), head.name) == metrics.end()) {
                metrics.push_back(head.name);
            }
        }
    }
    std::string text = "set,scale,set_sha256,method,published,unverified,policy,pictures";
    for (const std::string& name : metrics) {
        const std::string field = csv_field(name);
        text += fmt::format(",{},{}", field, csv_field(name + "_nan"));
    }
    text += "\n";
    for (const ScoreLayout& table : tables) {
        for (const TableRow& row : table.rows) {
            const Run& run = *row.run;
            text += fmt::format("{},{},{},{},{},{},{},{}", csv_field(table.set), table.scale,
                                run.set_sha256, csv_field(run.label), run.published ? 1 : 0,
                                row.unverified ? 1 : 0, csv_field(run.provenance.scale_policy),
                                run.published ? "" : fmt::format("{}", run.pictures));
            for (const std::string& name : metrics) {
                const auto cell = std::find_if(
                    row.cells.begin(), row.cells.end(),
                    [&](const TableCell& c) { return c.summary && c.summary->metric == name; });
                if (cell == row.cells.end())
                    text += ",,";
                else if (run.published)
                    text += fmt::format(",{},", csv_number(cell->summary->mean));
                else
                    text +=
                        fmt::format(",{},{}", csv_number(cell->summary->mean), cell->summary->nan);
            }
            text += "\n";
        }
    }
    return text;
}

// ---- HTML ----

std::string html_cell(const TableCell& cell, const MetricHead& head) {
    if (!cell.summary) return fmt::format("<td class=\"number\">{}</td>", dash);
    const MetricSummary& s = *cell.summary;
    const char* rank = cell.rank == Rank::best     ? " class=\"best\""
                       : cell.rank == Rank::second ? " class=\"second\""
                                                   : "";
    std::string tip, small;
    if (!std::isnan(s.ci_low) && !std::isnan(s.ci_high)) {
        small = fmt::format("<small>{} {} {}</small>", score_text(s.ci_low, head), dash,
                            score_text(s.ci_high, head));
        tip = fmt::format(
            " title=\"95 % interval of the mean {} to {}; deviation {}; {} of {} "
            "pictures defined\"",
            score_text(s.ci_low, head), score_text(s.ci_high, head), score_text(s.std, head),
            s.count - s.nan, s.count);
    }
    if (cell.unverified) small = " \u2020" + small;
    if (!cell.note.empty()) small += fmt::format("<small>({})</small>", escape_markup(cell.note));
    return fmt::format("<td class=\"number\"{}><span{}>{}</span>{}</td>", tip, rank,
                       escape_markup(cell.text), small);
}

std::string html(const ScoreLayout& table) {
    std::string text = fmt::format(
        "<div class=\"scroll\"><table class=\"scores\">\n<caption>{}</caption>\n"
        "<thead><tr><th>Method</th><th class=\"number\">n</th><th>Policy</th>",
        caption(table, escape_markup(table.set), "\u00D7"));
    for (const MetricHead& head : table.heads) {
        text += fmt::format("<th class=\"number\" title=\"{}\">{}{}</th>", escape_markup(head.name),
                            escape_markup(title_with_unit(head)), arrow(head));
    }
    text += "</tr></thead>\n<tbody>\n";
    for (const TableRow& row : table.rows) {
        const Run& run = *row.run;
        text += fmt::format(
            "<tr{}><th scope=\"row\">{}{}{}</th><td class=\"number\">{}</td>"
            "<td>{}</td>",
            run.published ? " class=\"published\"" : "", escape_markup(run.label),
            row.unverified ? " \u2020" : "", run.published ? " <em>(published)</em>" : "",
            pictures_text(run), escape_markup(policy_text(run)));
        for (std::size_t c = 0; c < row.cells.size(); ++c) {
            text += html_cell(row.cells[c], table.heads[c]);
        }
        text += "</tr>\n";
    }
    return text + "</tbody></table></div>\n";
}

std::string html_document(const std::vector<ScoreLayout>& tables) {
    return fmt::format(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Results</title>\n"
        "<style>{}</style></head><body>\n{}</body></html>\n",
        html_style(), html_tables(tables));
}

}  // namespace

std::string_view html_style() {
    return R"(
:root { color-scheme: light dark; --line: #8884; --faint: #777; --mark: #1a6fb0; }
@media (prefers-color-scheme: dark) { :root { --faint: #999; --mark: #6db3e8; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; padding: 0 1rem; max-width: 1888px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 0 0 1.2rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; white-space: nowrap; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; font-weight: normal; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; white-space: nowrap; }
tbody tr { border-bottom: 1px solid var(--line); }
.number { text-align: right; }
td small { display: block; color: var(--faint); font-size: 11px; white-space: nowrap; }
.best { font-weight: 700; }
.second { text-decoration: underline; }
tr.published { color: var(--faint); }
.notes { color: var(--faint); font-size: 13px; padding-left: 1.2rem; }
)";
}

std::string html_tables(const std::vector<ScoreLayout>& tables) {
    std::string text;
    for (const ScoreLayout& table : tables) text += html(table);
    const std::vector<std::string> notes = table_notes(tables);
    if (notes.empty()) return text;
    text += "<ul class=\"notes\">\n";
    for (const std::string& note : notes) text += fmt::format("<li>{}</li>\n", escape_markup(note));
    return text + "</ul>\n";
}

std::string render_table(const std::vector<Run>& runs, TableFormat format,
                         const TableOptions& options) {
    const std::vector<ScoreLayout> tables = layout_tables(runs, options);
    switch (format) {
        case TableFormat::markdown:
            return markdown(tables);
        case TableFormat::csv:
            return csv(tables);
        case TableFormat::html:
            return html_document(tables);
        case TableFormat::latex:
            break;
    }
    std::string text = "% needs \\usepackage{booktabs}\n";
    for (const ScoreLayout& table : tables) text += latex(table);
    return text;
}

}  // namespace ultrasr
