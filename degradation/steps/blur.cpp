#include "degradation/steps/blur.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/base/error.h"
#include "degradation/steps/blur_pixel.h"
#include "degradation/steps/exact_math.h"
#include "degradation/steps/usm_pixel.h"

namespace ultrasr {
namespace {

constexpr int strip = 128;  // columns at once, so that the rows under a kernel stay in the L1 cache

/// The picture with its edges reflected, so that no tap looks outside.
Planar padded(const Planar& picture, int margin) {
    const int w = picture.width(), h = picture.height();
    Planar out(picture.channels(), h + 2 * margin, w + 2 * margin);
    std::vector<int> left(static_cast<std::size_t>(margin)), right(left.size());
    for (int i = 0; i < margin; ++i) {
        left[static_cast<std::size_t>(i)] = reflected(i - margin, w);
        right[static_cast<std::size_t>(i)] = reflected(w + i, w);
    }
    for (int c = 0; c < picture.channels(); ++c) {
        for (int y = 0; y < out.height(); ++y) {
            const float* from = picture.row(c, reflected(y - margin, h));
            float* to = out.row_(c, y);
            for (int i = 0; i < margin; ++i) to[i] = from[left[static_cast<std::size_t>(i)]];
            std::memcpy(to + margin, from, static_cast<std::size_t>(w) * sizeof(float));
            for (int i = 0; i < margin; ++i) {
                to[margin + w + i] = from[right[static_cast<std::size_t>(i)]];
            }
        }
    }
    return out;
}

struct Ranges {
    std::vector<int> first, last;
    explicit Ranges(const BlurKernel& kernel) {
        for (const TapRow& row : kernel.rows) {
            first.push_back(row.first);
            last.push_back(row.last);
        }
    }
};

/// Taps outside of the ranges as zeros, which add nothing.
std::vector<float> worthwhile_taps(const BlurKernel& kernel) {
    std::vector<float> taps(kernel.taps.size(), 0.0F);
    for (int j = 0; j < kernel.size; ++j) {
        const TapRow& range = kernel.rows[static_cast<std::size_t>(j)];
        for (int i = range.first; i <= range.last; ++i) {
            const auto at = static_cast<std::size_t>(j * kernel.size + i);
            taps[at] = kernel.taps[at];
        }
    }
    return taps;
}

Planar blur_all_taps(const Planar& picture, const BlurKernel& kernel) {
    const int w = picture.width(), h = picture.height(), R = kernel.size / 2;
    const Planar source = padded(picture, R);
    const Ranges ranges(kernel);
    const std::vector<float> taps = worthwhile_taps(kernel);
    const int *first = ranges.first.data(), *last = ranges.last.data();
    Planar out(picture.channels(), h, w);
    for (int c = 0; c < picture.channels(); ++c) {
        for (int x0 = 0; x0 < w; x0 += strip) {
            const int columns = std::min(strip, w - x0);
            for (int y = 0; y + 1 < h; y += 2) {
                float *upper = out.row_(c, y) + x0, *lower = out.row_(c, y + 1) + x0;
                for_each_lane(columns, [&](int x, auto v) {
                    decltype(v) a, b;
                    const auto row = [&](int j) { return source.row(c, y + j) + x0 + x; };
                    blur_full_two(taps.data(), kernel.size, first, last, row, a, b);
                    store(upper + x, a);
                    store(lower + x, b);
                });
            }
            if (h % 2 == 0) continue;
            float* to = out.row_(c, h - 1) + x0;
            for_each_lane(columns, [&](int x, auto v) {
                const auto row = [&](int j) { return source.row(c, h - 1 + j) + x0 + x; };
                store(to + x, blur_full<decltype(v)>(taps.data(), kernel.size, first, last, row));
            });
        }
    }
    return out;
}

Planar blur_in_pairs(const Planar& picture, const BlurKernel& kernel) {
    const int w = picture.width(), h = picture.height(), R = kernel.size / 2;
    const Planar source = padded(picture, R);
    const Ranges ranges(kernel);
    const int *first = ranges.first.data(), *last = ranges.last.data();
    const float* taps = kernel.taps.data();
    Planar out(picture.channels(), h, w);
    const int sum_width = strip + 2 * R;
    const std::size_t all_sums =
        static_cast<std::size_t>(R + 1) * static_cast<std::size_t>(sum_width);
    std::vector<float> sums(2 * all_sums);
    for (int c = 0; c < picture.channels(); ++c) {
        for (int x0 = 0; x0 < w; x0 += strip) {
            const int columns = std::min(strip, w - x0), width = columns + 2 * R;
            // Add the rows in pairs, once for all taps of a row
            const auto add_rows = [&](int y, float* to) {
                for (int d = 0; d <= R; ++d) {
                    const std::size_t j = static_cast<std::size_t>(R + d);
                    if (ranges.last[j] < ranges.first[j]) continue;
                    float* sum = to + d * sum_width;
                    const float* above = source.row(c, y + R - d) + x0;
                    const float* below = source.row(c, y + R + d) + x0;
                    if (d == 0) {
                        std::memcpy(sum, above, static_cast<std::size_t>(width) * sizeof(float));
                        continue;
                    }
                    for (int i = 0; i < width; ++i) sum[i] = above[i] + below[i];
                }
            };
            for (int y = 0; y + 1 < h; y += 2) {
                add_rows(y, sums.data());
                add_rows(y + 1, sums.data() + all_sums);
                float *upper = out.row_(c, y) + x0, *lower = out.row_(c, y + 1) + x0;
                for_each_lane(columns, [&](int x, auto v) {
                    using V = decltype(v);
                    V a, b;
                    const auto pair = [&](std::size_t which, int d, int i, V) {
                        return loaded<V>(sums.data() + which * all_sums + d * sum_width + x + i);
                    };
                    blur_folded_two(taps, kernel.size, first, last, pair, a, b);
                    store(upper + x, a);
                    store(lower + x, b);
                });
            }
            if (h % 2 == 0) continue;
            add_rows(h - 1, sums.data());
            float* to = out.row_(c, h - 1) + x0;
            for_each_lane(columns, [&](int x, auto v) {
                using V = decltype(v);
                const auto pair = [&](int d, int i, V) {
                    return loaded<V>(sums.data() + d * sum_width + x + i);
                };
                store(to + x, blur_folded<V>(taps, kernel.size, first, last, pair));
            });
        }
    }
    return out;
}

/// Rows, then columns, with a symmetric row of taps given by its right half.
Planar blur_by_axes(const Planar& picture, const float* middle_tap, int radius) {
    const int w = picture.width(), h = picture.height();
    Planar across(picture.channels(), h, w), out(picture.channels(), h, w);
    std::vector<float> line(static_cast<std::size_t>(w + 2 * radius));
    std::vector<const float*> rows(static_cast<std::size_t>(2 * radius + 2));
    for (int c = 0; c < picture.channels(); ++c) {
        for (int y = 0; y < h; ++y) {
            const float* from = picture.row(c, y);
            std::memcpy(line.data() + radius, from, static_cast<std::size_t>(w) * sizeof(float));
            for (int i = 1; i <= radius; ++i) {
                line[static_cast<std::size_t>(radius - i)] = from[reflected(-i, w)];
                line[static_cast<std::size_t>(radius + w - 1 + i)] = from[reflected(w - 1 + i, w)];
            }
            float* to = across.row_(c, y);
            for_each_lane(w, [&](int x, auto v) {
                using V = decltype(v);
                const float* here = line.data() + radius + x;
                store(to + x, blur_axis<V>(middle_tap, radius,
                                           [&](int d, V) { return loaded<V>(here + d); }));
            });
        }
        // Two rows at once; the second of the last two may be one that is not there
        for (int x0 = 0; x0 < w; x0 += strip) {
            for (int y = 0; y < h; y += 2) {
                for (int d = -radius; d <= radius + 1; ++d) {
                    rows[static_cast<std::size_t>(d + radius)] =
                        across.row(c, reflected(y + d, h)) + x0;
                }
                float* upper = out.row_(c, y) + x0;
                float* lower = y + 1 < h ? out.row_(c, y + 1) + x0 : nullptr;
                for_each_lane(std::min(strip, w - x0), [&](int x, auto v) {
                    using V = decltype(v);
                    const auto at = [&](int d, V) {
                        return loaded<V>(rows[static_cast<std::size_t>(d + radius)] + x);
                    };
                    V a, b;
                    blur_axis_two(middle_tap, radius, at, a, b);
                    store(upper + x, a);
                    if (lower) store(lower + x, b);
                });
            }
        }
    }
    return out;
}

}  // namespace

Planar blur(const Planar& picture, const BlurKernel& kernel) {
    if (kernel.is_pulse()) return picture;
    if (!kernel.separable.empty()) {
        const int radius = static_cast<int>(kernel.separable.size()) / 2;
        return blur_by_axes(picture, kernel.separable.data() + radius, radius);
    }
    return kernel.folds ? blur_in_pairs(picture, kernel) : blur_all_taps(picture, kernel);
}

std::vector<float> usm_taps(int radius) {
    require(radius >= 1 && radius <= 200, "USM's radius lies in 1 to 200, not at {}", radius);
    // OpenCV's sigma for a kernel of that many taps: 0.3 ((n - 1) / 2 - 1) + 0.8
    const int taps = radius % 2 == 0 ? radius + 1 : radius;
    const double sigma = 0.3 * ((taps - 1) * 0.5 - 1) + 0.8;
    std::vector<double> g;
    double sum = 0;
    for (int d = 0; d <= taps / 2; ++d) {
        g.push_back(exact::exp(-0.5 * d * d / (sigma * sigma)));
        sum += d == 0 ? g.back() : 2 * g.back();
    }
    std::vector<float> half;
    for (const double value : g) half.push_back(static_cast<float>(value / sum));
    return half;
}

Planar usm_sharpen(const Planar& picture, const UsmOptions& options) {
    const std::vector<float> taps = usm_taps(options.radius);
    const int radius = static_cast<int>(taps.size()) - 1;
    const auto weight = static_cast<float>(options.weight);
    const auto threshold = static_cast<float>(options.threshold);
    const Planar blurred = blur_by_axes(picture, taps.data(), radius);
    Planar mask(picture.channels(), picture.height(), picture.width());
    const auto each_row = [&](auto&& element) {
        for (int c = 0; c < picture.channels(); ++c) {
            for (int y = 0; y < picture.height(); ++y) {
                for_each_lane(picture.width(), [&](int x, auto v) { element(c, y, x, v); });
            }
        }
    };
    each_row([&](int c, int y, int x, auto v) {
        using V = decltype(v);
        store(mask.row_(c, y) + x, usm_mask(loaded<V>(picture.row(c, y) + x),
                                            loaded<V>(blurred.row(c, y) + x), threshold));
    });
    const Planar soft = blur_by_axes(mask, taps.data(), radius);
    Planar out = std::move(mask);
    each_row([&](int c, int y, int x, auto v) {
        using V = decltype(v);
        store(out.row_(c, y) + x,
              usm_mix(loaded<V>(picture.row(c, y) + x), loaded<V>(blurred.row(c, y) + x),
                      loaded<V>(soft.row(c, y) + x), weight));
    });
    return out;
}

}  // namespace ultrasr
