#include "leaderboard/figure.h"

#include <fmt/format.h>

#include <algorithm>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "data/image_io.h"
#include "data/pair_dataset.h"
#include "leaderboard/detail.h"
#include "leaderboard/scores.h"
#include "leaderboard/table_layout.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr int panel_width = 288;  // at least, after enlarging by a whole factor
constexpr int panels_in_a_row = 6;
constexpr int caption_height = 52;
constexpr int gap = 8;

struct Panel {
    std::string name;
    std::string score;
    Image image;
};

std::string stem_of(const std::string& name) {
    const fs::path path(name);
    return is_image_file(path) ? path.stem().string() : name;
}

/// "PSNR 25.69": the picture's first score in a run.
std::string first_score(const ScoreTable& table, const std::string& stem) {
    for (std::size_t i = 0; i < table.images.size() && !table.metrics.empty(); ++i) {
        if (stem_of(table.images[i]) != stem) continue;
        const MetricHead head = metric_head(table.metrics.front());
        return fmt::format("{} {}{}", head.title, score_text(table.values[i].front(), head),
                           head.unit.empty() ? "" : " " + head.unit);
    }
    return {};
}

/// The runs of one set that hold the picture.
std::vector<Run> runs_with(const FigureOptions& options, const std::string& stem) {
    std::vector<Run> found;
    std::string there;
    for (const Run& run : read_results(options.results).runs) {
        if (!options.set.empty() && options.set != run.set && options.set != dataset_name(run)) {
            continue;
        }
        const fs::path images =
            options.results / run.set / fmt::format("x{}", run.scale) / run.label / "images";
        if (!fs::exists(images / (stem + ".png"))) {
            if (there.empty() && fs::is_directory(images)) {
                for (const fs::path& file : list_images(images)) {
                    if (there.size() < 100)
                        there += (there.empty() ? "" : ", ") + file.stem().string();
                }
            }
            continue;
        }
        const bool same_set =
            found.empty() || (found.front().set == run.set && found.front().scale == run.scale);
        if (same_set) found.push_back(run);
    }
    require(!found.empty(), "no result in {} has a picture {}; there are: {}",
            options.results.string(), stem, there.empty() ? "none" : there);
    return found;
}

/// LR and HR of the picture, where the sets are given.
std::optional<ImagePair> pair_of(const FigureOptions& options, const Run& run,
                                 const std::string& stem) {
    for (const std::string& spec : options.data) {
        for (const PairSet& set : find_pair_sets(spec)) {
            if (set.name != run.set || set.scale.ratio != run.scale) continue;
            for (const ImagePair& pair : set.pairs) {
                if (pair.stem == stem) return pair;
            }
        }
    }
    return std::nullopt;
}

void write_text(cv::Mat& sheet, const std::string& text, cv::Point at, double size,
                const cv::Scalar& colour) {
    cv::putText(sheet, text, at, cv::FONT_HERSHEY_DUPLEX, size, colour, 1, cv::LINE_AA);
}

Image arrange(const std::vector<Panel>& panels, const PixelRect& box) {
    const int factor = std::max(1, (panel_width + box.width - 1) / box.width);
    const int width = factor * box.width;
    const int height = factor * box.height;
    const int n = static_cast<int>(panels.size());
    const int rows = (n + panels_in_a_row - 1) / panels_in_a_row;
    const int columns = (n + rows - 1) / rows;
    const cv::Scalar paper(1, 1, 1), ink(0.1, 0.1, 0.1), grey(0.4, 0.4, 0.4);
    cv::Mat sheet(rows * (height + caption_height + gap) + gap, columns * (width + gap) + gap,
                  CV_32FC3, paper);
    for (int i = 0; i < n; ++i) {
        const Panel& panel = panels[static_cast<std::size_t>(i)];
        const int x = gap + i % columns * (width + gap);
        const int y = gap + i / columns * (height + caption_height + gap);
        enlarge_nearest(crop(panel.image, box), {width, height})
            .mat()
            .copyTo(sheet(cv::Rect(x, y, width, height)));
        write_text(sheet, panel.name, {x + 2, y + height + 21}, 0.6, ink);
        write_text(sheet, panel.score, {x + 2, y + height + 43}, 0.5, grey);
    }
    return Image(sheet);
}

}  // namespace

Image draw_figure(const FigureOptions& options) {
    const std::string stem = stem_of(options.image);
    const std::vector<Run> runs = runs_with(options, stem);
    const auto pair = pair_of(options, runs.front(), stem);

    // Gather LR, the methods, HR
    std::vector<Panel> panels;
    for (const Run& run : runs) {
        const fs::path folder =
            options.results / run.set / fmt::format("x{}", run.scale) / run.label;
        panels.push_back({run.label, first_score(read_score_table(folder / "scores.csv"), stem),
                          read_image(folder / "images" / (stem + ".png")).image});
    }
    const PixelSize size = panels.front().image.size();
    if (pair) {
        const Image lr = read_picture(pair->lr).image;
        panels.insert(panels.begin(), {"LR", fmt::format("{} x {}", lr.width(), lr.height()),
                                       enlarge_nearest(lr, size)});
        panels.push_back(
            {"HR", fmt::format("{} x {}", size.width, size.height), read_picture(pair->hr).image});
    }
    const PixelRect box =
        options.box ? *options.box : most_textured(panels.back().image, options.box_size);
    return arrange(panels, box);
}

}  // namespace ultrasr
