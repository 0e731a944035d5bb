#include "models/training/samples.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/image_io.h"

namespace ultrasr {
namespace {

constexpr int gap = 8, head_height = 44, name_height = 20;
constexpr int bar_height = 8;
const cv::Scalar paper(255, 255, 255), ink(30, 30, 30), faint(95, 95, 95);
const cv::Vec3b not_finite(255, 0, 255);

/// Least and greatest finite value of a column of maps; equal ones where it holds no other.
struct Range {
    float low = std::numeric_limits<float>::infinity();
    float high = -std::numeric_limits<float>::infinity();
};

Range range_of(const at::Tensor& maps) {
    Range range;
    const float* p = maps.const_data_ptr<float>();
    for (std::int64_t i = 0; i < maps.numel(); ++i) {
        if (!std::isfinite(p[i])) continue;
        range.low = std::min(range.low, p[i]);
        range.high = std::max(range.high, p[i]);
    }
    return range;
}

unsigned char level(float value) {
    return static_cast<unsigned char>(std::lrint(255.0F * std::clamp(value, 0.0F, 1.0F)));
}

/// The 256 colours of viridis, RGB order.
cv::Mat viridis() {
    cv::Mat levels(1, 256, CV_8UC1), bgr, rgb;
    for (int i = 0; i < 256; ++i) levels.at<unsigned char>(0, i) = static_cast<unsigned char>(i);
    cv::applyColorMap(levels, bgr, cv::COLORMAP_VIRIDIS);
    cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
    return rgb;
}

/// Sample n as CV_8UC3 in RGB order.
///
/// pictures  CPU, float32, contiguous
cv::Mat picture_of(const at::Tensor& pictures, std::int64_t n, const Range& range,
                   const cv::Mat& colours) {
    const bool map = pictures.size(1) == 1;
    const auto height = static_cast<int>(pictures.size(2));
    const auto width = static_cast<int>(pictures.size(3));
    const std::int64_t plane = pictures.size(2) * pictures.size(3);
    const float* from = pictures.const_data_ptr<float>() + n * pictures.size(1) * plane;
    cv::Mat rgb(height, width, CV_8UC3);
    for (int y = 0; y < height; ++y) {
        cv::Vec3b* to = rgb.ptr<cv::Vec3b>(y);
        for (int x = 0; x < width; ++x) {
            const float* p = from + static_cast<std::int64_t>(y) * width + x;
            const float r = p[0], g = map ? r : p[plane], b = map ? r : p[2 * plane];
            if (!std::isfinite(r) || !std::isfinite(g) || !std::isfinite(b)) {
                to[x] = not_finite;
            } else if (map) {
                const float width_of_range = range.high - range.low;
                const float at = width_of_range > 0 ? (r - range.low) / width_of_range : 0.5F;
                to[x] = colours.at<cv::Vec3b>(0, level(at));
            } else {
                to[x] = {level(r), level(g), level(b)};
            }
        }
    }
    return rgb;
}

constexpr int font = cv::FONT_HERSHEY_SIMPLEX;

int width_of(const std::string& text, double size) {
    int base = 0;
    return cv::getTextSize(text, font, size, 1, &base).width;
}

/// Text no wider than `room`: smaller, and if that is not enough, cut.
void write_text(cv::Mat& sheet, std::string text, cv::Point at, int room, double size,
                const cv::Scalar& colour) {
    constexpr double smallest = 0.36;
    for (char& c : text) {
        if (c < 32 || c > 126) c = '?';  // what the font does not have
    }
    while (size > smallest && width_of(text, size) > room) size -= 0.02;
    if (width_of(text, size) > room) {
        while (!text.empty() && width_of(text + "...", size) > room) text.pop_back();
        text += "...";
    }
    cv::putText(sheet, text, at, font, size, colour, 1, cv::LINE_AA);
}

/// "0.125 [bar] 0.875" under a map's title.
void draw_bar(cv::Mat& sheet, int x, int y, int width, const Range& range, const cv::Mat& colours) {
    if (range.low > range.high) {
        write_text(sheet, "not finite anywhere", {x, y + bar_height}, width, 0.4, faint);
        return;
    }
    const std::string low = fmt::format("{:.3g}", range.low);
    const std::string high = fmt::format("{:.3g}", range.high);
    constexpr double size = 0.4;
    const int left = width_of(low, size) + 6, right = width_of(high, size) + 6;
    write_text(sheet, low, {x, y + bar_height}, left, size, faint);
    write_text(sheet, high, {x + width - right + 6, y + bar_height}, right, size, faint);
    const cv::Rect place(x + left, y, std::max(1, width - left - right), bar_height);
    cv::resize(colours, sheet(place), place.size(), 0, 0, cv::INTER_LINEAR);
}

}  // namespace

int SampleLayout::x(int column) const { return gap + column * (cell_width + gap); }
int SampleLayout::y(int row) const { return gap + head_height + row * row_height; }

SampleLayout layout_of(std::span<const SampleColumn> columns, bool named_rows,
                       const SampleCells& cells) {
    // The largest picture, enlarged by a whole number or reduced
    const auto is_picture = [](const at::Tensor& t) {
        return t.defined() && t.dim() == 4 && (t.size(1) == 3 || t.size(1) == 1) && t.numel() > 0;
    };
    if (columns.empty()) fail(Fault::internal, "a sheet of samples needs a column");
    std::int64_t width = 0, height = 0;
    for (const SampleColumn& c : columns) {
        if (!is_picture(c.pictures) || c.pictures.size(0) != columns.front().pictures.size(0)) {
            fail(Fault::internal,
                 "the samples \"{}\" are no pictures N x 3 x H x W or N x 1 x H x W of the first "
                 "column's N",
                 c.title);
        }
        width = std::max(width, c.pictures.size(3));
        height = std::max(height, c.pictures.size(2));
    }
    const std::int64_t longer = std::max(width, height);
    double factor = 1.0;
    if (longer < cells.least_side) {
        factor = std::ceil(static_cast<double>(cells.least_side) / static_cast<double>(longer));
    }
    if (longer > cells.most_side) {
        factor = static_cast<double>(cells.most_side) / static_cast<double>(longer);
    }
    const auto scaled = [&](std::int64_t side) {
        return std::max(1, static_cast<int>(std::lround(static_cast<double>(side) * factor)));
    };
    SampleLayout layout;
    layout.cell_width = scaled(width);
    layout.cell_height = scaled(height);
    layout.row_height = layout.cell_height + gap + (named_rows ? name_height : 0);
    layout.width = layout.x(static_cast<int>(columns.size()));
    layout.height = layout.y(static_cast<int>(columns.front().pictures.size(0)));
    return layout;
}

void write_samples(const std::filesystem::path& png, std::span<const SampleColumn> columns,
                   std::span<const std::string> rows, const SampleCells& cells) {
    const SampleLayout layout = layout_of(columns, !rows.empty(), cells);
    const std::int64_t count = columns.front().pictures.size(0);
    if (!rows.empty() && static_cast<std::int64_t>(rows.size()) != count) {
        fail(Fault::internal, "{} names for {} samples", rows.size(), count);
    }
    cv::Mat sheet(layout.height, layout.width, CV_8UC3, paper);
    const cv::Mat colours = viridis();
    const cv::Size cell(layout.cell_width, layout.cell_height);
    for (std::size_t c = 0; c < columns.size(); ++c) {
        const at::Tensor pictures =
            columns[c].pictures.detach().to(at::kCPU).to(at::kFloat).contiguous();
        const bool map = pictures.size(1) == 1;
        const Range range = map ? range_of(pictures) : Range{};
        const int x = layout.x(static_cast<int>(c));

        // Say what the column is
        write_text(sheet, columns[c].title, {x, gap + 15}, cell.width, 0.5, ink);
        if (map) {
            draw_bar(sheet, x, gap + 25, cell.width, range, colours);
        } else {
            const std::string size = fmt::format("{} x {}", pictures.size(3), pictures.size(2));
            write_text(sheet, size, {x, gap + 34}, cell.width, 0.4, faint);
        }

        // Fit the pictures to the cells
        for (std::int64_t n = 0; n < count; ++n) {
            const cv::Mat picture = picture_of(pictures, n, range, colours);
            const cv::Rect place({x, layout.y(static_cast<int>(n))}, cell);
            const bool enlarge = picture.cols <= cell.width && picture.rows <= cell.height;
            cv::resize(picture, sheet(place), cell, 0, 0,
                       enlarge ? cv::INTER_NEAREST : cv::INTER_AREA);
        }
    }
    for (std::size_t n = 0; n < rows.size(); ++n) {
        const int y = layout.y(static_cast<int>(n)) + cell.height + 15;
        write_text(sheet, rows[n], {layout.x(0), y}, layout.width - 2 * gap, 0.42, ink);
    }
    write_file(png, encode_png(sheet, 6));
}

}  // namespace ultrasr
