#include "acquisition/simulated_scene.h"

#include <algorithm>
#include <cmath>

#include "acquisition/gaussian_noise.h"

namespace ultrasr {
namespace {

constexpr double edge_lr = 0.1;  // LR px over which the edge of a cutout fades

/// Opacity of a cutout at a place of the frame; `at` is its place in the world.
float opacity(const Cutout& cutout, double x, double y, double cosine, double sine,
              PixelPoint& at) {
    at.x = (x - cutout.shift.dx) / cutout.shift.gain;
    at.y = (y - cutout.shift.dy) / cutout.shift.gain;
    const double u = ((at.x - cutout.x) * cosine + (at.y - cutout.y) * sine) / cutout.half_width;
    const double v = ((at.y - cutout.y) * cosine - (at.x - cutout.x) * sine) / cutout.half_height;
    // Distance to the edge, to first order: (1 - rho) / |grad rho|
    const double rho = std::hypot(u, v);
    if (rho >= 1.5) return 0;
    if (rho <= 0.5) return 1;
    const double slope = std::hypot(u / cutout.half_width, v / cutout.half_height) / rho;
    return static_cast<float>(std::clamp(0.5 + (1 - rho) / slope / edge_lr, 0.0, 1.0));
}

/// The uniform cubic B-spline's weights.
std::array<double, 4> spline_weights(double t) {
    const double s = 1 - t;
    return {s * s * s / 6, (4 - 6 * t * t + 3 * t * t * t) / 6, (4 - 6 * s * s + 3 * s * s * s) / 6,
            t * t * t / 6};
}

}  // namespace

ShiftField::ShiftField(std::uint64_t seed, const WorldRect& over, double spacing, double rms)
    : over_(over), spacing_(spacing) {
    const int columns = static_cast<int>(std::ceil(over.width() / spacing)) + 4;
    const int rows = static_cast<int>(std::ceil(over.height() / spacing)) + 4;
    grid_.create(rows, columns, CV_64FC2);
    // The spline of unit noise has the variance (sum of squared weights)^2, on average (151/315)^2
    const double scale = rms / std::sqrt(2.0) / (151.0 / 315.0);
    std::vector<float> noise(static_cast<std::size_t>(2 * columns));
    for (int y = 0; y < rows; ++y) {
        fill_gaussian(seed, static_cast<std::uint64_t>(y), noise);
        for (int x = 0; x < columns; ++x) {
            const auto i = static_cast<std::size_t>(2 * x);
            grid_.at<cv::Vec2d>(y, x) = {scale * noise[i], scale * noise[i + 1]};
        }
    }
    std::vector<double> x, y;
    for (int j = 1; j + 2 < rows; ++j) {
        for (int i = 1; i + 2 < columns; ++i) {
            x.push_back(over.x0 + (i - 1) * spacing);
            y.push_back(over.y0 + (j - 1) * spacing);
        }
    }
    std::vector<double> moved_x = x, moved_y = y;
    shift(moved_x, moved_y);
    for (std::size_t i = 0; i < x.size(); ++i) {
        greatest_ = std::max(greatest_, std::hypot(moved_x[i] - x[i], moved_y[i] - y[i]));
    }
}

void ShiftField::shift(std::span<double> xs, std::span<double> ys) const {
    for (std::size_t i = 0; i < xs.size(); ++i) {
        const double gx = std::clamp((xs[i] - over_.x0) / spacing_, 0.0, grid_.cols - 3.001);
        const double gy = std::clamp((ys[i] - over_.y0) / spacing_, 0.0, grid_.rows - 3.001);
        const int ix = static_cast<int>(gx), iy = static_cast<int>(gy);
        const auto wx = spline_weights(gx - ix), wy = spline_weights(gy - iy);
        cv::Vec2d sum{0, 0};
        for (int j = 0; j < 4; ++j) {
            const auto* row = grid_.ptr<cv::Vec2d>(std::min(iy + j, grid_.rows - 1));
            for (int k = 0; k < 4; ++k) {
                sum += wy[static_cast<std::size_t>(j)] * wx[static_cast<std::size_t>(k)] *
                       row[std::min(ix + k, grid_.cols - 1)];
            }
        }
        xs[i] += sum[0];
        ys[i] += sum[1];
    }
}

void SimulatedScene::sample(int channel, double spacing, std::span<double> x, std::span<double> y,
                            std::span<float> light) const {
    if (air) air->shift(x, y);
    // The far plane
    const std::size_t n = x.size();
    const bool still = background.gain == 1 && background.dx == 0 && background.dy == 0;
    if (still) {
        world->sample(channel, spacing, x, y, light);
    } else {
        std::vector<double> far_x(n), far_y(n);
        for (std::size_t i = 0; i < n; ++i) {
            far_x[i] = (x[i] - background.dx) / background.gain;
            far_y[i] = (y[i] - background.dy) / background.gain;
        }
        world->sample(channel, spacing, far_x, far_y, light);
    }
    // What lies before it, the nearest last
    std::vector<double> at_x, at_y;
    std::vector<float> alpha, near_light;
    std::vector<std::size_t> places;
    for (std::size_t c = cutouts.size(); c-- > 0;) {
        const Cutout& cutout = cutouts[c];
        const double reach = std::max(cutout.half_width, cutout.half_height) + edge_lr;
        const double reach_x = reach * cutout.shift.gain;
        const double centre_x = cutout.shift.gain * cutout.x + cutout.shift.dx;
        const double centre_y = cutout.shift.gain * cutout.y + cutout.shift.dy;
        const double cosine = std::cos(cutout.angle), sine = std::sin(cutout.angle);
        at_x.clear(), at_y.clear(), alpha.clear(), places.clear();
        for (std::size_t i = 0; i < n; ++i) {
            if (std::abs(x[i] - centre_x) > reach_x || std::abs(y[i] - centre_y) > reach_x)
                continue;
            PixelPoint at;
            const float a = opacity(cutout, x[i], y[i], cosine, sine, at);
            if (a == 0) continue;
            places.push_back(i);
            alpha.push_back(a);
            at_x.push_back(at.x + cutout.from_dx);
            at_y.push_back(at.y + cutout.from_dy);
        }
        if (places.empty()) continue;
        near_light.resize(places.size());
        world->sample(channel, spacing, at_x, at_y, near_light);
        for (std::size_t k = 0; k < places.size(); ++k) {
            float& behind = light[places[k]];
            behind += alpha[k] * (near_light[k] - behind);
        }
    }
}

double covered_share(const std::vector<Cutout>& cutouts, const WorldRect& rect) {
    constexpr int columns = 96, rows = 64;
    int covered = 0;
    for (int j = 0; j < rows; ++j) {
        for (int i = 0; i < columns; ++i) {
            const double x = rect.x0 + (i + 0.5) * rect.width() / columns;
            const double y = rect.y0 + (j + 0.5) * rect.height() / rows;
            covered += std::any_of(cutouts.begin(), cutouts.end(), [&](const Cutout& cutout) {
                PixelPoint at;
                return opacity(cutout, x, y, std::cos(cutout.angle), std::sin(cutout.angle), at) >
                       0.5F;
            });
        }
    }
    return static_cast<double>(covered) / (columns * rows);
}

}  // namespace ultrasr
