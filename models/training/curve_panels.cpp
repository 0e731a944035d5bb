#include "models/training/curve_panels.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

namespace ultrasr {
namespace {

constexpr double huge = 1e150;  // larger values are drawn as this, smaller ones than 1/huge as 0

void add_point(CurvePanel& panel, const std::string& name, std::int64_t step, double value) {
    auto found = std::find_if(panel.series.begin(), panel.series.end(),
                              [&](const CurveSeries& s) { return s.name == name; });
    if (found == panel.series.end()) found = panel.series.insert(found, {name, {}});
    if (std::isfinite(value)) value = std::clamp(value, -huge, huge);
    if (std::abs(value) < 1 / huge) value = 0;
    found->points.push_back({std::max<std::int64_t>(step, 0), value});
}

/// Underscores stand for spaces in names.
std::string words_of(std::string_view name) {
    std::string words(name);
    std::replace(words.begin(), words.end(), '_', ' ');
    return words;
}

/// What names of one panel begin with: their first word, or "pairs" with the next one.
std::string_view first_word(std::string_view name) {
    const std::size_t before = name.starts_with("pairs_") ? 6 : 0;
    return name.substr(0, name.find('_', before));
}

/// What lies between 0 and 1 by its nature.
bool is_share(std::string_view name) {
    return name.ends_with("accuracy") || name.ends_with("share");
}

bool is_constant(const CurvePanel& panel) {
    for (const CurveSeries& s : panel.series) {
        for (const CurvePoint& p : s.points) {
            if (p.value != s.points.front().value) return false;
        }
    }
    return true;
}

/// `more` or its validations: a panel for the names with one first word.
std::vector<CurvePanel> panels_of_more(const CurveStage& stage, bool validation) {
    constexpr std::string_view mark = "val_";
    std::vector<CurvePanel> panels;
    for (const LogLine* line : stage.lines) {
        for (const auto& [key, value] : line->more) {
            std::string_view name = key;
            if (name.starts_with(mark) != validation) continue;
            if (validation) name.remove_prefix(mark.size());
            const std::string word(first_word(name));
            auto found = std::find_if(panels.begin(), panels.end(),
                                      [&](const CurvePanel& p) { return p.title == word; });
            if (found == panels.end()) {
                found = panels.insert(
                    found,
                    {word,
                     word.ends_with("psnr") || word.find("psnr-") != std::string::npos ? "dB" : "",
                     is_share(name),
                     validation,
                     {}});
            }
            add_point(*found, std::string(name), line->step, value);
        }
    }
    for (CurvePanel& panel : panels) {
        // "distance: positive, negative" says the common word once
        const std::string word = panel.title;
        if (panel.series.size() == 1) panel.title = panel.series.front().name;
        for (CurveSeries& s : panel.series) {
            if (s.name.size() > word.size() + 1) s.name.erase(0, word.size() + 1);
        }
        if (validation) panel.title = "validation: " + panel.title;
    }
    return panels;
}

std::vector<CurvePanel> panels_of(const CurveStage& stage) {
    CurvePanel loss{.title = "loss", .unit = {}, .series = {}};
    CurvePanel gradient{.title = "gradient norm", .unit = "before clipping", .series = {}};
    CurvePanel rate{.title = "learning rate", .unit = {}, .linear = true, .series = {}};
    CurvePanel speed{.title = "speed", .unit = "images/s", .linear = true, .series = {}};
    CurvePanel wait{
        .title = "waiting for data", .unit = "% of the time", .linear = true, .series = {}};
    for (const LogLine* line : stage.lines) {
        for (const auto& [name, value] : line->losses) add_point(loss, name, line->step, value);
        const auto add = [&](CurvePanel& panel, const std::optional<double>& value, double factor) {
            if (value) add_point(panel, panel.title, line->step, factor * *value);
        };
        add(gradient, line->gradient_norm, 1.0);
        add(rate, line->learning_rate, 1.0);
        add(speed, line->images_per_second, 1.0);
        add(wait, line->wait_share, 100.0);
    }
    if (is_constant(rate)) rate.series.clear();
    std::vector<CurvePanel> panels{loss};
    for (const bool validation : {true, false}) {
        for (CurvePanel& panel : panels_of_more(stage, validation))
            panels.push_back(std::move(panel));
    }
    for (CurvePanel* panel : {&gradient, &rate, &speed, &wait}) panels.push_back(std::move(*panel));
    std::erase_if(panels, [](const CurvePanel& panel) { return panel.series.empty(); });
    for (CurvePanel& panel : panels) {
        panel.title = words_of(panel.title);
        for (CurveSeries& s : panel.series) {
            s.name = words_of(s.name);
            std::stable_sort(
                s.points.begin(), s.points.end(),
                [](const CurvePoint& a, const CurvePoint& b) { return a.step < b.step; });
        }
    }
    return panels;
}

}  // namespace

std::vector<CurveStage> curve_stages(std::span<const LogLine> lines) {
    std::vector<CurveStage> stages;
    for (const LogLine& line : lines) {
        auto found = std::find_if(stages.begin(), stages.end(),
                                  [&](const CurveStage& s) { return s.name == line.stage; });
        if (found == stages.end()) found = stages.insert(found, {line.stage, {}, {}});
        found->lines.push_back(&line);
    }
    for (CurveStage& stage : stages) stage.panels = panels_of(stage);
    return stages;
}

}  // namespace ultrasr
