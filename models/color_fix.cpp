#include "models/color_fix.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "data/base/error.h"
#include "models/resample.h"

namespace ultrasr {
namespace {

/// Eight pixels, R G B interleaved: values of a row are summed in so many separate places, which
/// makes vector instructions of the sum and its order the same everywhere.
constexpr std::size_t lanes = 24;

float to_range(float v) { return v > 0.0F ? std::min(v, 1.0F) : 0.0F; }

/// Not filled.
Image empty_like(const Image& image) {
    return Image(cv::Mat(image.height(), image.width(), CV_32FC3), image.encoding());
}

std::size_t row_floats(const Image& image) { return 3 * static_cast<std::size_t>(image.width()); }

template <class Work>
void for_each_row(const Image& image, const Work& work) {
    at::parallel_for(0, image.height(), 8, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t y = begin; y < end; ++y) work(static_cast<int>(y));
    });
}

// ---- AdaIN ----

struct Moments {
    std::array<double, 3> mean, sigma;
};

Moments moments_of(const Image& image) {
    // Sum every row by itself
    struct Sums {
        std::array<double, 3> values{}, squares{};
    };
    std::vector<Sums> rows(static_cast<std::size_t>(image.height()));
    const std::size_t n = row_floats(image);
    for_each_row(image, [&](int y) {
        std::array<double, lanes> values{}, squares{};
        const float* p = image.row(y);
        std::size_t i = 0;
        for (; i + lanes <= n; i += lanes) {
            for (std::size_t k = 0; k < lanes; ++k) {
                const double v = static_cast<double>(p[i + k]);
                values[k] += v;
                squares[k] += v * v;
            }
        }
        for (std::size_t k = 0; i + k < n; ++k) {
            const double v = static_cast<double>(p[i + k]);
            values[k] += v;
            squares[k] += v * v;
        }
        Sums& sums = rows[static_cast<std::size_t>(y)];
        for (std::size_t k = 0; k < lanes; ++k) {
            sums.values[k % 3] += values[k];
            sums.squares[k % 3] += squares[k];
        }
    });
    // Add the rows in order
    Sums total;
    for (const Sums& sums : rows) {
        for (std::size_t c = 0; c < 3; ++c) {
            total.values[c] += sums.values[c];
            total.squares[c] += sums.squares[c];
        }
    }
    const double count = static_cast<double>(image.width()) * image.height();
    Moments moments;
    for (std::size_t c = 0; c < 3; ++c) {
        constexpr double eps = 1e-5;
        const double mean = total.values[c] / count;
        const double spread = std::max(total.squares[c] - total.values[c] * mean, 0.0);
        moments.mean[c] = mean;
        moments.sigma[c] = std::sqrt((count > 1.0 ? spread / (count - 1.0) : 0.0) + eps);
    }
    return moments;
}

Image adain(const Image& sr, const Image& reference) {
    const Moments own = moments_of(sr);
    const Moments wanted = moments_of(reference);
    std::array<float, lanes> mu, sigma, sigma_ref, mu_ref;
    for (std::size_t k = 0; k < lanes; ++k) {
        mu[k] = static_cast<float>(own.mean[k % 3]);
        sigma[k] = static_cast<float>(own.sigma[k % 3]);
        sigma_ref[k] = static_cast<float>(wanted.sigma[k % 3]);
        mu_ref[k] = static_cast<float>(wanted.mean[k % 3]);
    }
    Image result = empty_like(sr);
    const std::size_t n = row_floats(sr);
    for_each_row(sr, [&](int y) {
        const float* x = sr.row(y);
        float* to = result.row_(y);
        const auto value = [&](std::size_t i, std::size_t k) {
            return to_range((x[i + k] - mu[k]) / sigma[k] * sigma_ref[k] + mu_ref[k]);
        };
        std::size_t i = 0;
        for (; i + lanes <= n; i += lanes) {
            for (std::size_t k = 0; k < lanes; ++k) to[i + k] = value(i, k);
        }
        for (std::size_t k = 0; i + k < n; ++k) to[i + k] = value(i, k);
    });
    return result;
}

// ---- Wavelet ----

/// [1 2 1; 2 4 2; 1 2 1] / 16, its outer taps `distance` pixels away, the border repeated.
void blur(const Image& from, int distance, Image& to) {
    const std::size_t n = row_floats(from);
    const std::size_t reach = 3 * static_cast<std::size_t>(distance);
    at::parallel_for(0, from.height(), 8, [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> line(n + 2 * reach);
        for (int y = static_cast<int>(begin); y < static_cast<int>(end); ++y) {
            // Down the columns
            const float* above = from.row(std::max(y - distance, 0));
            const float* here = from.row(y);
            const float* below = from.row(std::min(y + distance, from.height() - 1));
            float* middle = line.data() + reach;
            for (std::size_t i = 0; i < n; ++i) middle[i] = above[i] + 2.0F * here[i] + below[i];
            for (std::size_t i = 0; i < reach; ++i) {
                line[i] = middle[i % 3];
                middle[n + i] = middle[n - 3 + i % 3];
            }
            // Along the row
            const float* left = line.data();
            float* result = to.row_(y);
            for (std::size_t i = 0; i < n; ++i) {
                result[i] = (left[i] + 2.0F * left[i + reach] + left[i + 2 * reach]) * 0.0625F;
            }
        }
    });
}

Image wavelet(const Image& sr, const Image& reference) {
    if (sr.size() != reference.size()) {
        fail(Fault::internal,
             "the wavelet colour fix compares equal sizes, got {} x {} and {} x {}", sr.width(),
             sr.height(), reference.width(), reference.height());
    }
    const std::size_t n = row_floats(sr);
    Image low = empty_like(sr);
    Image other = empty_like(sr);
    for_each_row(sr, [&](int y) {
        const float* x = sr.row(y);
        const float* wanted = reference.row(y);
        float* to = low.row_(y);
        for (std::size_t i = 0; i < n; ++i) to[i] = wanted[i] - x[i];
    });
    constexpr int levels = 5;
    for (int i = 0; i < levels; ++i) {
        blur(low, 1 << i, other);
        std::swap(low, other);
    }
    for_each_row(sr, [&](int y) {
        const float* x = sr.row(y);
        float* to = low.row_(y);
        for (std::size_t i = 0; i < n; ++i) to[i] = to_range(x[i] + to[i]);
    });
    return low;
}

}  // namespace

Image color_fix(const Image& sr, const Image& reference, ColorFix how) {
    if (how == ColorFix::none) return clamped(sr);
    if (sr.empty() || reference.empty()) {
        fail(Fault::internal, "the colour fix needs two pictures, got {} x {} and {} x {}",
             sr.width(), sr.height(), reference.width(), reference.height());
    }
    return how == ColorFix::adain ? adain(sr, reference) : wavelet(sr, reference);
}

}  // namespace ultrasr
