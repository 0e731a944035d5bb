#include "leaderboard/scores.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <nlohmann/json.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/base/random.h"
#include "data/file.h"
#include "leaderboard/csv.h"
#include "metrics/metric.h"
#include "sdd_paper.h"

namespace ultrasr {
namespace {

constexpr int resamples = 2000;  // Efron and Tibshirani 1993, sec. 13.3: at least 1000
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double mean_of(const std::vector<double>& values) {
    double sum = 0;
    for (const double v : values) sum += v;
    return sum / static_cast<double>(values.size());
}

/// Sample standard deviation.
double deviation_of(const std::vector<double>& values, double mean) {
    if (values.size() < 2) return 0;
    double sum = 0;
    for (const double v : values) sum += (v - mean) * (v - mean);
    return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

/// Percentile p in [0,1] of ascending values, linear between neighbours.
double percentile(const std::vector<double>& sorted, double p) {
    const double place = p * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    const double part = place - static_cast<double>(below);
    if (part == 0 || sorted[below] == sorted[above]) return sorted[below];  // inf - inf is NaN
    return sorted[below] + part * (sorted[above] - sorted[below]);
}

// ---- JSON ----

/// A JSON object and what it is called in messages: "results.json: runs[0].set".
struct Reader {
    const Json& json;
    std::string name;

    Reader at(const std::string& key) const {
        require(json.is_object(), "{} is not an object", name);
        const auto found = json.find(key);
        require(found != json.end(), "{} lacks \"{}\"", name, key);
        return {*found, fmt::format("{}{}{}", name, name.ends_with(':') ? " " : ".", key)};
    }
    bool has(const std::string& key) const { return json.is_object() && json.contains(key); }

    std::string text() const {
        require(json.is_string(), "{} is not a text", name);
        return json.get<std::string>();
    }
    double number() const {
        return while_doing(name, [&] { return number_from_json(json); });
    }
    std::size_t count() const {
        require(json.is_number_unsigned(), "{} is not a count", name);
        return json.get<std::size_t>();
    }
    bool flag() const {
        require(json.is_boolean(), "{} is neither true nor false", name);
        return json.get<bool>();
    }
    std::vector<Reader> list() const {
        require(json.is_array(), "{} is not a list", name);
        std::vector<Reader> items;
        for (const Json& item : json) {
            items.push_back({item, fmt::format("{}[{}]", name, items.size())});
        }
        return items;
    }
    std::vector<std::pair<std::string, std::string>> texts() const {
        require(json.is_object(), "{} is not an object", name);
        std::vector<std::pair<std::string, std::string>> pairs;
        for (const auto& [key, value] : json.items()) pairs.emplace_back(key, at(key).text());
        return pairs;
    }
};

template <class Pairs>
Json settings_json(const Pairs& pairs) {
    Json object = Json::object();
    for (const auto& [key, value] : pairs) object[key] = value;
    return object;
}

Json metric_json(const MetricSummary& m) {
    return {{"name", m.metric},
            {"mean", json_number(m.mean)},
            {"std", json_number(m.std)},
            {"ci95", {json_number(m.ci_low), json_number(m.ci_high)}},
            {"n", m.count},
            {"nan", m.nan},
            {"settings", settings_json(m.settings)}};
}

Json run_json(const Run& run) {
    const Provenance& p = run.provenance;
    Json weights = Json::array();
    for (const WeightRecord& w : p.weights) {
        weights.push_back({{"file", w.file}, {"sha256", w.sha256}, {"verified", w.verified}});
    }
    Json json;
    json["set"] = {{"name", run.set},
                   {"sha256", run.set_sha256},
                   {"scale", json_number(run.scale)},
                   {"pictures", run.pictures}};
    json["method"] = {{"name", run.method},
                      {"label", run.label},
                      {"kind", p.kind},
                      {"weights", std::move(weights)},
                      {"scale_policy", p.scale_policy},
                      {"device", p.device},
                      {"dtype", p.dtype},
                      {"rounding", p.rounding},
                      {"settings", settings_json(p.settings)}};
    if (run.published) json["published"] = run.source;
    json["metrics"] = Json::array();
    for (const MetricSummary& m : run.metrics) json["metrics"].push_back(metric_json(m));
    return json;
}

MetricSummary metric_from(const Reader& json) {
    MetricSummary m;
    m.metric = json.at("name").text();
    m.mean = json.at("mean").number();
    m.std = json.at("std").number();
    const std::vector<Reader> interval = json.at("ci95").list();
    require(interval.size() == 2, "{}.ci95 has {} numbers, not 2", json.name, interval.size());
    m.ci_low = interval[0].number();
    m.ci_high = interval[1].number();
    m.count = json.at("n").count();
    m.nan = json.at("nan").count();
    require(m.nan <= m.count, "{} has more undefined scores than scores", json.name);
    for (auto& [key, value] : json.at("settings").texts()) m.settings.emplace(key, value);
    return m;
}

Run run_from(const Reader& json) {
    Run run;
    const Reader set = json.at("set");
    run.set = set.at("name").text();
    run.set_sha256 = set.at("sha256").text();
    run.scale = set.at("scale").number();
    run.pictures = set.at("pictures").count();
    const Reader method = json.at("method");
    run.method = method.at("name").text();
    run.label = method.at("label").text();
    Provenance& p = run.provenance;
    p.kind = method.at("kind").text();
    for (const Reader& w : method.at("weights").list()) {
        p.weights.push_back({w.at("file").text(), w.at("sha256").text(), w.at("verified").flag()});
    }
    p.scale_policy = method.at("scale_policy").text();
    p.device = method.at("device").text();
    p.dtype = method.at("dtype").text();
    p.rounding = method.at("rounding").text();
    p.settings = method.at("settings").texts();
    run.published = json.has("published");
    if (run.published) run.source = json.at("published").text();
    for (const Reader& m : json.at("metrics").list()) run.metrics.push_back(metric_from(m));
    return run;
}

// ---- Published numbers ----

/// The paper's columns (sec. Evaluation Metrics; metrics.md 11 for what the names stand for).
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> conventions{
    {{"psnr", "psnr-y601"},
     {"ssim", "ssim-y601"},
     {"lpips", "lpips-alex"},
     {"dists", "dists"},
     {"fid", "fid"},
     {"niqe", "niqe"},
     {"musiq", "musiq"},
     {"clipiqa", "clipiqa"},
     {"maniqa", "maniqa-pipal"}}};

/// How papers write the methods' names.
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> method_titles{
    {{"realesrgan", "Real-ESRGAN"},
     {"bsrgan", "BSRGAN"},
     {"femasr", "FeMaSR"},
     {"stablesr", "StableSR"},
     {"seesr", "SeeSR"},
     {"osediff", "OSEDiff"},
     {"adcsr", "AdcSR"},
     {"tsd-sr", "TSD-SR"},
     {"sdd", "SDD"}}};

/// The registry's name of a column; throws with the known ones.
std::string metric_of_column(const std::string& column, const std::string& where) {
    std::vector<std::string_view> known;
    for (const auto& [name, metric] : conventions) {
        if (column == name || column == metric) return std::string(metric);
        known.push_back(name);
    }
    for (const MetricInfo* info : all_metrics()) {
        if (column == info->name) return column;
        known.push_back(info->name);
    }
    fail(Fault::input, "{}: unknown column \"{}\"; known metrics are {}", where, column,
         fmt::join(known, ", "));
}

std::string title_of_method(const std::string& name) {
    for (const auto& [method, title] : method_titles) {
        if (name == method) return std::string(title);
    }
    return name;
}

std::string lower_case(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return text;
}

/// Splits "realsr-x4".
void set_dataset(Run& run, const std::string& dataset, const std::string& where) {
    const std::size_t mark = dataset.rfind("-x");
    const bool named = mark != std::string::npos && mark > 0;
    const std::string_view ratio = std::string_view(dataset).substr(named ? mark + 2 : 0);
    const double scale = named ? number_from_csv(ratio).value_or(0) : 0;
    require(scale > 0 && std::isfinite(scale), "{}, column dataset: \"{}\" is not SET-xSCALE",
            where, dataset);
    run.set = dataset.substr(0, mark);
    run.scale = scale;
}

/// Rows below lines that begin with '#'; "# source: ..." says where the numbers come from.
std::vector<Run> parse_published(std::string_view text, const std::string& name) {
    std::string source = name;
    std::size_t line = 1;
    for (; text.starts_with('#'); ++line) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view remark = text.substr(0, end);
        if (remark.ends_with('\r')) remark.remove_suffix(1);
        constexpr std::string_view mark = "# source: ";
        if (remark.starts_with(mark)) source = remark.substr(mark.size());
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    const std::vector<CsvRow> rows = parse_csv(text, name, line);
    require(!rows.empty(), "{} holds no rows", name);

    // Understand the head
    const std::string head = fmt::format("{}, line {}", name, rows[0].line);
    std::vector<std::string> metrics;  // empty where the column is none
    bool has_dataset = false, has_method = false;
    for (const std::string& column : rows[0].fields) {
        has_dataset |= column == "dataset";
        has_method |= column == "method";
        const bool plain =
            column == "table" || column == "dataset" || column == "method" || column == "title";
        metrics.push_back(plain ? "" : metric_of_column(column, head));
    }
    require(has_dataset, "{}: column \"dataset\" is missing", head);
    require(has_method, "{}: column \"method\" is missing", head);

    // Read the rows
    std::vector<Run> runs;
    for (std::size_t r = 1; r < rows.size(); ++r) {
        const std::string where = fmt::format("{}, line {}", name, rows[r].line);
        require(rows[r].fields.size() == metrics.size(), "{}: {} columns where the head has {}",
                where, rows[r].fields.size(), metrics.size());
        Run run;
        run.published = true;
        run.source = source;
        std::string title;
        for (std::size_t c = 0; c < metrics.size(); ++c) {
            const std::string& column = rows[0].fields[c];
            const std::string& cell = rows[r].fields[c];
            if (column == "dataset") set_dataset(run, cell, where);
            if (column == "method") run.label = title_of_method(cell);
            if (column == "title") title = cell;
            if (column == "table" && !cell.empty()) run.source += ", Table " + cell;
            if (metrics[c].empty() || cell.empty()) continue;
            const auto value = number_from_csv(cell);
            require(value && std::isfinite(*value), "{}, column {}: \"{}\" is not a number", where,
                    column, cell);
            MetricSummary summary;
            summary.metric = metrics[c];
            summary.mean = *value;
            summary.std = summary.ci_low = summary.ci_high = nan;
            summary.settings["printed"] = cell;
            run.metrics.push_back(std::move(summary));
        }
        if (!title.empty()) run.label = title;
        require(!run.label.empty(), "{}, column method: empty", where);
        runs.push_back(std::move(run));
    }
    return runs;
}

}  // namespace

MetricSummary summarise(const std::string& metric, const std::vector<double>& values,
                        std::uint64_t seed) {
    MetricSummary summary;
    summary.metric = metric;
    summary.count = values.size();
    std::vector<double> defined;
    std::copy_if(values.begin(), values.end(), std::back_inserter(defined),
                 [](double v) { return !std::isnan(v); });
    summary.nan = values.size() - defined.size();
    if (defined.empty()) {
        summary.mean = summary.std = summary.ci_low = summary.ci_high = nan;
        return summary;
    }
    summary.mean = mean_of(defined);
    summary.std = deviation_of(defined, summary.mean);

    // Draw the resamples; the same pictures for every metric of a run
    std::vector<double> means(resamples);
    const auto bound = static_cast<std::uint32_t>(defined.size());
    for (std::size_t i = 0; i < means.size(); ++i) {
        Rng rng(seed, i);
        double sum = 0;
        for (std::size_t k = 0; k < defined.size(); ++k) sum += defined[rng.below(bound)];
        means[i] = sum / static_cast<double>(defined.size());
    }
    std::sort(means.begin(), means.end());
    summary.ci_low = percentile(means, 0.025);
    summary.ci_high = percentile(means, 0.975);
    return summary;
}

Json to_json(const Results& results) {
    const ToolVersion tool = tool_version();
    Json json;
    json["format"] = "ultrasr-results";
    json["version"] = 1;
    json["tool"] = {{"name", "ultrasr-bench"}, {"version", tool.version}, {"commit", tool.commit}};
    json["command"] = results.command;
    json["runs"] = Json::array();
    for (const Run& run : results.runs) json["runs"].push_back(run_json(run));
    return json;
}

Results results_from_json(const Json& json, const std::string& name) {
    const Reader top{json, name + ":"};
    const std::string format = top.at("format").text();
    require(format == "ultrasr-results", "{} is of the format \"{}\", not \"ultrasr-results\"",
            name, format);
    const Json& version = top.at("version").json;
    require(version == 1, "{} is of version {} of its format; this program reads version 1", name,
            dump_json_line(version));
    Results results;
    results.command = top.at("command").text();
    for (const Reader& run : top.at("runs").list()) results.runs.push_back(run_from(run));
    return results;
}

Results read_results(const std::filesystem::path& folder) {
    const std::string name = (folder / "results.json").string();
    return results_from_json(parse_json(read_file(name), name), name);
}

std::string to_csv(const ScoreTable& table) {
    std::string text = "image";
    for (const std::string& metric : table.metrics) text += "," + csv_field(metric);
    text += "\n";
    for (std::size_t i = 0; i < table.images.size(); ++i) {
        text += csv_field(table.images[i]);
        for (const double value : table.values.at(i)) text += "," + csv_number(value);
        text += "\n";
    }
    return text;
}

ScoreTable read_score_table(const std::filesystem::path& file) {
    const std::string name = file.string();
    const std::vector<CsvRow> rows = parse_csv(read_file(file), name);
    require(!rows.empty() && rows[0].fields[0] == "image",
            "{} is not a table of scores: its first column must be \"image\"", name);
    ScoreTable table;
    table.metrics.assign(rows[0].fields.begin() + 1, rows[0].fields.end());
    for (std::size_t r = 1; r < rows.size(); ++r) {
        const std::vector<std::string>& fields = rows[r].fields;
        require(fields.size() == table.metrics.size() + 1,
                "{}, line {}: {} columns where the head has {}", name, rows[r].line, fields.size(),
                table.metrics.size() + 1);
        table.images.push_back(fields[0]);
        std::vector<double>& values = table.values.emplace_back();
        for (std::size_t c = 1; c < fields.size(); ++c) {
            const auto value = number_from_csv(fields[c]);
            require(value.has_value(), "{}, line {}, column {}: \"{}\" is not a number", name,
                    rows[r].line, table.metrics[c - 1], fields[c]);
            values.push_back(*value);
        }
    }
    return table;
}

std::vector<Run> read_published(const std::string& file) {
    if (file == "paper") return parse_published(sdd_paper_csv, "the SDD paper's table");
    return parse_published(read_file(file), file);
}

std::string dataset_name(const Run& run) {
    return fmt::format("{}-x{}", lower_case(run.set), run.scale);
}

}  // namespace ultrasr
