#include "models/resample.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "data/base/error.h"

namespace ultrasr {
namespace {

double keys(double x) {
    constexpr double a = -0.5;
    x = std::abs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

double sinc(double x) {
    if (x == 0.0) return 1.0;
    x *= std::numbers::pi;
    return std::sin(x) / x;
}

double lanczos3(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0; }

}  // namespace

double kernel_value(Kernel kernel, double x) {
    return kernel == Kernel::bicubic ? keys(x) : lanczos3(x);
}

double kernel_radius(Kernel kernel) { return kernel == Kernel::bicubic ? 2.0 : 3.0; }

namespace {

/// The taps of every output position along one axis.
struct Taps {
    std::vector<int> first;       ///< per output: its first input
    std::vector<int> count;       ///< per output
    std::vector<double> weights;  ///< `most` per output
    int most = 0;

    const double* of(int i) const { return weights.data() + static_cast<std::ptrdiff_t>(i) * most; }
};

Taps make_taps(int n, int m, Kernel kernel) {
    const double s = static_cast<double>(n) / m;
    const double f = std::max(s, 1.0);
    const double radius = kernel_radius(kernel) * f;
    Taps taps;
    taps.most = 2 * static_cast<int>(std::ceil(radius)) + 1;
    taps.weights.resize(static_cast<std::size_t>(m) * static_cast<std::size_t>(taps.most));
    for (int i = 0; i < m; ++i) {
        const double c = (i + 0.5) * s;
        const int begin = std::max(0, static_cast<int>(c - radius + 0.5));
        const int end = std::min(n, static_cast<int>(c + radius + 0.5));
        double* w = taps.weights.data() + static_cast<std::ptrdiff_t>(i) * taps.most;
        double sum = 0.0;
        for (int t = begin; t < end; ++t) {
            const double x = (t - c + 0.5) / f;
            w[t - begin] = kernel_value(kernel, x);
            sum += w[t - begin];
        }
        for (int t = begin; t < end; ++t) w[t - begin] /= sum;
        taps.first.push_back(begin);
        taps.count.push_back(end - begin);
    }
    return taps;
}

Image resize_columns(const Image& image, int width, Kernel kernel) {
    const Taps taps = make_taps(image.width(), width, kernel);
    Image result(PixelSize{width, image.height()}, image.encoding());
    for (int y = 0; y < image.height(); ++y) {
        const float* from = image.row(y);
        float* to = result.row_(y);
        for (int x = 0; x < width; ++x) {
            const std::size_t i = static_cast<std::size_t>(x);
            const double* w = taps.of(x);
            const float* p = from + 3 * static_cast<std::ptrdiff_t>(taps.first[i]);
            double r = 0.0;
            double g = 0.0;
            double b = 0.0;
            for (int t = 0; t < taps.count[i]; ++t, p += 3) {
                r += p[0] * w[t];
                g += p[1] * w[t];
                b += p[2] * w[t];
            }
            to[3 * x] = static_cast<float>(r);
            to[3 * x + 1] = static_cast<float>(g);
            to[3 * x + 2] = static_cast<float>(b);
        }
    }
    return result;
}

Image resize_rows(const Image& image, int height, Kernel kernel) {
    const Taps taps = make_taps(image.height(), height, kernel);
    Image result(PixelSize{image.width(), height}, image.encoding());
    const std::size_t n = 3 * static_cast<std::size_t>(image.width());
    std::vector<double> sums(n);
    for (int y = 0; y < height; ++y) {
        const std::size_t i = static_cast<std::size_t>(y);
        std::fill(sums.begin(), sums.end(), 0.0);
        for (int t = 0; t < taps.count[i]; ++t) {
            const float* from = image.row(taps.first[i] + t);
            const double w = taps.of(y)[t];
            for (std::size_t x = 0; x < n; ++x) sums[x] += from[x] * w;
        }
        std::transform(sums.begin(), sums.end(), result.row_(y),
                       [](double v) { return static_cast<float>(v); });
    }
    return result;
}

}  // namespace

Image resize(const Image& image, PixelSize target, Kernel kernel) {
    if (image.empty() || target.width < 1 || target.height < 1) {
        fail(Fault::internal, "cannot resize {} x {} to {} x {}", image.width(), image.height(),
             target.width, target.height);
    }
    Image result = image;
    if (target.width != result.width()) result = resize_columns(result, target.width, kernel);
    if (target.height != result.height()) result = resize_rows(result, target.height, kernel);
    return result;
}

Image clamped(const Image& image) {
    Image result(image.size(), image.encoding());
    for (int y = 0; y < image.height(); ++y) {
        // A NaN fails the comparison and becomes 0
        std::transform(image.row(y), image.row(y) + 3 * image.width(), result.row_(y),
                       [](float v) { return v > 0.0F ? std::min(v, 1.0F) : 0.0F; });
    }
    return result;
}

}  // namespace ultrasr
