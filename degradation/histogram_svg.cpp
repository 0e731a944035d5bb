#include "degradation/histogram_svg.h"

#include <algorithm>
#include <fmt/format.h>

#include "data/markup.h"

namespace ultrasr {
namespace {

constexpr int columns = 4, cell_width = 250, cell_height = 130, margin = 20, top = 48;
constexpr int plot_width = 215, plot_height = 64;
constexpr char source_colour[] = "#2b6cb0", against_colour[] = "#dd6b20";

double share(const Json& bins, std::size_t i, double total) {
    return total > 0 ? bins[i].get<double>() / total : 0;
}
double total_of(const Json& bins) {
    double sum = 0;
    for (const Json& count : bins) sum += count.get<double>();
    return sum;
}

/// Bars of the source, steps of the other, both as shares on one scale.
std::string plot(const Json& q, int x, int y) {
    const Json& bins = q["source"]["bins"];
    const bool both = q.contains("against") && q["against"].contains("bins");
    const double total = total_of(bins), other = both ? total_of(q["against"]["bins"]) : 0;
    double most = 1e-9;
    for (std::size_t i = 0; i < bins.size(); ++i) {
        most = std::max(most, share(bins, i, total));
        if (both) most = std::max(most, share(q["against"]["bins"], i, other));
    }
    const double step = static_cast<double>(plot_width) / static_cast<double>(bins.size());
    std::string out;
    for (std::size_t i = 0; i < bins.size(); ++i) {
        const double h = share(bins, i, total) / most * plot_height;
        if (h <= 0) continue;
        out += fmt::format(
            "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
            "fill=\"{}\" fill-opacity=\"0.75\"/>",
            x + step * static_cast<double>(i), y + plot_height - h, step - 1, h, source_colour);
    }
    if (both) {
        std::string path;
        for (std::size_t i = 0; i < bins.size(); ++i) {
            const double level =
                y + plot_height - share(q["against"]["bins"], i, other) / most * plot_height;
            path += fmt::format("{}{:.1f} {:.1f} H{:.1f} ", i == 0 ? "M" : "L",
                                x + step * static_cast<double>(i), level,
                                x + step * static_cast<double>(i + 1));
        }
        out += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>",
                           path, against_colour);
    }
    return out + fmt::format("<path d=\"M{} {} H{}\" stroke=\"#999\"/>", x, y + plot_height,
                             x + plot_width);
}

}  // namespace

std::string histogram_svg(const Json& quantities, const std::string& source,
                          const std::string& against) {
    const int rows = (static_cast<int>(quantities.size()) + columns - 1) / columns;
    const int width = 2 * margin + columns * cell_width;
    const int height = top + rows * cell_height + margin;
    std::string svg = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
        "{1}\" font-family=\"system-ui, sans-serif\" font-size=\"11\">\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        "<rect x=\"{2}\" y=\"16\" width=\"12\" height=\"12\" fill=\"{3}\" fill-opacity=\"0.75\"/>"
        "<text x=\"{4}\" y=\"27\" font-size=\"13\">{5}</text>\n",
        width, height, margin, source_colour, margin + 18, escape_markup(source));
    if (!against.empty()) {
        svg += fmt::format(
            "<path d=\"M{} 22 h14\" stroke=\"{}\" stroke-width=\"2\"/><text x=\"{}\" y=\"27\" "
            "font-size=\"13\">{}</text>\n",
            width / 2, against_colour, width / 2 + 20, escape_markup(against));
    }
    int i = 0;
    for (const auto& [name, q] : quantities.items()) {
        const int x = margin + i % columns * cell_width, y = top + i / columns * cell_height;
        ++i;
        svg += fmt::format("<text x=\"{}\" y=\"{}\" font-weight=\"600\" font-size=\"{}\">{}</text>",
                           x, y + 11, name.size() > 22 ? 9 : 11, escape_markup(name));
        if (q.contains("ks")) {
            svg += fmt::format(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#555\">KS "
                "{:.3f}</text>",
                x + plot_width, y + 11, q["ks"].get<double>());
        }
        svg += plot(q, x, y + 20);
        const int under = y + 20 + plot_height + 13;
        svg += fmt::format(
            "<text x=\"{}\" y=\"{}\" fill=\"#555\">{:.4g}</text><text x=\"{}\" y=\"{}\" "
            "text-anchor=\"middle\" fill=\"#555\">mean {:.4g}</text><text x=\"{}\" y=\"{}\" "
            "text-anchor=\"end\" fill=\"#555\">{:.4g}</text>\n",
            x, under, q["low"].get<double>(), x + plot_width / 2, under,
            q["source"]["mean"].get<double>(), x + plot_width, under, q["high"].get<double>());
    }
    return svg + "</svg>\n";
}

}  // namespace ultrasr
