#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <opencv2/imgproc.hpp>

#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/image_io.h"
#include "data/markup.h"
#include "data/pair_dataset.h"
#include "leaderboard/detail.h"
#include "leaderboard/render.h"
#include "leaderboard/table_layout.h"

namespace ultrasr {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t gallery_pictures = 8;  // a set
constexpr int thumbnail_side = 256;          // longer side, pixels
constexpr int detail_side = 128;             // pixels, shown twice as large
constexpr int thumbnail_quality = 82;        // JPEG
constexpr int detail_quality = 92;
constexpr std::string_view dash = "\u2013";

constexpr std::string_view page_style = R"(
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem; }
p, .notes { max-width: 52rem; }
h4 { font-size: .95rem; margin: 0 0 .3rem; }
.strip { display: grid; grid-template-columns: repeat(var(--columns), minmax(160px, 256px));
         gap: .5rem; margin: 0 0 1.8rem; overflow-x: auto; align-items: end; }
figure { margin: 0; }
figcaption { font-size: 13px; overflow-wrap: anywhere; margin-bottom: .2rem; }
figcaption small { display: block; color: var(--faint); font-variant-numeric: tabular-nums; }
.whole { position: relative; display: inline-block; line-height: 0; }
.whole img, .detail { max-width: 100%; height: auto; }
.frame { position: absolute; box-sizing: border-box; border: 1px solid #fff; outline: 1px solid #000; }
@media (min-width: 1880px) { .detail { image-rendering: pixelated; } }
.gap { display: flex; align-items: center; justify-content: center; min-height: 128px;
       border: 1px dashed var(--line); color: var(--faint); font-size: 13px; }
details { margin: .6rem 0; } summary { cursor: pointer; }
.sortable thead th { cursor: pointer; }
pre, code { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; border: 1px solid var(--line); padding: .6rem; }
.runs td, .runs th { font-size: 13px; } .bad { color: #c0392b; font-weight: 600; }
)";

// A click on a column's head sorts by it; without a script the tables keep their order.
constexpr std::string_view page_script = R"(
for (const table of document.querySelectorAll('table.sortable'))
  table.tHead.querySelectorAll('th').forEach((head, column) => head.addEventListener('click', () => {
    const up = head.dataset.up = head.dataset.up === '1' ? '0' : '1';
    const value = row => row.cells[column].textContent;
    const number = text => { const n = parseFloat(text); return text === 'inf' ? Infinity : n; };
    const body = table.tBodies[0];
    [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b), m = number(x), n = number(y);
      const order = column === 0 ? x.localeCompare(y)
                                 : (isNaN(m) ? 1 : 0) - (isNaN(n) ? 1 : 0) || m - n;
      return up === '1' ? order : -order;
    }).forEach(row => body.append(row));
  }));
)";

std::string base64(std::string_view bytes) {
    static constexpr std::string_view digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
        std::uint32_t word = 0;
        for (std::size_t k = 0; k < 3; ++k) {
            word = word << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0u);
        }
        for (std::size_t k = 0; k < 4; ++k) {
            text += k <= count ? digits[word >> (18 - 6 * k) & 63] : '=';
        }
    }
    return text;
}

// ---- Pictures ----

/// The picture, or nothing when the file is missing or broken: the page shows a gap then.
std::optional<Image> try_read(const fs::path& path) {
    if (path.empty()) return std::nullopt;
    try {
        return read_picture(path).image;
    } catch (const Error& error) {
        if (error.fault() != Fault::input) throw;
        return std::nullopt;
    }
}

/// The restored picture of a stem: STEM.png as the benchmark writes it, or with a known tail.
fs::path find_restored(const PageRun& run, const std::string& stem) {
    const fs::path usual = run.images / (stem + ".png");
    if (fs::is_regular_file(usual)) return usual;
    if (!fs::is_directory(run.images)) return {};
    try {
        return match_stems({stem}, list_images(run.images), "restored picture", run.run.label)
            .files.at(0);
    } catch (const Error& error) {
        if (error.fault() != Fault::input) throw;
        return {};
    }
}

/// At most thumbnail_side on the longer side; small pictures stay as they are.
Image thumbnail(const Image& image) {
    const int longer = std::max(image.width(), image.height());
    if (longer <= thumbnail_side) return image;
    const auto scaled = [&](int side) {
        return std::max(1, static_cast<int>(std::lround(double(side) * thumbnail_side / longer)));
    };
    cv::Mat small;
    cv::resize(image.mat(), small, {scaled(image.width()), scaled(image.height())}, 0, 0,
               cv::INTER_AREA);
    return Image(small, image.encoding());
}

/// `zoom` CSS pixels for each of the picture's.
std::string image_tag(const Image& image, int quality, int zoom, const std::string& css_class,
                      const std::string& alt) {
    return fmt::format(
        "<img{} width=\"{}\" height=\"{}\" alt=\"{}\" src=\"data:image/jpeg;base64,{}\">",
        css_class.empty() ? "" : fmt::format(" class=\"{}\"", css_class), zoom * image.width(),
        zoom * image.height(), escape_markup(alt), base64(encode_jpeg(image, quality)));
}

/// One picture of one method: whole, with a frame around the detail, and the detail.
std::string figure(const std::optional<Image>& image, PixelSize size, const PixelRect& detail,
                   const std::string& stem, const std::string& label, const std::string& scores) {
    std::string text = fmt::format("<figure><figcaption>{}<small>{}</small></figcaption>",
                                   escape_markup(label), escape_markup(scores));
    if (!image || image->size() != size) {
        return text + fmt::format("<div class=\"gap\">{}</div></figure>\n",
                                  image ? "of another size" : "no picture");
    }
    const std::string alt = fmt::format("{}, {}", stem, label);
    const auto percent = [](int part, int of) { return 100.0 * part / of; };
    return text +
           fmt::format(
               "<div class=\"whole\">{}<span class=\"frame\" style=\"left:{:.2f}%;top:{:.2f}%;"
               "width:{:.2f}%;height:{:.2f}%\"></span></div>{}</figure>\n",
               image_tag(thumbnail(*image), thumbnail_quality, 1, "", alt),
               percent(detail.x, size.width), percent(detail.y, size.height),
               percent(detail.width, size.width), percent(detail.height, size.height),
               image_tag(crop(*image, detail), detail_quality, 2, "detail", alt + ", detail"));
}

// ---- Sets and scores ----

/// The runs and pictures of one set at one scale.
struct SetPage {
    std::string name;
    double scale = 0;
    std::vector<const PageRun*> runs;
    std::vector<const PagePicture*> pictures;
    std::string title() const { return fmt::format("{} \u00D7{}", escape_markup(name), scale); }
};

std::vector<SetPage> sort_into_sets(const std::vector<PageRun>& runs,
                                    const std::vector<PagePicture>& pictures) {
    std::vector<SetPage> sets;
    for (const PageRun& run : runs) {
        auto set = std::find_if(sets.begin(), sets.end(), [&](const SetPage& s) {
            return s.name == run.run.set && s.scale == run.run.scale;
        });
        if (set == sets.end()) {
            set = sets.insert(sets.end(), SetPage{run.run.set, run.run.scale, {}, {}});
            for (const PagePicture& picture : pictures) {
                if (picture.set == set->name && picture.scale == set->scale) {
                    set->pictures.push_back(&picture);
                }
            }
        }
        set->runs.push_back(&run);
    }
    return sets;
}

/// "a.png" and "a" both belong to the stem "a".
bool names_stem(const std::string& image, const std::string& stem) {
    return image == stem || fs::path(image).stem() == stem;
}

/// "PSNR 25.69, SSIM 0.7616" of one picture; empty when it has no scores.
std::string scores_of(const ScoreTable& table, const std::string& stem) {
    const auto found = std::find_if(table.images.begin(), table.images.end(),
                                    [&](const auto& image) { return names_stem(image, stem); });
    if (found == table.images.end()) return "";
    const auto& values = table.values.at(static_cast<std::size_t>(found - table.images.begin()));
    std::vector<std::string> parts;
    for (std::size_t m = 0; m < table.metrics.size(); ++m) {
        const MetricHead head = metric_head(table.metrics[m]);
        parts.push_back(fmt::format("{} {}", head.title, score_text(values.at(m), head)));
    }
    return fmt::format("{}", fmt::join(parts, ", "));
}

std::string gallery(const SetPage& set) {
    const std::size_t total = set.pictures.size();
    const std::size_t shown = std::min(total, gallery_pictures);
    if (shown == 0) return "";
    std::string text =
        fmt::format("<h3>{}</h3>\n<p>{} of {} pictures, evenly spaced through the list.</p>\n",
                    set.title(), shown, total);
    for (std::size_t i = 0; i < shown; ++i) {
        const PagePicture& picture = *set.pictures[(2 * i + 1) * total / (2 * shown)];

        // Read all versions; the HR picture, or the first one there is, gives size and detail
        const std::optional<Image> hr = try_read(picture.hr);
        std::vector<std::optional<Image>> restored;
        for (const PageRun* run : set.runs) {
            restored.push_back(try_read(find_restored(*run, picture.stem)));
        }
        const std::optional<Image>* guide = &hr;
        for (const auto& image : restored) {
            if (!*guide && image) guide = &image;
        }
        text += fmt::format("<h4>{}</h4>\n<div class=\"strip\" style=\"--columns:{}\">\n",
                            escape_markup(picture.stem), restored.size() + 2);
        PixelSize size;
        PixelRect detail;
        if (*guide) {
            size = (*guide)->size();
            detail = most_textured(**guide, {detail_side, detail_side});
        }

        // Write them side by side
        std::optional<Image> lr = try_read(picture.lr);
        std::string lr_size;
        if (lr) {
            lr_size = fmt::format("{} \u00D7 {} pixels, enlarged", lr->width(), lr->height());
            if (*guide) lr = enlarge_nearest(*lr, size);
        }
        text += figure(lr, size, detail, picture.stem, "LR", lr_size);
        for (std::size_t r = 0; r < restored.size(); ++r) {
            text += figure(restored[r], size, detail, picture.stem, set.runs[r]->run.label,
                           scores_of(set.runs[r]->scores, picture.stem));
        }
        text += figure(hr, size, detail, picture.stem, "HR",
                       hr ? fmt::format("{} \u00D7 {} pixels", hr->width(), hr->height()) : "");
        text += "</div>\n";
    }
    return text;
}

/// One metric of every picture: rows are pictures, columns methods.
std::string picture_table(const SetPage& set, const std::string& metric) {
    const MetricHead head = metric_head(metric);
    std::vector<std::string> images;  // in the order of the first run, others behind
    std::vector<std::map<std::string, double>> columns;
    std::set<std::string> seen;
    std::string text = fmt::format(
        "<details><summary>{}, {}{}</summary><div class=\"scroll\"><table class=\"sortable\">"
        "<thead><tr><th>Picture</th>",
        set.title(), escape_markup(head.title),
        head.title == metric ? "" : fmt::format(" ({})", escape_markup(metric)));
    for (const PageRun* run : set.runs) {
        const ScoreTable& table = run->scores;
        const auto column = std::find(table.metrics.begin(), table.metrics.end(), metric);
        if (column == table.metrics.end()) continue;
        text += fmt::format("<th class=\"number\">{}</th>", escape_markup(run->run.label));
        auto& values = columns.emplace_back();
        for (std::size_t i = 0; i < table.images.size(); ++i) {
            if (seen.insert(table.images[i]).second) images.push_back(table.images[i]);
            values[table.images[i]] =
                table.values.at(i).at(static_cast<std::size_t>(column - table.metrics.begin()));
        }
    }
    text += "</tr></thead><tbody>\n";
    for (const std::string& image : images) {
        text += fmt::format("<tr><th scope=\"row\">{}</th>", escape_markup(image));
        for (const auto& values : columns) {
            const auto value = values.find(image);
            text += fmt::format(
                "<td class=\"number\">{}</td>",
                value == values.end() ? std::string(dash) : score_text(value->second, head));
        }
        text += "</tr>\n";
    }
    return text + "</tbody></table></div></details>\n";
}

std::string picture_tables(const SetPage& set) {
    std::vector<std::string> metrics;
    for (const PageRun* run : set.runs) {
        for (const std::string& metric : run->scores.metrics) {
            if (std::find(metrics.begin(), metrics.end(), metric) == metrics.end()) {
                metrics.push_back(metric);
            }
        }
    }
    std::string text;
    for (const std::string& metric : metrics) text += picture_table(set, metric);
    return text;
}

// ---- Provenance ----

std::string weights_cell(const std::vector<WeightRecord>& weights) {
    std::string text;
    for (const WeightRecord& w : weights) {
        text += fmt::format("<div>{} {}<br><code>{}</code></div>", escape_markup(w.file),
                            w.verified ? "(verified)" : "<span class=\"bad\">(unverified)</span>",
                            escape_markup(w.sha256));
    }
    return text.empty() ? std::string(dash) : text;
}

std::string run_row(const Run& run) {
    const Provenance& p = run.provenance;
    const auto cell = [](const std::string& text) {
        return fmt::format("<td>{}</td>", text.empty() ? std::string(dash) : escape_markup(text));
    };
    std::vector<std::string> settings;
    for (const auto& [key, value] : p.settings) settings.push_back(key + " " + value);
    return fmt::format("<tr><th scope=\"row\">{}</th>", escape_markup(run.label)) +
           cell(fmt::format("{} \u00D7{}", run.set, run.scale)) + cell(run.method) + cell(p.kind) +
           cell(p.scale_policy) + cell(p.device) + cell(p.dtype) + cell(p.rounding) +
           cell(fmt::format("{}", fmt::join(settings, ", "))) +
           fmt::format("<td>{}</td></tr>\n", weights_cell(p.weights));
}

std::string provenance(const std::string& command, const std::vector<PageRun>& runs) {
    const ToolVersion tool = tool_version();
    std::string text = fmt::format(
        "<h2>Where the numbers come from</h2>\n<pre>{}</pre>\n<p>ultrasr {}, commit {}</p>\n"
        "<div class=\"scroll\"><table class=\"runs\"><thead><tr><th>Row</th><th>Set</th>"
        "<th>Method</th><th>Kind</th><th>Policy</th><th>Device</th><th>Numbers</th>"
        "<th>To 8 bit</th><th>Settings</th><th>Weights (SHA-256)</th></tr></thead><tbody>\n",
        escape_markup(command), escape_markup(tool.version), escape_markup(tool.commit));
    for (const PageRun& run : runs) text += run_row(run.run);
    text += "</tbody></table></div>\n";

    // Name every set and every metric's convention once
    std::vector<std::string> lines;
    const auto add = [&](std::string line) {
        if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
    };
    for (const PageRun& page_run : runs) {
        const Run& run = page_run.run;
        add(fmt::format("<li>Set {} \u00D7{}: <code>{}</code></li>\n", escape_markup(run.set),
                        run.scale, escape_markup(run.set_sha256)));
    }
    for (const PageRun& page_run : runs) {
        for (const MetricSummary& summary : page_run.run.metrics) {
            std::vector<std::string> settings;
            for (const auto& [key, value] : summary.settings)
                settings.push_back(key + ": " + value);
            add(fmt::format("<li>{}{}{}</li>\n", escape_markup(summary.metric),
                            settings.empty() ? "" : ": ",
                            escape_markup(fmt::format("{}", fmt::join(settings, "; ")))));
        }
    }
    text += "<ul class=\"notes\">\n";
    for (const std::string& line : lines) text += line;
    return text + "</ul>\n";
}

constexpr std::string_view how_to_read =
    "Each row of a table is a method, each column a metric averaged over the pictures of the set; "
    "an arrow up says that larger is better, an arrow down that smaller is. Small print below a "
    "mean is its 95 % bootstrap interval: two methods whose intervals overlap widely may not "
    "differ. Below the tables some pictures stand side by side, from the input (LR) through all "
    "methods to the truth (HR). The frame marks the most textured square of 128 pixels, which is "
    "shown enlarged beneath.";

}  // namespace

std::string render_page(const std::string& title, const std::string& command,
                        const std::vector<PageRun>& runs, const std::vector<Run>& published,
                        const std::vector<PagePicture>& pictures, const TableOptions& options) {
    std::vector<Run> rows;
    for (const PageRun& run : runs) rows.push_back(run.run);
    rows.insert(rows.end(), published.begin(), published.end());
    const std::vector<SetPage> sets = sort_into_sets(runs, pictures);

    std::string page = fmt::format(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width\">\n<title>{0}</title>\n"
        "<style>{1}{2}</style></head>\n<body>\n<h1>{0}</h1>\n<p>{3}</p>\n<h2>Results</h2>\n{4}",
        escape_markup(title), html_style(), page_style, how_to_read,
        html_tables(layout_tables(rows, options)));
    if (!pictures.empty()) page += "<h2>Pictures</h2>\n";
    for (const SetPage& set : sets) page += gallery(set);
    page += "<h2>Scores of every picture</h2>\n<p>A click on a column's head sorts by it.</p>\n";
    for (const SetPage& set : sets) page += picture_tables(set);
    page += provenance(command, runs);
    return page + fmt::format("<script>{}</script>\n</body></html>\n", page_script);
}

}  // namespace ultrasr
