#include "acquisition/simulated_world.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <opencv2/core/hal/intrin.hpp>
#include <opencv2/imgproc.hpp>

#include "acquisition/texture_noise.h"
#include "data/base/error.h"
#include "data/color.h"

namespace ultrasr {
namespace {

constexpr int pad = 4;  // pixels repeated around a plane, so that four taps never fall out
constexpr int texture_block = 8;         // pixels of level 0 per entry of the strength map
constexpr double coarse_wave_lr = 0.40;  // LR px
constexpr double fine_wave_lr = 0.20;
constexpr std::size_t block = 32;     // places interpolated together
constexpr std::size_t node_step = 8;  // samples between two looks at the strength map

/// How much of an octave a row of samples can show: nothing below 1.5 samples a wave.
float shown(double wave_lr, double spacing) {
    return static_cast<float>(std::clamp(wave_lr / spacing - 1.5, 0.0, 1.0));
}

/// Relative deviation of the pixels from their four neighbours in each block of pixels.
/// planes  with their border
cv::Mat octave_contrast(const LinearPlanes& planes, int side) {
    const cv::Mat& green = planes[1];
    const int columns = (green.cols - 2 * pad + side - 1) / side;
    const int rows = (green.rows - 2 * pad + side - 1) / side;
    cv::Mat contrast(rows, columns, CV_32F);
    tbb::parallel_for(0, rows, [&](int by) {
        for (int bx = 0; bx < columns; ++bx) {
            double sum = 0, square = 0;
            int count = 0;
            const int y1 = std::min(pad + (by + 1) * side, green.rows - pad);
            const int x1 = std::min(pad + (bx + 1) * side, green.cols - pad);
            for (int y = pad + by * side; y < y1; ++y) {
                const auto* row = green.ptr<std::uint16_t>(y);
                const auto* above = green.ptr<std::uint16_t>(y - 1);
                const auto* below = green.ptr<std::uint16_t>(y + 1);
                for (int x = pad + bx * side; x < x1; ++x) {
                    const double high =
                        row[x] - 0.25 * (row[x - 1] + row[x + 1] + above[x] + below[x]);
                    square += high * high;
                    sum += row[x];
                    ++count;
                }
            }
            contrast.at<float>(by, bx) = static_cast<float>(
                std::sqrt(square / count) / (sum / count + 650));  // 650: 1 % of white
        }
    });
    return contrast;
}

/// How strong the texture is in each block: as the picture's own detail, within bounds.
cv::Mat texture_strength(const LinearPlanes& planes, const FineTexture& texture) {
    cv::Mat strength = octave_contrast(planes, texture_block) * texture.strength;
    cv::min(strength, texture.greatest, strength);
    cv::max(strength, texture.least, strength);
    cv::GaussianBlur(strength, strength, {5, 5}, 1.0);
    return strength;
}

/// The map at a place given in its own pixels, clamped to its border.
float bilinear(const cv::Mat& map, double x, double y) {
    x = std::clamp(x, 0.0, map.cols - 1.001);
    y = std::clamp(y, 0.0, map.rows - 1.001);
    const int ix = static_cast<int>(x), iy = static_cast<int>(y);
    const auto fx = static_cast<float>(x - ix), fy = static_cast<float>(y - iy);
    const float* upper = map.ptr<float>(iy) + ix;
    const float* lower = map.ptr<float>(std::min(iy + 1, map.rows - 1)) + ix;
    const int right = ix + 1 < map.cols ? 1 : 0;
    const float top = upper[0] + (upper[right] - upper[0]) * fx;
    const float low = lower[0] + (lower[right] - lower[0]) * fx;
    return top + (low - top) * fy;
}

/// With a border repeated around each plane; the planes given are let go one by one.
LinearPlanes padded(LinearPlanes planes) {
    LinearPlanes result;
    for (std::size_t c = 0; c < 3; ++c) {
        cv::copyMakeBorder(planes[c], result[c], pad, pad, pad, pad, cv::BORDER_REPLICATE);
        planes[c].release();
    }
    return result;
}

LinearPlanes without_border(const LinearPlanes& planes) {
    const cv::Rect inner(pad, pad, planes[0].cols - 2 * pad, planes[0].rows - 2 * pad);
    return {planes[0](inner), planes[1](inner), planes[2](inner)};
}

/// Catmull-Rom weights of the taps at -1, 0, 1, 2.
inline void cubic_weights(float t, float* w) {
    const float s = 1 - t;
    w[0] = -0.5F * t * s * s;
    w[3] = -0.5F * s * t * t;
    w[1] = 1 - t * t * (2.5F - 1.5F * t);
    w[2] = 1 - s * s * (2.5F - 1.5F * s);
}

/// The same of four places.
struct CubicWeights {
    cv::v_float32x4 w0, w1, w2, w3;
    explicit CubicWeights(const cv::v_float32x4& t) {
        const auto all = [](float v) { return cv::v_setall_f32(v); };
        const cv::v_float32x4 s = all(1) - t;
        w0 = all(-0.5F) * t * s * s;
        w3 = all(-0.5F) * s * t * t;
        w1 = all(1) - t * t * (all(2.5F) - all(1.5F) * t);
        w2 = all(1) - s * s * (all(2.5F) - all(1.5F) * s);
    }
};

/// Four columns, each interpolated down.
inline cv::v_float32x4 column_sums(const std::uint16_t* tap, std::size_t stride, float t) {
    float w[4];
    cubic_weights(t, w);
    cv::v_float32x4 sum = cv::v_setzero_f32();
    for (std::size_t j = 0; j < 4; ++j) {
        const cv::v_int32x4 four = cv::v_reinterpret_as_s32(cv::v_load_expand(tap + j * stride));
        sum = sum + cv::v_cvt_f32(four) * cv::v_setall_f32(w[j]);
    }
    return sum;
}

}  // namespace

LinearPlanes linear_planes(const Image& image) {
    LinearPlanes planes;
    for (cv::Mat& plane : planes) plane.create(image.height(), image.width(), CV_16U);
    // The curve at 4096 steps of the coded value hits all 256 levels k / 255 of a file (4080 = 16 x
    // 255)
    constexpr int steps = 4080;
    std::vector<std::uint16_t> curve(steps + 1);
    for (int i = 0; i <= steps; ++i) {
        const double v = static_cast<double>(i) / steps;
        const double light = image.encoding() == Encoding::linear ? v : srgb_to_linear(v);
        curve[static_cast<std::size_t>(i)] = static_cast<std::uint16_t>(std::lround(light * 65535));
    }
    for (int y = 0; y < image.height(); ++y) {
        const float* row = image.row(y);
        for (int c = 0; c < 3; ++c) {
            auto* to = planes[static_cast<std::size_t>(c)].ptr<std::uint16_t>(y);
            for (int x = 0; x < image.width(); ++x) {
                const float v = std::clamp(row[3 * x + c], 0.0F, 1.0F);
                to[x] = image.encoding() == Encoding::linear
                            ? static_cast<std::uint16_t>(v * 65535 + 0.5F)
                            : curve[static_cast<std::size_t>(v * steps + 0.5F)];
            }
        }
    }
    return planes;
}

LinearPlanes halved(const LinearPlanes& planes) {
    LinearPlanes result;
    for (std::size_t c = 0; c < 3; ++c) {
        const cv::Mat& from = planes[c];
        cv::Mat to(from.rows / 2, from.cols / 2, CV_16U);
        for (int y = 0; y < to.rows; ++y) {
            const auto* upper = from.ptr<std::uint16_t>(2 * y);
            const auto* lower = from.ptr<std::uint16_t>(2 * y + 1);
            auto* out = to.ptr<std::uint16_t>(y);
            for (int x = 0; x < to.cols; ++x) {
                const unsigned sum =
                    0U + upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1];
                out[x] = static_cast<std::uint16_t>((sum + 2) / 4);
            }
        }
        result[c] = to;
    }
    return result;
}

void SimulatedWorld::add_tile(const WorldRect& rect, LinearPlanes planes,
                              const FineTexture& texture) {
    require(!planes[0].empty() && rect.width() > 0 && rect.height() > 0,
            "a tile of the simulated world is empty");
    Tile tile;
    tile.rect = rect;
    tile.density = planes[0].cols / rect.width();
    tile.density_y = planes[0].rows / rect.height();
    tile.levels.push_back(padded(std::move(planes)));
    for (double density = tile.density; density > 0.9; density /= 2) {
        const LinearPlanes last = without_border(tile.levels.back());
        if (last[0].cols <= 16 || last[0].rows <= 16) break;
        tile.levels.push_back(padded(halved(last)));
    }
    // The detail of the picture is what it shows at about 3 pixels per LR px
    std::size_t level = 0;
    while (level + 1 < tile.levels.size() && tile.density / std::exp2(level) > 4.5) ++level;
    tile.texture = texture_strength(tile.levels[level], texture);
    tile.texture_density = tile.density / std::exp2(level) / texture_block;
    tile.texture_density_y = tile.density_y / std::exp2(level) / texture_block;
    tiles_.push_back(std::move(tile));
}

void SimulatedWorld::sample_tile(const Tile& tile, int channel, double spacing, const double* x,
                                 const double* y, std::size_t n, float* light) const {
    // Choose the finest level with at most 1.3 pixels a sample
    std::size_t level = 0;
    double shrink = 1;
    while (level + 1 < tile.levels.size() && tile.density / shrink * spacing > 1.3) {
        ++level;
        shrink *= 2;
    }
    const cv::Mat& plane = tile.levels[level][static_cast<std::size_t>(channel)];
    const double scale_x = tile.density / shrink, scale_y = tile.density_y / shrink;
    const double start_x = pad - 0.5 - tile.rect.x0 * scale_x;
    const double start_y = pad - 0.5 - tile.rect.y0 * scale_y;
    const double last_x = plane.cols - 3.0, last_y = plane.rows - 3.0;
    const std::size_t stride = plane.step1();
    const auto* pixels = plane.ptr<std::uint16_t>();

    // Interpolate, a block of places after the other: columns four at once, then across
    std::array<const std::uint16_t*, block> taps;
    std::array<float, block> across, down;
    for (std::size_t start = 0; start < n; start += block) {
        const std::size_t count = std::min(block, n - start);
        for (std::size_t i = 0; i < count; ++i) {
            const double px = std::min(std::max(start_x + x[start + i] * scale_x, 1.0), last_x);
            const double py = std::min(std::max(start_y + y[start + i] * scale_y, 1.0), last_y);
            const auto ix = static_cast<int>(px), iy = static_cast<int>(py);
            across[i] = static_cast<float>(px - ix);
            down[i] = static_cast<float>(py - iy);
            taps[i] = pixels + static_cast<std::size_t>(iy - 1) * stride +
                      static_cast<std::size_t>(ix - 1);
        }
        std::size_t i = 0;
        for (; i + 4 <= count; i += 4) {
            cv::v_float32x4 sums[4], columns[4];
            for (std::size_t k = 0; k < 4; ++k) {
                sums[k] = column_sums(taps[i + k], stride, down[i + k]);
            }
            cv::v_transpose4x4(sums[0], sums[1], sums[2], sums[3], columns[0], columns[1],
                               columns[2], columns[3]);
            const CubicWeights w(cv::v_load(&across[i]));
            const cv::v_float32x4 value =
                columns[0] * w.w0 + columns[1] * w.w1 + columns[2] * w.w2 + columns[3] * w.w3;
            cv::v_store(&light[start + i],
                        cv::v_max(value * cv::v_setall_f32(1.0F / 65535), cv::v_setzero_f32()));
        }
        for (; i < count; ++i) {
            float sums[4], w[4];
            cv::v_store(sums, column_sums(taps[i], stride, down[i]));
            cubic_weights(across[i], w);
            const float value = sums[0] * w[0] + sums[1] * w[1] + sums[2] * w[2] + sums[3] * w[3];
            light[start + i] = std::max(0.0F, value * (1.0F / 65535));
        }
    }

    // Multiply by the texture of the octaves that show
    const float coarse = shown(coarse_wave_lr, spacing), fine = shown(fine_wave_lr, spacing);
    if (coarse == 0) return;
    static const TextureOctave coarse_octave(coarse_wave_lr, 0.40),
        fine_octave(fine_wave_lr, -0.53);
    const auto strength = [&](std::size_t i) {
        return bilinear(tile.texture, (x[i] - tile.rect.x0) * tile.texture_density - 0.5,
                        (y[i] - tile.rect.y0) * tile.texture_density_y - 0.5);
    };
    float next = strength(0);
    for (std::size_t start = 0; start < n; start += node_step) {
        const std::size_t end = std::min(start + node_step, n);
        const float here = next;
        next = strength(end == n ? n - 1 : end);
        const float slope = (next - here) / static_cast<float>(end - start);
        for (std::size_t i = start; i < end; ++i) {
            float octaves = coarse * coarse_octave.at(x[i], y[i]);
            if (fine > 0) octaves += fine * fine_octave.at(x[i], y[i]);
            const float a = here + slope * static_cast<float>(i - start);
            light[i] *= std::max(0.1F, 1 + a * octaves);
        }
    }
}

void SimulatedWorld::sample(int channel, double spacing, std::span<const double> x,
                            std::span<const double> y, std::span<float> light) const {
    // Cut the row into runs that one tile answers
    const std::size_t n = x.size();
    for (std::size_t start = 0; start < n;) {
        std::size_t t = tile_at(x[start], y[start]);
        std::size_t end = start + 1;
        while (end < n) {
            const std::size_t next = std::min(end + block, n);
            if (next - end == block && all_in_tile(t, &x[end], &y[end], block)) {
                end = next;
                continue;
            }
            while (end < next && tile_at(x[end], y[end]) == t) ++end;
            if (end < next) break;
        }
        if (t == tiles_.size()) {
            std::fill(&light[start], &light[start] + (end - start), 0.18F);
        } else {
            sample_tile(tiles_[t], channel, spacing, &x[start], &y[start], end - start,
                        &light[start]);
        }
        start = end;
    }
}

std::size_t SimulatedWorld::tile_at(double x, double y) const {
    std::size_t t = 0;
    while (t < tiles_.size() && !tiles_[t].rect.contains(x, y)) ++t;
    return t;
}

bool SimulatedWorld::all_in_tile(std::size_t t, const double* x, const double* y,
                                 std::size_t n) const {
    if (t == tiles_.size()) return false;
    // Bounds of the places: within the tile, and away from those before it
    double x0 = x[0], x1 = x[0], y0 = y[0], y1 = y[0];
    for (std::size_t i = 1; i < n; ++i) {
        x0 = std::min(x0, x[i]), x1 = std::max(x1, x[i]);
        y0 = std::min(y0, y[i]), y1 = std::max(y1, y[i]);
    }
    const auto misses = [&](const Tile& tile) {
        return x1 < tile.rect.x0 || x0 >= tile.rect.x1 || y1 < tile.rect.y0 || y0 >= tile.rect.y1;
    };
    return tiles_[t].rect.contains(x0, y0) && tiles_[t].rect.contains(x1, y1) &&
           std::all_of(tiles_.begin(), tiles_.begin() + static_cast<std::ptrdiff_t>(t), misses);
}

double SimulatedWorld::luminance_quantile(const WorldRect& over, double share) const {
    constexpr std::size_t side = 256;
    constexpr std::array<float, 3> luma{0.2126F, 0.7152F, 0.0722F};
    const double step_x = over.width() / side, step_y = over.height() / side;
    std::vector<float> values(side * side);
    std::vector<double> x(side), y(side);
    std::vector<float> light(side);
    for (std::size_t j = 0; j < side; ++j) {
        for (std::size_t i = 0; i < side; ++i) {
            x[i] = over.x0 + (static_cast<double>(i) + 0.5) * step_x;
            y[i] = over.y0 + (static_cast<double>(j) + 0.5) * step_y;
        }
        for (int c = 0; c < 3; ++c) {
            sample(c, std::max(step_x, step_y), x, y, light);
            for (std::size_t i = 0; i < side; ++i) {
                values[j * side + i] += luma[static_cast<std::size_t>(c)] * light[i];
            }
        }
    }
    const auto at = values.begin() + static_cast<std::ptrdiff_t>(share * (side * side - 1));
    std::nth_element(values.begin(), at, values.end());
    return *at;
}

}  // namespace ultrasr
