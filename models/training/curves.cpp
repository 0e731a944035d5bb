#include "models/training/curves.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "data/file.h"
#include "data/markup.h"
#include "models/training/axis.h"
#include "models/training/curve_panels.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr int margin = 20, page_top = 46, stage_title = 34;
constexpr int columns = 3, cell_width = 350, cell_height = 210;
constexpr int plot_left = 50, plot_width = 282, plot_height = 112, plot_top = 50;
constexpr std::size_t colours = 6;
constexpr std::size_t most_bytes = 290'000;   // of the whole file
constexpr std::size_t smoothed_points = 140;  // two pixels apart
constexpr std::size_t fewest_to_smooth = 20;  // values
constexpr double share_to_smooth = 1.0 / 40;  // of a series

/// Colours that stay apart for colour-blind eyes too, on white and on a dark page.
constexpr std::string_view style = R"(<style>
.paper{fill:#fff}text{fill:#222}.soft{fill:#666}.grid{stroke:#e4e4e4}.axis{stroke:#999}.bad{fill:#d00}
.raw{fill:none;stroke-opacity:.28}.line,.raw{fill:none;stroke-linecap:round;stroke-linejoin:round}
.s0{stroke:#2b6cb0}.s1{stroke:#dd6b20}.s2{stroke:#2f855a}.s3{stroke:#805ad5}.s4{stroke:#b83280}.s5{stroke:#6b5b2e}
.dot{fill:none;stroke-linecap:round}
@media(prefers-color-scheme:dark){.paper{fill:#16181c}text{fill:#e8e8e8}.soft{fill:#a4a8b0}.grid{stroke:#2c3038}
.axis{stroke:#767c88}.bad{fill:#ff6b6b}.raw{stroke-opacity:.38}
.s0{stroke:#63b3ed}.s1{stroke:#f6ad55}.s2{stroke:#68d391}.s3{stroke:#b794f4}.s4{stroke:#f687b3}.s5{stroke:#d6c27a}}
</style>
)";

Axis value_axis(const CurvePanel& panel) {
    std::vector<double> values, positive;
    for (const CurveSeries& s : panel.series) {
        for (const CurvePoint& p : s.points) {
            if (!std::isfinite(p.value)) continue;
            values.push_back(p.value);
            if (p.value > 0) positive.push_back(p.value);
        }
    }
    if (values.empty()) return {};  // an empty panel with red ticks
    auto [least, most] = std::minmax_element(values.begin(), values.end());
    double low = *least, high = *most;
    if (!panel.linear && low >= 0 && 2 * positive.size() > values.size()) {
        // A few tiny values may not stretch the axis: they stand at its foot, as zeros do
        const auto rank = static_cast<std::ptrdiff_t>(positive.size() / 100);
        std::nth_element(positive.begin(), positive.begin() + rank, positive.end());
        const double usual = positive[static_cast<std::size_t>(rank)];
        const double foot = std::max(*std::min_element(positive.begin(), positive.end()),
                                     std::max(usual / 10, high * 1e-12));
        if (high / foot > 100) return log_axis(foot, high);
    }
    if (high - low <= 1e-9 * std::max(std::abs(low), std::abs(high))) {
        const double room = low == 0 ? 1.0 : 0.1 * std::abs(low);
        return linear_axis(low - room, high + room, 4, false);
    }
    // From zero where that costs little room
    if (low > 0 && low < 0.4 * high) low = 0;
    const double room = 0.05 * (high - low);
    return linear_axis(low == 0 ? 0 : low - room, high + room, 4, false);
}

// ---- Lines ----

/// A path in tenths of a pixel, with relative steps: half the bytes of absolute ones.
class Path {
  public:
    void gap() { open_ = false; }
    void to(double x, double y) {
        const auto px = static_cast<std::int64_t>(std::llround(10 * x * plot_width));
        const auto py = static_cast<std::int64_t>(std::llround(10 * (1 - y) * plot_height));
        if (!open_) {
            text_ += fmt::format("M{} {}h0", px, py);  // a dot, should nothing follow
            open_ = true;
        } else {
            text_ += fmt::format("l{}{}{}", px - x_, py - y_ < 0 ? "" : " ", py - y_);
        }
        x_ = px;
        y_ = py;
        ++points_;
    }
    std::string element(std::string_view classes, double width) const {
        if (points_ == 0) return {};
        return fmt::format("<path class=\"{}\" stroke-width=\"{:.0f}\" d=\"{}\"/>\n", classes,
                           10 * width, text_);
    }

  private:
    std::string text_;
    std::int64_t x_ = 0, y_ = 0;
    std::size_t points_ = 0;
    bool open_ = false;
};

/// Every value, or of each of `spots` stretches of the x-axis the lowest and the highest one.
Path raw_path(const CurveSeries& s, const Axis& x, const Axis& y, std::size_t spots) {
    Path path;
    const auto draw = [&](const CurvePoint& p) {
        path.to(x.at(static_cast<double>(p.step)), y.at(p.value));
    };
    const std::vector<CurvePoint>& all = s.points;
    if (all.size() <= 2 * spots) {
        for (const CurvePoint& p : all) {
            if (std::isfinite(p.value)) {
                draw(p);
            } else {
                path.gap();
            }
        }
        return path;
    }
    const auto spot_of = [&](const CurvePoint& p) {
        const double at = x.at(static_cast<double>(p.step));
        return std::min(spots - 1, static_cast<std::size_t>(at * static_cast<double>(spots)));
    };
    for (std::size_t begin = 0, end = 0; begin < all.size(); begin = end) {
        const CurvePoint *low = nullptr, *high = nullptr;
        for (; end < all.size() && spot_of(all[end]) == spot_of(all[begin]); ++end) {
            const CurvePoint& p = all[end];
            if (!std::isfinite(p.value)) continue;
            if (!low || p.value < low->value) low = &p;
            if (!high || p.value > high->value) high = &p;
        }
        if (!low) {
            path.gap();
            continue;
        }
        draw(*std::min(low, high));  // in the order of the steps: both point into `all`
        if (low != high) draw(*std::max(low, high));
    }
    return path;
}

/// How many values a mean takes; odd.
std::size_t width_of_mean(std::size_t count) {
    return 2 * static_cast<std::size_t>(static_cast<double>(count) * share_to_smooth / 2) + 1;
}

/// Means over the neighbourhood of every value, or of values evenly picked; those that are not
/// finite are left out of a mean, and a gap where no other is left.
Path smooth_path(const CurveSeries& s, const Axis& x, const Axis& y) {
    Path path;
    const std::vector<CurvePoint>& all = s.points;
    const std::size_t half = width_of_mean(all.size()) / 2;
    const std::size_t count = std::min(all.size(), smoothed_points);
    for (std::size_t k = 0; k < count; ++k) {
        const std::size_t i = count == 1 ? 0 : k * (all.size() - 1) / (count - 1);
        const std::size_t first = i - std::min(i, half);  // less of a neighbourhood at the ends
        const std::size_t last = std::min(i + half, all.size() - 1);
        double sum = 0;
        std::size_t finite = 0;
        for (std::size_t j = first; j <= last; ++j) {
            if (!std::isfinite(all[j].value)) continue;
            sum += all[j].value;
            ++finite;
        }
        if (finite == 0) {
            path.gap();
        } else {
            path.to(x.at(static_cast<double>(all[i].step)),
                    y.at(sum / static_cast<double>(finite)));
        }
    }
    return path;
}

/// Red ticks at the top where a value was not finite, one a pixel at most.
std::string red_ticks(const CurvePanel& panel, const Axis& x, int left, int top) {
    std::array<bool, plot_width + 1> bad{};
    for (const CurveSeries& s : panel.series) {
        for (const CurvePoint& p : s.points) {
            if (std::isfinite(p.value)) continue;
            bad[static_cast<std::size_t>(
                std::lround(x.at(static_cast<double>(p.step)) * plot_width))] = true;
        }
    }
    std::string text;
    for (std::size_t i = 0; i < bad.size(); ++i) {
        if (!bad[i]) continue;
        std::size_t end = i;
        while (end < bad.size() && bad[end]) ++end;  // a block of them as one bar
        text += fmt::format("M{} {}h{}v6h-{}z", left + static_cast<int>(i) - 1, top, end - i + 1,
                            end - i + 1);
        i = end;
    }
    return text.empty() ? text : fmt::format("<path class=\"bad\" d=\"{}\"/>\n", text);
}

/// Grid, ticks and their numbers.
std::string frame(const Axis& x, const Axis& y, int left, int top) {
    const int bottom = top + plot_height, right = left + plot_width;
    std::string grid, small, text;
    for (const Axis::Tick& tick : y.ticks) {
        const double at = bottom - tick.at * plot_height;
        grid += fmt::format("M{} {:.1f}H{}", left, at, right);
        text +=
            fmt::format("<text class=\"soft\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>",
                        left - 5, at + 3.5, tick.text);
    }
    for (const double at : y.small_ticks) {
        small += fmt::format("M{} {:.1f}h3", left, bottom - at * plot_height);
    }
    for (const Axis::Tick& tick : x.ticks) {
        const double at = left + tick.at * plot_width;
        small += fmt::format("M{:.1f} {}v3", at, bottom);
        text += fmt::format(
            "<text class=\"soft\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>", at,
            bottom + 15, tick.text);
    }
    return fmt::format(
        "<path class=\"grid\" fill=\"none\" d=\"{}\"/><path class=\"axis\" fill=\"none\" "
        "d=\"{}M{} {}V{}H{}\"/>\n{}<text class=\"soft\" x=\"{}\" y=\"{}\" "
        "text-anchor=\"end\">step</text>\n",
        grid, small, left, top, bottom, right, text, right, bottom + 27);
}

/// The last finite value, as short as it can be told.
std::string last_value(const CurveSeries& s) {
    for (auto p = s.points.rbegin(); p != s.points.rend(); ++p) {
        if (std::isfinite(p->value)) return tick_text(std::stod(fmt::format("{:.3g}", p->value)));
    }
    return "never finite";
}

/// What each colour is, with its last value, in one row or two.
std::string legend(const CurvePanel& panel, int left, int top) {
    const auto draw = [&](int rows) {
        std::string svg;
        int at = 0, row = 0;
        for (std::size_t i = 0; i < panel.series.size(); ++i) {
            const CurveSeries& s = panel.series[i];
            const std::string name = panel.series.size() > 1 ? s.name : "last";
            const std::string value = last_value(s);
            const int text_width = 32 + static_cast<int>(6 * (name.size() + value.size()));
            if (at > 0 && at + text_width > plot_left + plot_width) {
                at = 0;
                if (++row == rows) return rows == 1 ? std::string{} : svg;
            }
            const int x = left + at, y = top + (rows == 1 ? 33 : 29 + 13 * row);
            svg += fmt::format(
                "<path class=\"line s{}\" stroke-width=\"2.5\" d=\"M{} {}h10\"/><text x=\"{}\" "
                "y=\"{}\">{}<tspan class=\"soft\" dx=\"4\">{}</tspan></text>",
                i % colours, x + 1, y - 4, x + 15, y, escape_markup(name), value);
            at += text_width;
        }
        return svg;
    };
    const std::string one_row = draw(1);
    return one_row.empty() ? draw(2) : one_row;  // what fits into neither is left out
}

std::string draw_panel(const CurvePanel& panel, std::int64_t last_step, int left, int top,
                       std::size_t spots) {
    const Axis x =
        linear_axis(0, static_cast<double>(std::max<std::int64_t>(last_step, 1)), 5, true);
    const Axis y = value_axis(panel);
    std::string note = panel.unit;
    if (y.log) note += note.empty() ? "log scale" : ", log scale";
    std::string svg = fmt::format(
        "<text x=\"{}\" y=\"{}\" font-size=\"12\" font-weight=\"600\">{}</text><text "
        "class=\"soft\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
        left, top + 14, escape_markup(panel.title), left + plot_left + plot_width, top + 14,
        escape_markup(note));

    svg += legend(panel, left, top) + "\n";

    const int plot_x = left + plot_left, plot_y = top + plot_top;
    svg += frame(x, y, plot_x, plot_y);
    svg += fmt::format("<g transform=\"translate({} {}) scale(.1)\">\n", plot_x, plot_y);
    std::string above;
    for (std::size_t i = 0; i < panel.series.size(); ++i) {
        const CurveSeries& s = panel.series[i];
        const std::string colour = fmt::format(" s{}", i % colours);
        const Path raw = raw_path(s, x, y, spots);
        if (panel.dots || s.points.size() < fewest_to_smooth) {
            svg += raw.element("line" + colour, 1.5);
            if (s.points.size() > 60) continue;  // dots would hide the line
            Path dots;
            for (const CurvePoint& p : s.points) {
                dots.gap();
                if (std::isfinite(p.value)) {
                    dots.to(x.at(static_cast<double>(p.step)), y.at(p.value));
                }
            }
            above += dots.element("dot" + colour, 5);
        } else {
            svg += raw.element("raw" + colour, 1);
            above += smooth_path(s, x, y).element("line" + colour, 1.8);
        }
    }
    return svg + above + "</g>\n" + red_ticks(panel, x, plot_x, plot_y);
}

/// "rsd", and beside it how far it is and what is not a curve.
std::string stage_heading(const CurveStage& stage, int y) {
    std::int64_t step = 0, steps = 0, skipped = 0, memory = 0;
    for (const LogLine* line : stage.lines) {
        step = std::max(step, line->step);
        steps = std::max(steps, line->steps);
        skipped = std::max(skipped, line->skipped);
        memory = std::max(memory, line->memory_mb.value_or(0));
    }
    std::string text = fmt::format("step {} of {}", tick_text(static_cast<double>(step)),
                                   tick_text(static_cast<double>(steps)));
    if (memory > 0) {
        text += fmt::format(", peak memory {} MiB", tick_text(static_cast<double>(memory)));
    }
    if (skipped > 0) text += fmt::format(", {} skipped as not finite", skipped);
    return fmt::format(
        "<path class=\"grid\" d=\"M{} {}h{}\"/><text x=\"{}\" y=\"{}\" font-size=\"14\" "
        "font-weight=\"600\">{} <tspan class=\"soft\" dx=\"8\" font-size=\"12\" "
        "font-weight=\"400\">{}</tspan></text>\n",
        margin, y, columns * cell_width, margin, y + 22, escape_markup(stage.name), text);
}

int height_of(const CurveStage& stage) {
    const int rows = (static_cast<int>(stage.panels.size()) + columns - 1) / columns;
    return stage_title + rows * cell_height;
}

/// spots  of the x-axis, with two points each
std::string draw_page(const std::vector<CurveStage>& stages, std::size_t spots) {
    const int width = 2 * margin + columns * cell_width;
    int height = page_top + margin;
    for (const CurveStage& stage : stages) height += height_of(stage);
    std::string svg = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
        "{1}\" font-family=\"system-ui, sans-serif\" font-size=\"11\" role=\"img\">\n"
        "<title>Training curves</title>\n{2}<rect class=\"paper\" width=\"100%\" "
        "height=\"100%\"/>\n"
        "<text x=\"{3}\" y=\"30\" font-size=\"15\" font-weight=\"600\">Training curves<tspan "
        "class=\"soft\" dx=\"12\" font-size=\"11\" font-weight=\"400\">{4}</tspan></text>\n",
        width, height, style, margin,
        stages.empty() ? "no step is logged yet"
                       : "faint: every logged value; bold: centred mean over 1/40 of the lines; "
                         "dots: single values; red: not finite");
    int y = page_top;
    for (const CurveStage& stage : stages) {
        svg += stage_heading(stage, y);
        std::int64_t last_step = 0;
        for (const LogLine* line : stage.lines) last_step = std::max(last_step, line->step);
        for (std::size_t i = 0; i < stage.panels.size(); ++i) {
            const int column = static_cast<int>(i) % columns, row = static_cast<int>(i) / columns;
            svg += draw_panel(stage.panels[i], last_step, margin + column * cell_width,
                              y + stage_title + row * cell_height, spots);
        }
        y += height_of(stage);
    }
    return svg + "</svg>\n";
}

}  // namespace

std::string curves_svg(std::span<const LogLine> lines) {
    const std::vector<CurveStage> stages = curve_stages(lines);
    std::size_t spots = plot_width;  // one a pixel, fewer where there are very many panels
    std::string svg = draw_page(stages, spots);
    while (svg.size() > most_bytes && spots > 20) {
        spots = spots * 3 / 4;
        svg = draw_page(stages, spots);
    }
    return svg;
}

void write_curves(const fs::path& log, const fs::path& svg) {
    write_file(svg, curves_svg(read_log(log)));
}

}  // namespace ultrasr
