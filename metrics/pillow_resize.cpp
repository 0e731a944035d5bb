#include "metrics/pillow_resize.h"

#include <algorithm>
#include <cmath>

#include "data/image.h"

namespace ultrasr {
namespace {

double keys_cubic(double x) {
    constexpr double a = -0.5;
    x = std::abs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

/// Where one output place looks, and how much.
struct Taps {
    int first = 0;
    std::vector<double> weights;
};

std::vector<Taps> taps_of(int in, int out) {
    const double scale = static_cast<double>(in) / out;
    const double stretch = std::max(scale, 1.0);
    const double support = 2.0 * stretch;
    std::vector<Taps> all(static_cast<std::size_t>(out));
    for (int i = 0; i < out; ++i) {
        const double centre = (i + 0.5) * scale;
        Taps& taps = all[static_cast<std::size_t>(i)];
        taps.first = std::max(0, static_cast<int>(centre - support + 0.5));
        const int last = std::min(in, static_cast<int>(centre + support + 0.5));
        double sum = 0.0;
        for (int t = taps.first; t < last; ++t) {
            taps.weights.push_back(keys_cubic((t - centre + 0.5) * (1.0 / stretch)));
            sum += taps.weights.back();
        }
        for (double& w : taps.weights) w /= sum;
    }
    return all;
}

}  // namespace

std::vector<float> pillow_bicubic(const Image& image, PixelSize size) {
    const auto columns = taps_of(image.width(), size.width);
    const auto rows = taps_of(image.height(), size.height);
    const std::size_t row_floats = 3 * static_cast<std::size_t>(size.width);

    // Horizontal pass
    std::vector<float> narrow(row_floats * static_cast<std::size_t>(image.height()));
    std::vector<float> levels(3 * static_cast<std::size_t>(image.width()));
    for (int y = 0; y < image.height(); ++y) {
        const float* from = image.row(y);
        for (std::size_t i = 0; i < levels.size(); ++i) {
            levels[i] = std::nearbyint(from[i] * 255.0F);
        }
        float* to = narrow.data() + static_cast<std::size_t>(y) * row_floats;
        for (const auto& [first, weights] : columns) {
            double r = 0.0, g = 0.0, b = 0.0;
            const float* p = levels.data() + 3 * first;
            for (const double w : weights) {
                r += static_cast<double>(p[0]) * w;
                g += static_cast<double>(p[1]) * w;
                b += static_cast<double>(p[2]) * w;
                p += 3;
            }
            *to++ = static_cast<float>(r);
            *to++ = static_cast<float>(g);
            *to++ = static_cast<float>(b);
        }
    }

    // Vertical pass
    std::vector<float> result(row_floats * static_cast<std::size_t>(size.height));
    std::vector<double> sums(row_floats);
    for (int y = 0; y < size.height; ++y) {
        const auto& [first, weights] = rows[static_cast<std::size_t>(y)];
        std::fill(sums.begin(), sums.end(), 0.0);
        const float* from = narrow.data() + static_cast<std::size_t>(first) * row_floats;
        for (const double w : weights) {
            for (std::size_t i = 0; i < row_floats; ++i) {
                sums[i] += static_cast<double>(from[i]) * w;
            }
            from += row_floats;
        }
        float* to = result.data() + static_cast<std::size_t>(y) * row_floats;
        for (std::size_t i = 0; i < row_floats; ++i) to[i] = static_cast<float>(sums[i]);
    }
    return result;
}

}  // namespace ultrasr
