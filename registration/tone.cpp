#include "registration/tone.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "registration/knots.h"
#include "registration/least_squares.h"

namespace ultrasr {
namespace {

constexpr std::size_t knot_count = 14;
constexpr std::size_t unknowns = knot_count + 3;
constexpr double edge =
    0.02;  // a gradient this large, of full scale a wide pixel, halves the weight
constexpr double smoothness = 3e-3;  // of the mean diagonal, on second differences
constexpr std::size_t least_pixels = 400;

struct Sample {
    float wide, tele, weight;
    float x, y;
};

/// Reads both pictures at every usable wide pixel that lies inside the tele frame.
std::vector<Sample> gather(const cv::Mat& wide, const cv::Mat& tele, const cv::Mat& usable,
                           const PixelRect& window, const CameraMap& map) {
    const double fx = static_cast<double>(map.geometry().tele.width) / tele.cols;
    const double fy = static_cast<double>(map.geometry().tele.height) / tele.rows;
    const int step = std::max(1, static_cast<int>(std::lround(map.geometry().scale / fx)));
    const double half = 0.5 * std::hypot(wide.cols, wide.rows);
    std::vector<Sample> samples;
    std::vector<double> tx(static_cast<std::size_t>(wide.cols)), ty(tx.size());
    for (int y = 1; y + 1 < wide.rows; ++y) {
        map.row(window.x, 1, window.y + y, wide.cols, tx.data(), ty.data());
        for (int x = 1; x + 1 < wide.cols; ++x) {
            if (!usable.at<unsigned char>(y, x)) continue;
            const auto k = static_cast<std::size_t>(x);
            const double px = (tx[k] + 0.5) / fx - 0.5, py = (ty[k] + 0.5) / fy - 0.5;
            if (!(px >= step && py >= step && px < tele.cols - 1 - step &&
                  py < tele.rows - 1 - step)) {
                continue;
            }
            // Linear between samples is enough away from edges, and edges count little
            const int ix = static_cast<int>(px), iy = static_cast<int>(py);
            const auto part_x = static_cast<float>(px - ix), part_y = static_cast<float>(py - iy);
            const float* low = tele.ptr<float>(iy) + ix;
            const float* high = tele.ptr<float>(iy + 1) + ix;
            const float above = low[0] + part_x * (low[1] - low[0]);
            const float below = high[0] + part_x * (high[1] - high[0]);
            const float dx = tele.at<float>(iy, ix + step) - tele.at<float>(iy, ix - step);
            const float dy = tele.at<float>(iy + step, ix) - tele.at<float>(iy - step, ix);
            const double slope = std::hypot(static_cast<double>(dx), static_cast<double>(dy)) / 2;
            samples.push_back({wide.at<float>(y, x), above + part_y * (below - above),
                               static_cast<float>(1 / (1 + slope * slope / (edge * edge))),
                               static_cast<float>((x - wide.cols / 2.0) / half),
                               static_cast<float>((y - wide.rows / 2.0) / half)});
        }
    }
    return samples;
}

/// Knots at equal shares of the pixels, kept apart.
std::vector<float> knots_of(const std::vector<Sample>& samples) {
    std::vector<float> sorted;
    for (const Sample& s : samples) sorted.push_back(s.tele);
    std::sort(sorted.begin(), sorted.end());
    std::vector<float> knots;
    for (std::size_t i = 0; i < knot_count; ++i) {
        const double share = 0.002 + 0.996 * static_cast<double>(i) / (knot_count - 1);
        float knot =
            sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
        if (!knots.empty()) knot = std::max(knot, knots.back() + 0.004F);
        knots.push_back(knot);
    }
    return knots;
}

/// Normal equations of one round, upper triangle, and the spread of the residuals before it.
struct Equations {
    std::vector<double> matrix = std::vector<double>(unknowns * unknowns, 0.0);
    std::vector<double> right = std::vector<double>(unknowns, 0.0);
    double sigma = 0;  ///< 1.4826 MAD, at least 0.004
};

/// wide = f(tele) + f_before(tele) (a x + b y + c r^2).
///
/// solution  of the round before: values at the knots, then a, b, c
/// sigma     of the round before, for Tukey's weights; 0 weighs by the gradient alone
Equations equations_of(const std::vector<Sample>& samples, const std::vector<float>& knots,
                       const std::vector<double>& solution, double sigma) {
    const ToneCurve before(
        knots, {solution.begin(), solution.begin() + static_cast<std::ptrdiff_t>(knot_count)});
    Equations sums;
    std::vector<float> residuals;
    residuals.reserve(samples.size());
    for (const Sample& s : samples) {
        const std::size_t i = piece_of(knots, s.tele);
        const auto t = static_cast<double>((s.tele - knots[i]) / (knots[i + 1] - knots[i]));
        const auto made = static_cast<double>(before(s.tele));
        const auto x = static_cast<double>(s.x), y = static_cast<double>(s.y);
        const std::array<std::size_t, 5> index{i, i + 1, knot_count, knot_count + 1,
                                               knot_count + 2};
        const std::array<double, 5> column{1 - t, t, made * x, made * y, made * (x * x + y * y)};
        double explained = 0;
        for (std::size_t p = 0; p < 5; ++p) explained += column[p] * solution[index[p]];
        const double residual = static_cast<double>(s.wide) - explained;
        residuals.push_back(static_cast<float>(std::abs(residual)));
        const double weight =
            static_cast<double>(s.weight) * (sigma > 0 ? tukey_weight(residual, 4.7 * sigma) : 1);
        if (weight <= 0) continue;
        for (std::size_t p = 0; p < 5; ++p) {
            sums.right[index[p]] += weight * column[p] * static_cast<double>(s.wide);
            for (std::size_t q = p; q < 5; ++q) {
                sums.matrix[index[p] * unknowns + index[q]] += weight * column[p] * column[q];
            }
        }
    }
    const auto middle = residuals.begin() + static_cast<std::ptrdiff_t>(residuals.size() / 2);
    std::nth_element(residuals.begin(), middle, residuals.end());
    sums.sigma = std::max(1.4826 * static_cast<double>(*middle), 0.004);
    return sums;
}

}  // namespace

ToneCurve::ToneCurve(std::vector<float> knots, std::vector<float> values)
    : knots_(std::move(knots)), values_(std::move(values)) {}

float ToneCurve::operator()(float v) const {
    if (knots_.empty()) return v;
    const std::size_t i = piece_of(knots_, v);
    const float t = (v - knots_[i]) / (knots_[i + 1] - knots_[i]);
    return values_[i] + t * (values_[i + 1] - values_[i]);
}

cv::Mat ToneCurve::operator()(const cv::Mat& tele) const {
    if (knots_.empty()) return tele;
    constexpr int steps = 2048;
    std::vector<float> table;
    for (int i = 0; i <= steps + 1; ++i) table.push_back((*this)(static_cast<float>(i) / steps));
    cv::Mat result(tele.rows, tele.cols, CV_32F);
    tbb::this_task_arena::isolate([&] {
        tbb::parallel_for(0, tele.rows, [&](int y) {
            const float* from = tele.ptr<float>(y);
            float* to = result.ptr<float>(y);
            for (int x = 0; x < tele.cols; ++x) {
                const float at = std::clamp(from[x], 0.0F, 1.0F) * steps;
                const auto i = static_cast<std::size_t>(at);
                to[x] = table[i] + (at - static_cast<float>(i)) * (table[i + 1] - table[i]);
            }
        });
    });
    return result;
}

ToneCurve fit_tone(const cv::Mat& wide, const cv::Mat& tele, const cv::Mat& usable,
                   const PixelRect& window, const CameraMap& map) {
    const std::vector<Sample> samples = gather(wide, tele, usable, window, map);
    if (samples.size() < least_pixels) return {};

    const std::vector<float> knots = knots_of(samples);

    // Fit curve and vignette, weighing the pixels again and again
    std::vector<double> solution(unknowns, 0.0);
    for (std::size_t i = 0; i < knot_count; ++i) solution[i] = static_cast<double>(knots[i]);
    double sigma = 0;
    for (int round = 0; round < 6; ++round) {
        Equations equations = equations_of(samples, knots, solution, sigma);
        sigma = equations.sigma;
        const double diagonal = diagonal_sum(equations.matrix, unknowns, knot_count);
        for (std::size_t p = knot_count; p < unknowns; ++p) {
            equations.matrix[p * unknowns + p] += 1e-6 * diagonal;
        }
        add_smoothness_(equations.matrix, equations.right, knots, smoothness);
        const std::vector<double> next = solve_symmetric(equations.matrix, equations.right);
        if (next.empty()) return {};
        solution = next;
        for (std::size_t i = 1; i < knot_count; ++i) {
            solution[i] = std::max(solution[i], solution[i - 1] + 1e-4);
        }
    }
    std::vector<float> values;
    for (std::size_t i = 0; i < knot_count; ++i) values.push_back(static_cast<float>(solution[i]));
    return {knots, values};
}

}  // namespace ultrasr
