#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "acquisition/world_pictures.h"
#include "data/base/error.h"
#include "data/image_io.h"

namespace ultrasr {
namespace {

constexpr double coarse_density = 2.2;  // pixels per LR px at most, where no tele frame looks
constexpr double fine_density = 5;      // pixels per LR px at least, where tele frames look
constexpr double sharpening_sigma = 1.2, sharpening_amount = 0.9;  // pixels of the doubled plane
constexpr double coding_noise = 0.012;  // of a JPEG, relative to the light; blurred away below

/// The middle part of planes that has the shape of `rect`.
LinearPlanes cut_to_shape(const LinearPlanes& planes, const WorldRect& rect) {
    const int width = planes[0].cols, height = planes[0].rows;
    const double shape = rect.width() / rect.height();
    const int cut_width = std::clamp(static_cast<int>(height * shape), 1, width);
    const int cut_height = std::clamp(static_cast<int>(width / shape), 1, height);
    const cv::Rect part((width - cut_width) / 2, (height - cut_height) / 2, cut_width, cut_height);
    return {planes[0](part), planes[1](part), planes[2](part)};
}

/// The pixels of planes that fill `whole` which lie in `part`, and their exact rectangle.
std::pair<LinearPlanes, WorldRect> cut_part(const LinearPlanes& planes, const WorldRect& whole,
                                            const WorldRect& part) {
    const double px = whole.width() / planes[0].cols, py = whole.height() / planes[0].rows;
    const auto column = [&](double x, int round) {
        const double at = (x - whole.x0) / px;
        return std::clamp(static_cast<int>(round ? std::ceil(at) : std::floor(at)), 0,
                          planes[0].cols);
    };
    const auto row = [&](double y, int round) {
        const double at = (y - whole.y0) / py;
        return std::clamp(static_cast<int>(round ? std::ceil(at) : std::floor(at)), 0,
                          planes[0].rows);
    };
    const int x0 = column(part.x0, 0), x1 = column(part.x1, 1);
    const int y0 = row(part.y0, 0), y1 = row(part.y1, 1);
    if (x0 >= x1 || y0 >= y1) return {};
    const cv::Rect cut(x0, y0, x1 - x0, y1 - y0);
    return {{planes[0](cut), planes[1](cut), planes[2](cut)},
            {whole.x0 + x0 * px, whole.y0 + y0 * py, whole.x0 + x1 * px, whole.y0 + y1 * py}};
}

/// Without what JPEG left in even parts (blocks, mottles): there each pixel goes to the mean around
/// it, by the local Wiener rule, deviation^2 / (deviation^2 + noise^2).
LinearPlanes cleaned(const LinearPlanes& planes) {
    LinearPlanes result;
    tbb::parallel_for(0, 3, [&](int channel) {
        const auto c = static_cast<std::size_t>(channel);
        cv::Mat light, mean, square;
        planes[c].convertTo(light, CV_32F);
        cv::GaussianBlur(light, mean, {11, 11}, 2);
        cv::GaussianBlur(light.mul(light), square, {11, 11}, 2);
        result[c].create(light.size(), CV_16U);
        for (int y = 0; y < light.rows; ++y) {
            const float *v = light.ptr<float>(y), *m = mean.ptr<float>(y),
                        *q = square.ptr<float>(y);
            auto* to = result[c].ptr<std::uint16_t>(y);
            for (int x = 0; x < light.cols; ++x) {
                const float noise =
                    static_cast<float>(coding_noise) * (m[x] + 650);  // 1 % of white
                const float variance = std::max(0.0F, q[x] - m[x] * m[x]);
                const float kept = variance / (variance + noise * noise);
                to[x] = static_cast<std::uint16_t>(m[x] + kept * (v[x] - m[x]) + 0.5F);
            }
        }
    });
    return result;
}

/// Twice as many pixels each way, with edges steepened as far as goes without overshoot: an unsharp
/// mask, held between the darkest and the brightest neighbour. A lens of 400 mm shows edges that
/// the photograph no longer holds; this is how the world has them.
LinearPlanes doubled(const LinearPlanes& planes) {
    LinearPlanes result;
    tbb::parallel_for(0, 3, [&](int channel) {
        const auto c = static_cast<std::size_t>(channel);
        cv::Mat plane, darkest, brightest, soft;
        cv::resize(planes[c], plane, {}, 2, 2, cv::INTER_CUBIC);
        const cv::Mat around = cv::Mat::ones(5, 5, CV_8U);
        cv::erode(plane, darkest, around);
        cv::dilate(plane, brightest, around);
        cv::GaussianBlur(plane, soft, {7, 7}, sharpening_sigma);
        cv::addWeighted(plane, 1 + sharpening_amount, soft, -sharpening_amount, 0, plane);
        result[c] = cv::min(cv::max(plane, darkest), brightest);
    });
    return result;
}

LinearPlanes read_photograph(const std::filesystem::path& path) {
    const Image image = read_image(path).image;
    require(image.width() >= 64 && image.height() >= 64,
            "{} has {} x {} pixels; the simulator needs photographs of 64 or more each way",
            path.string(), image.width(), image.height());
    return linear_planes(image);
}

}  // namespace

SimulatedWorld photo_world(const WorldExtent& extent,
                           const std::vector<std::filesystem::path>& photographs) {
    require(photographs.size() == 9, "a mosaic takes nine photographs, got {}", photographs.size());
    // Nine cells: the centre first, then around it
    const std::array<double, 4> x{extent.frame.x0, extent.centre.x0, extent.centre.x1,
                                  extent.frame.x1};
    const std::array<double, 4> y{extent.frame.y0, extent.centre.y0, extent.centre.y1,
                                  extent.frame.y1};
    std::vector<WorldRect> cells{extent.centre};
    for (std::size_t j = 0; j < 3; ++j) {
        for (std::size_t i = 0; i < 3; ++i) {
            if (i != 1 || j != 1) cells.push_back({x[i], y[j], x[i + 1], y[j + 1]});
        }
    }
    // What tele frames see keeps all its pixels, the rest no more than the wide frame can show
    SimulatedWorld world;
    std::vector<std::pair<WorldRect, LinearPlanes>> coarse;
    for (std::size_t k = 0; k < cells.size(); ++k) {
        LinearPlanes planes = cut_to_shape(read_photograph(photographs[k]), cells[k]);
        auto [part, rect] = cut_part(planes, cells[k], extent.detail);
        if (!part[0].empty()) {
            const double enough = std::min(fine_density, 0.5 * extent.finest);
            if (part[0].cols / rect.width() < enough) part = cleaned(part);
            while (part[0].cols / rect.width() < enough) part = doubled(part);
            world.add_tile(rect, std::move(part));
        }
        if (k == 0) continue;
        while (planes[0].cols / cells[k].width() > coarse_density) planes = halved(planes);
        coarse.emplace_back(cells[k], planes);
    }
    for (auto& [rect, planes] : coarse) world.add_tile(rect, planes);
    return world;
}

}  // namespace ultrasr
