#include "registration/warp.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "data/base/error.h"
#include "data/color.h"

namespace ultrasr {
namespace {

constexpr double pi = 3.14159265358979323846;
constexpr int lobes = 4;
constexpr int phases = 1024;
constexpr int most_taps = 12;
constexpr int tile_rows = 16;
constexpr int tile_columns = 128;
constexpr float ringing = 0.02F;
constexpr int burnt_level = 252;

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

/// Lanczos-4 weights for fractions 0 .. 1, each set summing to 1.
class Kernel {
  public:
    explicit Kernel(double widen) : taps_(2 * static_cast<int>(std::ceil(lobes * widen - 1e-9))) {
        weights_.resize(static_cast<std::size_t>((phases + 1) * taps_));
        for (int phase = 0; phase <= phases; ++phase) {
            double total = 0;
            std::array<double, most_taps> w{};
            for (int i = 0; i < taps_; ++i) {
                // Tap i lies at i - (taps / 2 - 1) from the pixel at or before the place
                const double x =
                    (i - (taps_ / 2 - 1) - static_cast<double>(phase) / phases) / widen;
                w[static_cast<std::size_t>(i)] = lanczos(x);
                total += w[static_cast<std::size_t>(i)];
            }
            for (int i = 0; i < taps_; ++i) {
                weights_[static_cast<std::size_t>(phase * taps_ + i)] =
                    static_cast<float>(w[static_cast<std::size_t>(i)] / total);
            }
        }
    }

    int taps() const { return taps_; }

    void at(double fraction, float* to) const {
        const double place = fraction * phases;
        const int phase = std::min(phases - 1, static_cast<int>(place));
        const auto part = static_cast<float>(place - phase);
        const float* low = &weights_[static_cast<std::size_t>(phase * taps_)];
        for (int i = 0; i < taps_; ++i) to[i] = low[i] + part * (low[taps_ + i] - low[i]);
    }

  private:
    static double lanczos(double x) {
        if (std::abs(x) >= lobes) return 0;
        if (std::abs(x) < 1e-9) return 1;
        return lobes * std::sin(pi * x) * std::sin(pi * x / lobes) / (pi * pi * x * x);
    }
    int taps_;
    std::vector<float> weights_;
};

/// A part of the source as linear light, four floats a pixel.
struct Patch {
    int x = 0, y = 0, width = 0, height = 0;
    std::vector<float> light;

    void load(const Frame& frame) {
        light.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 4);
        const float* levels = linear_levels_8bit();
        for (int j = 0; j < height; ++j) {
            float* to = &light[static_cast<std::size_t>(j) * static_cast<std::size_t>(width) * 4];
            if (frame.is_16bit()) {
                const auto* from = frame.rgb.ptr<std::uint16_t>(y + j) + 3 * x;
                for (int i = 0; i < width; ++i, from += 3, to += 4) {
                    for (int c = 0; c < 3; ++c) to[c] = from[c] * (1.0F / 65535.0F);
                    to[3] = 0;
                }
            } else {
                const unsigned char* from = frame.rgb.ptr(y + j) + 3 * x;
                for (int i = 0; i < width; ++i, from += 3, to += 4) {
                    for (int c = 0; c < 3; ++c) to[c] = levels[from[c]];
                    to[3] = 0;
                }
            }
        }
    }
    const float* at(int column, int row) const {
        return &light[(static_cast<std::size_t>(row - y) * static_cast<std::size_t>(width) +
                       static_cast<std::size_t>(column - x)) *
                      4];
    }
};

inline Four smaller(Four a, Four b) { return a < b ? a : b; }
inline Four larger(Four a, Four b) { return a > b ? a : b; }

}  // namespace

WarpedHr warp_hr(const Frame& tele, const CameraMap& map, const CropWindow& window, int scale) {
    WarpedHr result;
    const PixelSize size = window.hr;
    const double x0 = window.lr.x - 0.5 + 0.5 / scale, y0 = window.lr.y - 0.5 + 0.5 / scale;
    result.step = map.scale_at({x0 + (size.width - 1) / (2.0 * scale),
                                y0 + (size.height - 1) / (2.0 * scale)}) /
                  scale;
    const Kernel kernel(result.step > 1.02 ? result.step : 1.0);
    const int taps = kernel.taps(), before = taps / 2 - 1;
    if (taps > most_taps) fail(Fault::internal, "HR would be shrunk {:.2f} times", result.step);
    result.linear = cv::Mat(size.height, size.width, CV_32FC3);
    const auto burnt_light = static_cast<float>(srgb_to_linear((burnt_level - 0.5) / 255.0));

    const int bands = (size.height + tile_rows - 1) / tile_rows;
    std::vector<std::size_t> burnt(static_cast<std::size_t>(bands), 0);
    std::vector<char> outside(static_cast<std::size_t>(bands), 0);
    tbb::this_task_arena::isolate([&] {
        tbb::parallel_for(0, bands, [&](int band) {
            const int begin = band * tile_rows, end = std::min(size.height, begin + tile_rows);
            std::vector<double> tx(static_cast<std::size_t>(tile_rows * tile_columns));
            std::vector<double> ty(tx.size());
            Patch patch;
            for (int left = 0; left < size.width; left += tile_columns) {
                const int columns = std::min(tile_columns, size.width - left);

                // Find the tile's places and the part of the source they need
                double low_x = std::numeric_limits<double>::infinity(), low_y = low_x;
                double high_x = -low_x, high_y = -low_x;
                for (int y = begin; y < end; ++y) {
                    const auto at = static_cast<std::size_t>((y - begin) * tile_columns);
                    map.row(x0 + static_cast<double>(left) / scale, 1.0 / scale,
                            y0 + static_cast<double>(y) / scale, columns, &tx[at], &ty[at]);
                    for (std::size_t i = at; i < at + static_cast<std::size_t>(columns); ++i) {
                        low_x = std::min(low_x, tx[i]), high_x = std::max(high_x, tx[i]);
                        low_y = std::min(low_y, ty[i]), high_y = std::max(high_y, ty[i]);
                    }
                }
                patch.x = static_cast<int>(std::floor(low_x)) - before;
                patch.y = static_cast<int>(std::floor(low_y)) - before;
                patch.width = static_cast<int>(std::floor(high_x)) + taps - before - patch.x;
                patch.height = static_cast<int>(std::floor(high_y)) + taps - before - patch.y;
                if (patch.x < 0 || patch.y < 0 || patch.x + patch.width > tele.rgb.cols ||
                    patch.y + patch.height > tele.rgb.rows) {
                    outside[static_cast<std::size_t>(band)] = 1;
                    return;
                }
                patch.load(tele);

                for (int y = begin; y < end; ++y) {
                    float* to = result.linear.ptr<float>(y) + 3 * left;
                    const auto row = static_cast<std::size_t>((y - begin) * tile_columns);
                    for (int x = 0; x < columns; ++x, to += 3) {
                        const double px = tx[row + static_cast<std::size_t>(x)];
                        const double py = ty[row + static_cast<std::size_t>(x)];
                        const int ix = static_cast<int>(px), iy = static_cast<int>(py);
                        std::array<float, most_taps> across, down;
                        kernel.at(px - ix, across.data());
                        kernel.at(py - iy, down.data());
                        Four sum{};
                        for (int j = 0; j < taps; ++j) {
                            const float* source = patch.at(ix - before, iy - before + j);
                            Four line{};
                            for (int i = 0; i < taps; ++i) {
                                line += across[static_cast<std::size_t>(i)] *
                                        *reinterpret_cast<const Four*>(source + 4 * i);
                            }
                            sum += down[static_cast<std::size_t>(j)] * line;
                        }

                        // Cut the ringing
                        Four low = *reinterpret_cast<const Four*>(patch.at(ix - 1, iy - 1));
                        Four high = low;
                        for (int j = -1; j <= 2; ++j) {
                            const float* source = patch.at(ix - 1, iy + j);
                            for (int i = 0; i < 4; ++i) {
                                const Four v = *reinterpret_cast<const Four*>(source + 4 * i);
                                low = smaller(low, v);
                                high = larger(high, v);
                            }
                        }
                        const Four room = ringing * (high - low);
                        sum = larger(smaller(sum, high + room), low - room);
                        bool is_burnt = false;
                        for (int c = 0; c < 3; ++c) {
                            to[c] = std::clamp(sum[c], 0.0F, 1.0F);
                            is_burnt = is_burnt || to[c] >= burnt_light;
                        }
                        burnt[static_cast<std::size_t>(band)] += is_burnt ? 1 : 0;
                    }
                }
            }
        });
    });
    std::size_t total = 0;
    for (std::size_t i = 0; i < burnt.size(); ++i) {
        if (outside[i]) fail(Fault::internal, "the HR window leaves the tele frame");
        total += burnt[i];
    }
    result.burnt_share =
        static_cast<double>(total) / (static_cast<double>(size.width) * size.height);
    return result;
}

WarpedLr warp_lr(const Frame& wide, const PixelRect& area, const Frame& tele, const CameraMap& map,
                 const CropWindow& window, int scale) {
    WarpedLr result;
    const PixelPoint middle = map(
        {window.lr.x + (window.lr.width - 1) / 2.0, window.lr.y + (window.lr.height - 1) / 2.0});
    const PixelSize hr{window.lr.width * scale, window.lr.height * scale};
    result.hr = {std::clamp(static_cast<int>(std::lround(middle.x + 0.5 - hr.width / 2.0)), 0,
                            std::max(0, tele.rgb.cols - hr.width)),
                 std::clamp(static_cast<int>(std::lround(middle.y + 0.5 - hr.height / 2.0)), 0,
                            std::max(0, tele.rgb.rows - hr.height)),
                 hr.width, hr.height};
    result.hr_linear = linear_part(tele, result.hr);

    const cv::Mat source = linear_part(wide, {0, 0, area.width, area.height});
    result.linear = cv::Mat(window.lr.height, window.lr.width, CV_32FC3);
    const auto weights = [](double t, std::array<double, 4>& w) {  // Keys, a = -0.5
        w = {((-0.5 * t + 1) * t - 0.5) * t, (1.5 * t - 2.5) * t * t + 1,
             ((-1.5 * t + 2) * t + 0.5) * t, (0.5 * t - 0.5) * t * t};
    };
    for (int y = 0; y < window.lr.height; ++y) {
        for (int x = 0; x < window.lr.width; ++x) {
            const PixelPoint p = map.inverse(
                {result.hr.x - 0.5 + (x + 0.5) * scale, result.hr.y - 0.5 + (y + 0.5) * scale});
            const double px = p.x - area.x, py = p.y - area.y;
            const int ix = static_cast<int>(std::floor(px)), iy = static_cast<int>(std::floor(py));
            std::array<double, 4> across, down;
            weights(px - ix, across);
            weights(py - iy, down);
            for (int c = 0; c < 3; ++c) {
                double sum = 0;
                for (int j = 0; j < 4; ++j) {
                    const int row = std::clamp(iy - 1 + j, 0, source.rows - 1);
                    for (int i = 0; i < 4; ++i) {
                        const int column = std::clamp(ix - 1 + i, 0, source.cols - 1);
                        sum += down[static_cast<std::size_t>(j)] *
                               across[static_cast<std::size_t>(i)] *
                               static_cast<double>(source.ptr<float>(row)[3 * column + c]);
                    }
                }
                result.linear.ptr<float>(y)[3 * x + c] =
                    static_cast<float>(std::clamp(sum, 0.0, 1.0));
            }
        }
    }
    return result;
}

cv::Mat block_means(const cv::Mat& hr, int scale) {
    const int columns = hr.cols / scale, rows = hr.rows / scale;
    cv::Mat result(rows, columns, CV_32FC3);
    const float over = 1.0F / static_cast<float>(scale * scale);
    tbb::this_task_arena::isolate([&] {
        tbb::parallel_for(0, rows, [&](int y) {
            float* to = result.ptr<float>(y);
            for (int x = 0; x < columns; ++x) {
                std::array<float, 3> sum{};
                for (int j = 0; j < scale; ++j) {
                    const float* from = hr.ptr<float>(y * scale + j) + 3 * x * scale;
                    for (int i = 0; i < 3 * scale; i += 3) {
                        for (std::size_t c = 0; c < 3; ++c) sum[c] += from[i + static_cast<int>(c)];
                    }
                }
                for (std::size_t c = 0; c < 3; ++c) to[3 * x + static_cast<int>(c)] = sum[c] * over;
            }
        });
    });
    return result;
}

}  // namespace ultrasr
