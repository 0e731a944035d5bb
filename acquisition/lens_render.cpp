#include "acquisition/lens_render.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "data/base/error.h"

namespace ultrasr {
namespace {

constexpr double reach_sigmas = 3.5;  // a Gaussian is cut there
constexpr int table_steps = 4096;
constexpr int border = 3;  // samples of a blurred frame around the picture

/// Weights of the samples -reach .. samples - 1 + reach about a pixel: the pixel's square after the
/// Gaussian, at the offsets (k + 0.5) / samples - 0.5.
struct PixelKernel {
    int reach = 0;
    std::vector<float> weights;
};

PixelKernel pixel_kernel(double sigma, int samples) {
    PixelKernel kernel;
    kernel.reach = sigma > 0 ? static_cast<int>(std::ceil(reach_sigmas * sigma * samples)) : 0;
    const int taps = samples + 2 * kernel.reach;
    std::vector<double> exact(static_cast<std::size_t>(taps));
    double sum = 0;
    for (int k = 0; k < taps; ++k) {
        const double t = (k - kernel.reach + 0.5) / samples - 0.5;
        const auto below = [&](double edge) {  // Phi((t + edge) / sigma)
            return 0.5 * std::erfc(-(t + edge) / (sigma * std::numbers::sqrt2));
        };
        const double w = sigma > 0 ? below(0.5) - below(-0.5) : 1;
        exact[static_cast<std::size_t>(k)] = w;
        sum += w;
    }
    for (const double w : exact) kernel.weights.push_back(static_cast<float>(w / sum));
    return kernel;
}

/// Columns first (rows are long and lie well), one output row per `samples` input rows.
cv::Mat integrate_down(const cv::Mat& fine, const PixelKernel& kernel, int samples, int rows) {
    cv::Mat result = cv::Mat::zeros(rows, fine.cols, CV_32F);
    for (int y = 0; y < rows; ++y) {
        float* to = result.ptr<float>(y);
        for (std::size_t k = 0; k < kernel.weights.size(); ++k) {
            const float* from = fine.ptr<float>(y * samples + static_cast<int>(k));
            const float w = kernel.weights[k];
            for (int x = 0; x < fine.cols; ++x) to[x] += w * from[x];
        }
    }
    return result;
}

cv::Mat integrate_across(const cv::Mat& fine, const PixelKernel& kernel, int samples, int columns) {
    cv::Mat result = cv::Mat::zeros(fine.rows, columns, CV_32F);
    const int phase_columns = fine.cols / samples + 1;
    cv::Mat phases(samples, phase_columns, CV_32F);
    for (int y = 0; y < fine.rows; ++y) {
        // Lay every samples-th value side by side
        const float* from = fine.ptr<float>(y);
        for (int p = 0; p < samples; ++p) {
            float* phase = phases.ptr<float>(p);
            for (int x = 0, i = p; i < fine.cols; ++x, i += samples) phase[x] = from[i];
        }
        float* to = result.ptr<float>(y);
        for (std::size_t k = 0; k < kernel.weights.size(); ++k) {
            const int tap = static_cast<int>(k);
            const float* phase = phases.ptr<float>(tap % samples) + tap / samples;
            const float w = kernel.weights[k];
            for (int x = 0; x < columns; ++x) to[x] += w * phase[x];
        }
    }
    return result;
}

/// One pixel of a shake's line and its share of the light.
struct ShakeTap {
    int dx = 0, dy = 0;
    float weight = 0;
};

/// A straight line about the origin, laid onto whole pixels.
std::vector<ShakeTap> shake_taps(const Blur& blur) {
    const double length = std::hypot(blur.line_dx_px, blur.line_dy_px);
    const int points = 8 * static_cast<int>(std::ceil(length)) + 1;
    std::map<std::pair<int, int>, double> shares;  // by row, then column
    for (int i = 0; i < points; ++i) {
        const double t = (i + 0.5) / points - 0.5;
        const double x = t * blur.line_dx_px, y = t * blur.line_dy_px;
        const int ix = static_cast<int>(std::floor(x)), iy = static_cast<int>(std::floor(y));
        const double fx = x - ix, fy = y - iy;
        shares[{iy, ix}] += (1 - fx) * (1 - fy) / points;
        shares[{iy, ix + 1}] += fx * (1 - fy) / points;
        shares[{iy + 1, ix}] += (1 - fx) * fy / points;
        shares[{iy + 1, ix + 1}] += fx * fy / points;
    }
    std::vector<ShakeTap> taps;
    for (const auto& [place, share] : shares) {
        if (share > 1e-7) taps.push_back({place.second, place.first, static_cast<float>(share)});
    }
    return taps;
}

/// Sums along the line; the border of `reach` pixels is used up.
cv::Mat shaken(const cv::Mat& light, const std::vector<ShakeTap>& taps, int reach) {
    cv::Mat result = cv::Mat::zeros(light.rows - 2 * reach, light.cols - 2 * reach, CV_32F);
    for (int y = 0; y < result.rows; ++y) {
        float* to = result.ptr<float>(y);
        for (const ShakeTap& tap : taps) {
            const float* from = light.ptr<float>(y + reach + tap.dy) + reach + tap.dx;
            for (int x = 0; x < result.cols; ++x) to[x] += tap.weight * from[x];
        }
    }
    return result;
}

}  // namespace

RowPlaces::RowPlaces(const LensView& view)
    : view_(view),
      centre_(view.camera.principal_point()),
      half_diagonal_(view.camera.half_diagonal()),
      world_per_pixel_(view.wide_f_px / view.camera.f_px) {
    // Undistortion over r'^2, a little further than the furthest corner
    const double far_x =
        std::abs(centre_.x - 0.5 * (view.camera.size.width - 1)) + 0.5 * view.camera.size.width;
    const double far_y =
        std::abs(centre_.y - 0.5 * (view.camera.size.height - 1)) + 0.5 * view.camera.size.height;
    const double far = std::hypot(far_x, far_y) / half_diagonal_ * 1.08 + 16 / half_diagonal_;
    table_step_ = far * far / table_steps;
    for (int i = 0; i <= table_steps + 1; ++i) {
        table_.push_back(undistortion(view.camera, i * table_step_));
    }
    // A chord of n pixels misses x (1 + k x^2) by at most 6 k / h n^2 / 8 at x = 1
    const double bend =
        6 * (std::abs(view.camera.k1) + std::abs(view.camera.k2)) / half_diagonal_ + 1e-7;
    node_px_ = std::sqrt(8e-4 / bend);
}

PixelPoint RowPlaces::place(double magnification, double x, double y) const {
    // Pixel to ideal ray
    const double to_unit = 1 / (half_diagonal_ * magnification);
    const double px = (x - centre_.x) * to_unit, py = (y - centre_.y) * to_unit;
    const double at = (px * px + py * py) / table_step_;
    const auto i = static_cast<std::size_t>(std::min(at, static_cast<double>(table_steps)));
    const double stretch = table_[i] + (table_[i + 1] - table_[i]) * (at - static_cast<double>(i));
    const double to_ray = stretch * half_diagonal_ / view_.camera.f_px;
    // Ray to world
    const PixelPoint ray = rotate_ray(view_.world_from_camera, {px * to_ray, py * to_ray});
    return {ray.x * view_.wide_f_px, ray.y * view_.wide_f_px};
}

void RowPlaces::trace(int channel, double x0, double step, double y, std::vector<double>& world_x,
                      std::vector<double>& world_y) const {
    const double magnification = view_.magnification[static_cast<std::size_t>(channel)];
    const std::size_t n = world_x.size();
    const std::size_t node =
        static_cast<std::size_t>(std::clamp(std::floor(node_px_ / step), 1.0, 16.0));
    PixelPoint next = place(magnification, x0, y);
    for (std::size_t start = 0; start < n; start += node) {
        const PixelPoint here = next;
        next = place(magnification, x0 + static_cast<double>(start + node) * step, y);
        const double slope_x = (next.x - here.x) / static_cast<double>(node);
        const double slope_y = (next.y - here.y) / static_cast<double>(node);
        const std::size_t end = std::min(start + node, n);
        for (std::size_t i = start; i < end; ++i) {
            world_x[i] = here.x + slope_x * static_cast<double>(i - start);
            world_y[i] = here.y + slope_y * static_cast<double>(i - start);
        }
    }
}

LightPlanes render_window(const SimulatedScene& scene, const RowPlaces& places, PixelRect window,
                          int samples, const Blur& blur) {
    require(samples >= 1 && window.width > 0 && window.height > 0, "an empty window to render");
    if (blur.line_dx_px != 0 || blur.line_dy_px != 0) {
        const auto taps = shake_taps(blur);
        int reach = 0;
        for (const ShakeTap& tap : taps) {
            reach = std::max({reach, std::abs(tap.dx), std::abs(tap.dy)});
        }
        const PixelRect wider{window.x - reach, window.y - reach, window.width + 2 * reach,
                              window.height + 2 * reach};
        LightPlanes light =
            render_window(scene, places, wider, samples, {.sigma_px = blur.sigma_px});
        for (cv::Mat& plane : light) plane = shaken(plane, taps, reach);
        return light;
    }
    const PixelKernel kernel = pixel_kernel(blur.sigma_px, samples);
    const int fine_columns = window.width * samples + 2 * kernel.reach;
    const int fine_rows = window.height * samples + 2 * kernel.reach;
    const double step = 1.0 / samples;
    const double spacing = places.world_per_pixel() * step;
    const auto n = static_cast<std::size_t>(fine_columns);
    std::vector<double> x(n), y(n);
    LightPlanes light;
    cv::Mat fine(fine_rows, fine_columns, CV_32F);
    for (int c = 0; c < 3; ++c) {
        // Sample the world by rays
        for (int row = 0; row < fine_rows; ++row) {
            const double first = (0.5 - kernel.reach) * step - 0.5;
            places.trace(c, window.x + first, step, window.y + first + row * step, x, y);
            scene.sample(c, spacing, x, y, {fine.ptr<float>(row), n});
        }
        // Integrate over blur and pixel
        const cv::Mat down = integrate_down(fine, kernel, samples, window.height);
        light[static_cast<std::size_t>(c)] = integrate_across(down, kernel, samples, window.width);
    }
    return light;
}

BlurredFrame::BlurredFrame(const SimulatedScene& scene, const RowPlaces& places, PixelSize size,
                           const Blur& blur)
    : step_(std::max(2, static_cast<int>(blur.sigma_px / 4))) {
    // One sample a block, blurred so that with the block's square the variance is the asked one
    // (the block 1/12, the spline of window() 1/3 of the step squared)
    const double variance =
        blur.sigma_px * blur.sigma_px + 1.0 / 12 - step_ * step_ * (1.0 / 12 + 1.0 / 3);
    const PixelKernel kernel = pixel_kernel(std::sqrt(variance) / step_, 1);
    const int columns = (size.width + step_ - 1) / step_ + 2 * border;
    const int rows = (size.height + step_ - 1) / step_ + 2 * border;
    const int fine_columns = columns + 2 * kernel.reach, fine_rows = rows + 2 * kernel.reach;
    const double first = 0.5 * (step_ - 1) - static_cast<double>(step_) * (border + kernel.reach);
    const double spacing = places.world_per_pixel() * step_;
    const auto n = static_cast<std::size_t>(fine_columns);
    for (int c = 0; c < 3; ++c) {
        cv::Mat fine(fine_rows, fine_columns, CV_32F);
        tbb::parallel_for(0, fine_rows, [&](int row) {
            std::vector<double> x(n), y(n);
            places.trace(c, first, step_, first + row * static_cast<double>(step_), x, y);
            scene.sample(c, spacing, x, y, {fine.ptr<float>(row), n});
        });
        const cv::Mat down = integrate_down(fine, kernel, 1, rows);
        light_[static_cast<std::size_t>(c)] = integrate_across(down, kernel, 1, columns);
    }
}

LightPlanes BlurredFrame::window(PixelRect window) const {
    // Places of the window's columns and rows among the samples, with their cubic weights
    struct Tap {
        int first;
        std::array<float, 4> w;
    };
    const auto taps = [this](int start, int count, int size) {
        std::vector<Tap> list;
        for (int i = 0; i < count; ++i) {
            const double at = (start + i - 0.5 * (step_ - 1)) / step_ + border;
            const double held = std::clamp(at, 1.0, size - 2.001);
            const int whole = static_cast<int>(held);
            const auto t = static_cast<float>(held - whole), s = 1 - t;
            // The uniform cubic B-spline: smooth, and no ringing; see the constructor for its blur
            list.push_back({whole - 1,
                            {s * s * s / 6, (4 - 6 * t * t + 3 * t * t * t) / 6,
                             (4 - 6 * s * s + 3 * s * s * s) / 6, t * t * t / 6}});
        }
        return list;
    };
    const auto columns = taps(window.x, window.width, light_[0].cols);
    const auto rows = taps(window.y, window.height, light_[0].rows);
    LightPlanes result;
    std::vector<float> line(static_cast<std::size_t>(light_[0].cols));
    for (std::size_t c = 0; c < 3; ++c) {
        result[c].create(window.height, window.width, CV_32F);
        for (int y = 0; y < window.height; ++y) {
            const Tap& row = rows[static_cast<std::size_t>(y)];
            std::fill(line.begin(), line.end(), 0.0F);
            for (int k = 0; k < 4; ++k) {
                const float* from = light_[c].ptr<float>(row.first + k);
                const float w = row.w[static_cast<std::size_t>(k)];
                for (std::size_t x = 0; x < line.size(); ++x) line[x] += w * from[x];
            }
            float* to = result[c].ptr<float>(y);
            for (int x = 0; x < window.width; ++x) {
                const Tap& column = columns[static_cast<std::size_t>(x)];
                const float* from = line.data() + column.first;
                to[x] = column.w[0] * from[0] + column.w[1] * from[1] + column.w[2] * from[2] +
                        column.w[3] * from[3];
            }
        }
    }
    return result;
}

}  // namespace ultrasr
