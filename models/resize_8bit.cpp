#include "models/resize_8bit.h"

#include <ATen/Parallel.h>
#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/upsample_bicubic2d.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "data/base/error.h"

namespace ultrasr {
namespace {

using Level = std::uint8_t;

constexpr int weight_bits = 22;  // 32, less 8 of a level, less 2 for sums outside [0,255]

/// Where one output position looks, and how much, in units of 2^-22.
struct Taps {
    int first = 0;
    std::vector<std::int32_t> weights;
};

std::vector<Taps> taps_of(int in, int out, Kernel kernel) {
    const double scale = static_cast<double>(in) / out;
    const double stretch = std::max(scale, 1.0);
    const double support = kernel_radius(kernel) * stretch;
    std::vector<Taps> all(static_cast<std::size_t>(out));
    std::vector<double> exact;
    for (int i = 0; i < out; ++i) {
        const double centre = (i + 0.5) * scale;
        Taps& taps = all[static_cast<std::size_t>(i)];
        taps.first = std::max(0, static_cast<int>(centre - support + 0.5));
        const int last = std::min(in, static_cast<int>(centre + support + 0.5));
        exact.clear();
        double sum = 0.0;
        for (int t = taps.first; t < last; ++t) {
            const double x = (t - centre + 0.5) * (1.0 / stretch);
            exact.push_back(kernel_value(kernel, x));
            sum += exact.back();
        }
        for (const double w : exact) {
            const double units = w / sum * (1 << weight_bits);
            taps.weights.push_back(
                static_cast<std::int32_t>(units < 0.0 ? units - 0.5 : units + 0.5));
        }
    }
    return all;
}

Level level_of(std::int32_t sum) {
    return static_cast<Level>(std::clamp(sum >> weight_bits, 0, 255));
}

/// Rows of levels, R G B interleaved.
struct Levels {
    std::size_t row_bytes = 0;
    std::vector<Level> bytes;

    Levels(int width, int height)
        : row_bytes(3 * static_cast<std::size_t>(width)),
          bytes(row_bytes * static_cast<std::size_t>(height)) {}
    const Level* row(std::int64_t y) const {
        return bytes.data() + static_cast<std::size_t>(y) * row_bytes;
    }
    Level* row_(std::int64_t y) { return bytes.data() + static_cast<std::size_t>(y) * row_bytes; }
};

Levels levels_of(const Image& image) {
    Levels levels(image.width(), image.height());
    at::parallel_for(0, image.height(), 16, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t y = begin; y < end; ++y) {
            const float* from = image.row(static_cast<int>(y));
            Level* to = levels.row_(y);
            for (std::size_t i = 0; i < levels.row_bytes; ++i) {
                const float v = from[i] > 0.0F ? std::min(from[i], 1.0F) : 0.0F;
                to[i] = static_cast<Level>(static_cast<int>(std::nearbyint(v * 255.0F)));
            }
        }
    });
    return levels;
}

/// Rows that are filtered together, so that one tap is a few vector instructions.
constexpr std::size_t lanes = 16;

Levels resize_columns(const Levels& image, int height, int in, int out, Kernel kernel) {
    const std::vector<Taps> taps = taps_of(in, out, kernel);
    Levels result(out, height);
    const auto blocks = (height + std::int64_t{lanes} - 1) / std::int64_t{lanes};
    at::parallel_for(0, blocks, 1, [&](std::int64_t begin, std::int64_t end) {
        std::vector<Level> block(image.row_bytes * lanes);
        for (std::int64_t b = begin; b < end; ++b) {
            const std::int64_t top = b * std::int64_t{lanes};
            // Lay the rows side by side; below the last one it is repeated
            std::array<const Level*, lanes> rows;
            for (std::size_t k = 0; k < lanes; ++k) {
                rows[k] = image.row(std::min<std::int64_t>(top + static_cast<int>(k), height - 1));
            }
            for (std::size_t i = 0; i < image.row_bytes; ++i) {
                for (std::size_t k = 0; k < lanes; ++k) block[i * lanes + k] = rows[k][i];
            }
            // Filter, and put every row's pixel in its place
            const std::size_t used =
                static_cast<std::size_t>(std::min<std::int64_t>(std::int64_t{lanes}, height - top));
            for (std::size_t x = 0; x < taps.size(); ++x) {
                std::array<std::int32_t, 3 * lanes> sums;
                sums.fill(1 << (weight_bits - 1));
                const Level* p = block.data() + static_cast<std::size_t>(taps[x].first) * 3 * lanes;
                for (const std::int32_t w : taps[x].weights) {
                    for (std::size_t k = 0; k < 3 * lanes; ++k) sums[k] += p[k] * w;
                    p += 3 * lanes;
                }
                std::array<Level, 3 * lanes> pixels;
                for (std::size_t k = 0; k < 3 * lanes; ++k) pixels[k] = level_of(sums[k]);
                for (std::size_t k = 0; k < used; ++k) {
                    Level* to = result.row_(top + static_cast<int>(k)) + 3 * x;
                    to[0] = pixels[k];
                    to[1] = pixels[lanes + k];
                    to[2] = pixels[2 * lanes + k];
                }
            }
        }
    });
    return result;
}

/// Levels to k / 255.
void write_row(const Level* from, std::size_t n, float* to) {
    for (std::size_t i = 0; i < n; ++i) to[i] = static_cast<float>(from[i]) / 255.0F;
}

Image resize_rows(const Levels& image, PixelSize target, int in, Kernel kernel, Encoding encoding) {
    const std::vector<Taps> taps = taps_of(in, target.height, kernel);
    Image result(cv::Mat(target.height, target.width, CV_32FC3), encoding);
    at::parallel_for(0, target.height, 8, [&](std::int64_t begin, std::int64_t end) {
        constexpr std::size_t piece = 1024;  // its sums stay in the first cache
        std::array<std::int32_t, piece> sums;
        std::array<Level, piece> levels;
        for (std::int64_t y = begin; y < end; ++y) {
            const Taps& row = taps[static_cast<std::size_t>(y)];
            for (std::size_t left = 0; left < image.row_bytes; left += piece) {
                const std::size_t n = std::min(piece, image.row_bytes - left);
                std::fill_n(sums.begin(), n, 1 << (weight_bits - 1));
                for (std::size_t t = 0; t < row.weights.size(); ++t) {
                    const Level* p = image.row(row.first + static_cast<int>(t)) + left;
                    const std::int32_t w = row.weights[t];
                    for (std::size_t i = 0; i < n; ++i) sums[i] += p[i] * w;
                }
                for (std::size_t i = 0; i < n; ++i) levels[i] = level_of(sums[i]);
                write_row(levels.data(), n, result.row_(static_cast<int>(y)) + left);
            }
        }
    });
    return result;
}

Image image_of(const Levels& levels, PixelSize size, Encoding encoding) {
    Image result(cv::Mat(size.height, size.width, CV_32FC3), encoding);
    for (int y = 0; y < size.height; ++y) {
        write_row(levels.row(y), levels.row_bytes, result.row_(y));
    }
    return result;
}

}  // namespace

Image resize_8bit(const Image& image, PixelSize target, Kernel kernel) {
    if (image.empty() || target.width < 1 || target.height < 1) {
        fail(Fault::internal, "cannot resize {} x {} to {} x {}", image.width(), image.height(),
             target.width, target.height);
    }
    Levels levels = levels_of(image);
    if (target.width != image.width()) {
        levels = resize_columns(levels, image.height(), image.width(), target.width, kernel);
    }
    if (target.height == image.height()) return image_of(levels, target, image.encoding());
    return resize_rows(levels, target, image.height(), kernel, image.encoding());
}

at::Tensor resize_torch(const at::Tensor& nchw, PixelSize target, TorchBicubic kind) {
    const std::array<std::int64_t, 2> size{target.height, target.width};
    return kind == TorchBicubic::plain ? at::upsample_bicubic2d(nchw, size, false)
                                       : at::_upsample_bicubic2d_aa(nchw, size, false);
}

}  // namespace ultrasr
