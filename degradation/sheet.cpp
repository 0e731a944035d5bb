#include "degradation/sheet.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/image_io.h"
#include "degradation/result_folder.h"

namespace ultrasr {
namespace {

constexpr int gap = 10, line_height = 15, title_height = 22;
const cv::Scalar paper(255, 255, 255), ink(30, 30, 30), faint(105, 105, 105);

struct Cell {
    cv::Mat picture;
    std::string title;
    std::vector<std::string> lines;
};

void write_text(cv::Mat& sheet, const std::string& text, cv::Point at, double size,
                const cv::Scalar& colour) {
    cv::putText(sheet, text, at, cv::FONT_HERSHEY_SIMPLEX, size, colour, 1, cv::LINE_AA);
}

/// Pixel by pixel to about the side of a cell, so that LR's pixels are seen.
cv::Mat enlarged_to(const cv::Mat& picture, int side) {
    cv::Mat out;
    const double factor = static_cast<double>(side) / std::max(picture.rows, picture.cols);
    cv::resize(picture, out, {}, factor, factor, factor >= 1 ? cv::INTER_NEAREST : cv::INTER_AREA);
    return out;
}

std::string short_step(const Json& entry) {
    const Json& p = entry["params"];
    const auto number = [&](const char* key) { return p.value(key, 0.0); };
    const auto kind = entry["step"].get<std::string>();
    if (kind == "gaussian_noise") {
        return fmt::format("noise {:.1f}{}", number("sigma"),
                           p.value("gray", false) ? " grey" : "");
    }
    if (kind == "poisson_noise") {
        return fmt::format("poisson {:.2f}{}", number("scale"),
                           p.value("gray", false) ? " grey" : "");
    }
    if (kind == "jpeg") return fmt::format("jpeg {:.0f}", number("quality"));
    if (kind == "blur" && p.contains("kernel")) {
        const Json& k = p["kernel"];
        const auto type = k["type"].get<std::string>();
        if (type == "pulse") return {};
        if (type == "sinc") return fmt::format("sinc {:.2f}", k["omega"].get<double>());
        return fmt::format("blur {:.1f}", k["sigma_x"].get<double>());
    }
    if (kind == "resize_scale_factor") return fmt::format("x{:.2f}", number("ratio"));
    if (kind == "resize_size") {
        return fmt::format("to {}", p["size"][1].get<int>());
    }
    return {};
}

/// The steps in a few words, as many a line as fit.
std::vector<std::string> lines_of(const Json& steps, std::size_t width) {
    std::vector<std::string> lines;
    for (const Json& entry : steps) {
        const std::string word = short_step(entry);
        if (word.empty()) continue;
        if (lines.empty() || lines.back().size() + word.size() + 2 > width) {
            lines.push_back(word);
        } else {
            lines.back() += ", " + word;
        }
    }
    return lines;
}

std::vector<Cell> cells_of(const ResultFolder& folder, std::size_t i, int side) {
    const Json& record = folder.records()[i];
    const auto width = static_cast<std::size_t>(side / 6.2);  // letters in a line
    std::vector<Cell> cells;
    if (const auto gt = folder.picture(i, "gt")) {
        Cell cell{enlarged_to(*gt, side), fmt::format("GT {} x {}", gt->cols, gt->rows),
                  lines_of(record["shared"], width)};
        std::string source = record["source"].get<std::string>();
        source = source.substr(source.rfind('/') + 1);
        if (source.size() > width) source = source.substr(0, width - 3) + "...";
        cell.lines.insert(cell.lines.begin(), source);
        cells.push_back(std::move(cell));
    }
    for (const Json& level : record["levels"]) {
        const auto name = level["name"].get<std::string>();
        const auto lr = folder.picture(i, "lr_" + name);
        if (!lr) continue;
        Cell cell{enlarged_to(*lr, side),
                  fmt::format("{}  {} x {}  {}", name, lr->cols, lr->rows,
                              level["preset"].get<std::string>()),
                  lines_of(level["steps"], width)};
        if (level.contains("psnr")) {
            cell.lines.insert(cell.lines.begin(),
                              fmt::format("{:.1f} dB", number_from_json(level["psnr"])));
        }
        cells.push_back(std::move(cell));
    }
    require(!cells.empty(), "record {} has no pictures of GT or LR to show",
            record["id"].get<std::string>());
    return cells;
}

}  // namespace

Json contact_sheet(const SheetOptions& options) {
    // The same pictures of all folders, one folder below the other
    std::vector<ResultFolder> folders;
    for (const auto& path : options.source) folders.emplace_back(path);
    std::vector<std::vector<Cell>> rows;
    int pictures = 0;
    for (const Json& record : folders[0].records()) {
        const auto id = record["id"].get<std::string>();
        const bool wanted = options.ids.empty() || std::find(options.ids.begin(), options.ids.end(),
                                                             id) != options.ids.end();
        if (!wanted || pictures == options.count) continue;
        ++pictures;
        for (const ResultFolder& folder : folders) {
            const auto& list = folder.records();
            const auto same = std::find_if(list.begin(), list.end(),
                                           [&](const Json& r) { return r["id"] == id; });
            if (same == list.end()) continue;
            rows.push_back(
                cells_of(folder, static_cast<std::size_t>(same - list.begin()), options.side));
        }
    }
    require(!rows.empty(), "{} holds none of the wanted records", options.source[0].string());

    // Lay out: every row as high as its longest caption
    std::size_t columns = 0;
    std::vector<int> heights;
    for (const auto& row : rows) {
        columns = std::max(columns, row.size());
        std::size_t lines = 0;
        int high = 0;
        for (const Cell& cell : row) {
            lines = std::max(lines, cell.lines.size());
            high = std::max(high, cell.picture.rows);
        }
        heights.push_back(high + title_height + static_cast<int>(lines) * line_height + gap);
    }
    int height = gap;
    for (const int h : heights) height += h;
    const int width = gap + static_cast<int>(columns) * (options.side + gap);
    cv::Mat sheet(height, width, CV_8UC3, paper);
    int y = gap;
    for (std::size_t r = 0; r < rows.size(); y += heights[r], ++r) {
        for (std::size_t c = 0; c < rows[r].size(); ++c) {
            const Cell& cell = rows[r][c];
            const int x = gap + static_cast<int>(c) * (options.side + gap);
            cell.picture.copyTo(sheet(cv::Rect(x, y, cell.picture.cols, cell.picture.rows)));
            int below = y + cell.picture.rows + 16;
            write_text(sheet, cell.title, {x, below}, 0.43, ink);
            for (const std::string& line : cell.lines) {
                write_text(sheet, line, {x, below += line_height}, 0.36, faint);
            }
        }
    }
    write_file(options.out, encode_png(sheet, 6));
    return {{"pictures", pictures},
            {"out", options.out.string()},
            {"width", width},
            {"height", height}};
}

}  // namespace ultrasr
