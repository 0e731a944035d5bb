#include "acquisition/frame_shift.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"

namespace ultrasr {
namespace {

constexpr int unknowns = 8;  // six of the affine map, gain, offset
using Vector = cv::Vec<double, unknowns>;
using Matrix = cv::Matx<double, unknowns, unknowns>;

/// Displacement a0 + a1 x + a2 y to the right, a3 + a4 x + a5 y down; x and y from the middle in
/// half diagonals.
struct Affine {
    std::array<double, 6> a{};
    PixelPoint at(double x, double y) const {
        return {a[0] + a[1] * x + a[2] * y, a[3] + a[4] * x + a[5] * y};
    }
};

struct Area {
    double cx, cy, half_diagonal;
    explicit Area(cv::Size size)
        : cx((size.width - 1) / 2.0),
          cy((size.height - 1) / 2.0),
          half_diagonal(std::hypot(size.width, size.height) / 2) {}
};

constexpr int taps = 6;

/// Weights of the polynomial through six samples, read t behind the third: the error falls with the
/// sixth power of the frequency. (Cubic convolution would turn a shift of 0.17 px into 0.177 on
/// detail of 6 px, Lanczos 0.3 into 0.31.) In steps of 1/4096 px.
const std::array<float, taps>& lagrange_weights(double t) {
    static const auto table = [] {
        std::vector<std::array<float, taps>> all(4097);
        for (std::size_t k = 0; k < all.size(); ++k) {
            const double at = static_cast<double>(k) / 4096 + 2;
            for (std::size_t i = 0; i < taps; ++i) {
                double weight = 1;
                for (std::size_t j = 0; j < taps; ++j) {
                    const double node = static_cast<double>(j);
                    if (j != i) weight *= (at - node) / (static_cast<double>(i) - node);
                }
                all[k][i] = static_cast<float>(weight);
            }
        }
        return all;
    }();
    return table[static_cast<std::size_t>(std::lround(4096 * t))];
}

/// `picture` read at each pixel plus its displacement; NaN where that lies outside. (cv::remap
/// would round places to 1/32 px.)
cv::Mat moved(const cv::Mat& picture, const Affine& affine) {
    const Area area(picture.size());
    cv::Mat result(picture.size(), CV_32F);
    for (int y = 0; y < picture.rows; ++y) {
        float* to = result.ptr<float>(y);
        for (int x = 0; x < picture.cols; ++x) {
            const PixelPoint d =
                affine.at((x - area.cx) / area.half_diagonal, (y - area.cy) / area.half_diagonal);
            const double px = x + d.x, py = y + d.y;
            const double fx = std::floor(px), fy = std::floor(py);
            if (!(fx >= 2 && fy >= 2 && fx < picture.cols - 3 && fy < picture.rows - 3)) {
                to[x] = NAN;
                continue;
            }
            const auto &wx = lagrange_weights(px - fx), &wy = lagrange_weights(py - fy);
            float sum = 0;
            for (std::size_t j = 0; j < taps; ++j) {
                const float* from =
                    picture.ptr<float>(static_cast<int>(fy) + static_cast<int>(j) - 2) +
                    static_cast<int>(fx) - 2;
                float row = 0;
                for (std::size_t i = 0; i < taps; ++i) row += wx[i] * from[i];
                sum += wy[j] * row;
            }
            to[x] = sum;
        }
    }
    return result;
}

/// One pixel's part in the fit.
struct Sample {
    Vector slope;
    double residual;
};

struct Step {
    Vector change;
    Matrix inverse;     ///< of the weighted normal matrix
    double spread = 0;  ///< robust standard deviation of the residuals
    double correlation = 0;
};

/// One Gauss-Newton step with `gain` and the offset of the first picture solved along with it.
/// Nothing when the area has too little detail.
std::optional<Step> solve(const cv::Mat& first, const cv::Mat& second, const Affine& affine,
                          double gain, double offset) {
    const Area area(first.size());
    const cv::Mat warped = moved(second, affine);
    std::vector<Sample> samples;
    samples.reserve(first.total());
    double sum_a = 0, sum_b = 0, sum_aa = 0, sum_bb = 0, sum_ab = 0;
    for (int y = 2; y < first.rows - 2; ++y) {
        const float *a = first.ptr<float>(y), *up = first.ptr<float>(y - 1),
                    *down = first.ptr<float>(y + 1);
        const float *b = warped.ptr<float>(y), *b_up = warped.ptr<float>(y - 1),
                    *b_down = warped.ptr<float>(y + 1);
        for (int x = 2; x < first.cols - 2; ++x) {
            // The mean gradient of both: noise of one alone would shrink the steps
            const double gx = (gain * static_cast<double>(a[x + 1] - a[x - 1]) +
                               static_cast<double>(b[x + 1] - b[x - 1])) /
                              4;
            const double gy = (gain * static_cast<double>(down[x] - up[x]) +
                               static_cast<double>(b_down[x] - b_up[x])) /
                              4;
            if (std::isnan(gx) || std::isnan(gy) || std::isnan(b[x])) continue;
            const double u = (x - area.cx) / area.half_diagonal;
            const double v = (y - area.cy) / area.half_diagonal;
            const double va = static_cast<double>(a[x]), vb = static_cast<double>(b[x]);
            samples.push_back(
                {{gx, gx * u, gx * v, gy, gy * u, gy * v, -va, -1.0}, gain * va + offset - vb});
            sum_a += va;
            sum_b += vb;
            sum_aa += va * va;
            sum_bb += vb * vb;
            sum_ab += va * vb;
        }
    }
    const auto n = static_cast<double>(samples.size());
    if (n < 1000) return std::nullopt;

    // Tukey weights about the median of the absolute residuals
    std::vector<double> sizes;
    sizes.reserve(samples.size());
    for (const Sample& s : samples) sizes.push_back(std::abs(s.residual));
    const auto middle = sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2);
    std::nth_element(sizes.begin(), middle, sizes.end());
    Step step;
    step.spread = std::max(1.4826 * *middle, 1e-7);
    const double limit = 4.685 * step.spread;  // Holland and Welsch 1977
    Matrix normal = Matrix::zeros();
    Vector right = Vector::all(0);
    for (const Sample& s : samples) {
        const double r = s.residual / limit;
        if (std::abs(r) >= 1) continue;
        const double weight = (1 - r * r) * (1 - r * r);
        for (int i = 0; i < unknowns; ++i) {
            const double wi = weight * s.slope[i];
            right[i] += wi * s.residual;
            for (int j = i; j < unknowns; ++j) normal(i, j) += wi * s.slope[j];
        }
    }
    for (int i = 0; i < unknowns; ++i) {
        for (int j = 0; j < i; ++j) normal(i, j) = normal(j, i);
    }
    // Unit diagonal first, so that the inverse says something of the geometry
    Vector scale;
    for (int i = 0; i < unknowns; ++i) {
        if (!(normal(i, i) > 0)) return std::nullopt;
        scale[i] = 1 / std::sqrt(normal(i, i));
    }
    Matrix scaled = normal;
    for (int i = 0; i < unknowns; ++i) {
        for (int j = 0; j < unknowns; ++j) scaled(i, j) *= scale[i] * scale[j];
    }
    bool done = false;
    step.inverse = scaled.inv(cv::DECOMP_CHOLESKY, &done);
    if (!done) return std::nullopt;
    for (int i = 0; i < unknowns; ++i) {
        for (int j = 0; j < unknowns; ++j) step.inverse(i, j) *= scale[i] * scale[j];
    }
    step.change = step.inverse * right;
    const double var_a = sum_aa - sum_a * sum_a / n, var_b = sum_bb - sum_b * sum_b / n;
    step.correlation = (sum_ab - sum_a * sum_b / n) / std::sqrt(std::max(var_a * var_b, 1e-30));
    return step;
}

cv::Mat blurred(const cv::Mat& picture, double sigma) {
    cv::Mat result;
    cv::GaussianBlur(picture, result, {0, 0}, sigma, sigma, cv::BORDER_REFLECT_101);
    return result;
}

/// Mean of a quadratic form over the area: RMS of the displacement, or of its standard error.
template <class Square>
double rms_over(cv::Size size, Square&& square) {
    const Area area(size);
    double sum = 0;
    constexpr int columns = 13, rows = 9;
    for (int j = 0; j < rows; ++j) {
        for (int i = 0; i < columns; ++i) {
            const double x = (size.width - 1) * (i / (columns - 1.0)) - area.cx;
            const double y = (size.height - 1) * (j / (rows - 1.0)) - area.cy;
            sum += square(x / area.half_diagonal, y / area.half_diagonal);
        }
    }
    return std::sqrt(sum / (columns * rows));
}

}  // namespace

std::optional<FrameShift> estimate_shift(const cv::Mat& first, const cv::Mat& second) {
    if (first.type() != CV_32F || second.type() != CV_32F || first.size() != second.size() ||
        first.cols < 64 || first.rows < 64) {
        fail(Fault::internal, "a shift is estimated between float pictures of one size");
    }
    // Whole pixels
    cv::Mat window;
    cv::createHanningWindow(window, first.size(), CV_32F);
    const cv::Point2d coarse = cv::phaseCorrelate(blurred(first, 1) - cv::mean(first)[0],
                                                  blurred(second, 1) - cv::mean(second)[0], window);
    Affine affine;
    if (std::abs(coarse.x) > first.cols / 4.0 || std::abs(coarse.y) > first.rows / 4.0) {
        return std::nullopt;
    }
    affine.a[0] = std::round(coarse.x);
    affine.a[3] = std::round(coarse.y);

    // Coarse to fine
    double gain = 1, offset = 0;
    std::optional<Step> step;
    for (const double sigma : {4.0, 2.0, 1.0}) {
        const cv::Mat a = blurred(first, sigma), b = blurred(second, sigma);
        for (int round = 0; round < 20; ++round) {
            step = solve(a, b, affine, gain, offset);
            if (!step) return std::nullopt;
            double largest = 0;
            for (std::size_t i = 0; i < 6; ++i) {
                const double change = std::clamp(step->change[static_cast<int>(i)], -3.0, 3.0);
                affine.a[i] += change;
                largest = std::max(largest, std::abs(change));
            }
            gain += step->change[6];
            offset += step->change[7];
            if (largest < 1e-4) break;
        }
    }
    if (step->correlation < 0.5) return std::nullopt;

    FrameShift shift;
    const double h = Area(first.size()).half_diagonal;
    shift.centre = {affine.a[0], affine.a[3]};
    shift.stretch = (affine.a[1] + affine.a[5]) / 2 / h;
    shift.turn_deg = (affine.a[4] - affine.a[2]) / 2 / h * 180 / CV_PI;
    shift.correlation = step->correlation;
    shift.rms_px = rms_over(first.size(), [&](double x, double y) {
        const PixelPoint d = affine.at(x, y);
        return d.x * d.x + d.y * d.y;
    });
    // Neighbours share a blur of 1 px, 4 pi pixels: so many fewer are independent
    const double variance = step->spread * step->spread * 4 * CV_PI;
    shift.sigma_px = rms_over(first.size(), [&](double x, double y) {
        const std::array<double, 3> basis{1, x, y};
        double sum = 0;
        for (int axis = 0; axis < 2; ++axis) {
            for (int i = 0; i < 3; ++i) {
                for (int j = 0; j < 3; ++j) {
                    sum += basis[static_cast<std::size_t>(i)] * basis[static_cast<std::size_t>(j)] *
                           step->inverse(3 * axis + i, 3 * axis + j);
                }
            }
        }
        return variance * sum;
    });
    return shift;
}

}  // namespace ultrasr
