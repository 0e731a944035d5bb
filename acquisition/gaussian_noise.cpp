#include "acquisition/gaussian_noise.h"

#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "data/base/random.h"

namespace ultrasr {
namespace {

/// Quantiles at (i + 0.5) / 65536, scaled to variance 1.
const std::vector<float>& quantiles() {
    static const std::vector<float> table = [] {
        constexpr std::size_t n = 65536;
        std::vector<double> exact(n);
        double square = 0;
        for (std::size_t i = 0; i < n; ++i) {
            exact[i] = normal_quantile((static_cast<double>(i) + 0.5) / n);
            square += exact[i] * exact[i];
        }
        const double scale = 1 / std::sqrt(square / n);
        std::vector<float> scaled(n);
        for (std::size_t i = 0; i < n; ++i) scaled[i] = static_cast<float>(exact[i] * scale);
        return scaled;
    }();
    return table;
}

double tail(double q) {  // Acklam, lower region
    constexpr std::array<double, 6> c{-7.784894002430293e-03, -3.223964580411365e-01,
                                      -2.400758277161838e+00, -2.549732539343734e+00,
                                      4.374664141464968e+00,  2.938163982698783e+00};
    constexpr std::array<double, 4> d{7.784695709041462e-03, 3.224671290700398e-01,
                                      2.445134137142996e+00, 3.754408661907416e+00};
    return (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
           ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
}

double centre(double q) {  // Acklam, central region
    constexpr std::array<double, 6> a{-3.969683028665376e+01, 2.209460984245205e+02,
                                      -2.759285104469687e+02, 1.383577518672690e+02,
                                      -3.066479806614716e+01, 2.506628277459239e+00};
    constexpr std::array<double, 5> b{-5.447609879822406e+01, 1.615858368580409e+02,
                                      -1.556989798598866e+02, 6.680131188771972e+01,
                                      -1.328068155288572e+01};
    const double r = q * q;
    return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
           (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
}

}  // namespace

double normal_quantile(double p) {
    constexpr double low = 0.02425;
    double x = 0;
    if (p < low) {
        x = tail(std::sqrt(-2 * std::log(p)));
    } else if (p > 1 - low) {
        x = -tail(std::sqrt(-2 * std::log(1 - p)));
    } else {
        x = centre(p - 0.5);
    }
    const double error = 0.5 * std::erfc(-x / std::numbers::sqrt2) - p;
    const double u = error * std::sqrt(2 * std::numbers::pi) * std::exp(0.5 * x * x);
    return x - u / (1 + 0.5 * x * u);
}

void fill_gaussian(std::uint64_t seed, std::uint64_t item, std::span<float> to) {
    const float* table = quantiles().data();
    Rng rng(seed, item);
    std::size_t i = 0;
    for (; i + 1 < to.size(); i += 2) {
        const std::uint32_t word = rng.next();
        to[i] = table[word & 0xFFFF];
        to[i + 1] = table[word >> 16];
    }
    if (i < to.size()) to[i] = table[rng.next() & 0xFFFF];
}

}  // namespace ultrasr
