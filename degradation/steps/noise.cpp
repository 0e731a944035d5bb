#include "degradation/steps/noise.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "data/base/error.h"
#include "degradation/steps/noise_pixel.h"
#include "degradation/steps/resize_pixel.h"
#include "degradation/steps/variates.h"

namespace ultrasr {
namespace {

constexpr std::uint32_t shared_channel = 3;
constexpr int side_by_side = 8;                    // counters
constexpr std::size_t at_once = 4 * side_by_side;  // pixels

/// Calls `take(first pixel, how many, their words)` over a plane, 32 pixels at a time.
template <class Take>
void for_each_words(const StreamKey& key, std::uint32_t channel, std::size_t pixels, Take&& take) {
    for (std::size_t p = 0; p < pixels; p += at_once) {
        const auto words =
            stream_words<side_by_side>(key, channel, static_cast<std::uint32_t>(p / 4));
        std::array<std::uint32_t, at_once> row;
        for (std::size_t i = 0; i < side_by_side; ++i) {
            for (std::size_t w = 0; w < 4; ++w) row[4 * i + w] = words.word[w][i];
        }
        take(p, std::min(at_once, pixels - p), row);
    }
}

void add_gaussian(const float* picture, const float* z, std::size_t n, float sigma, float* to) {
    for_each_lane(static_cast<int>(n), [&](int i, auto v) {
        using V = decltype(v);
        store(to + i, with_gaussian(loaded<V>(picture + i), loaded<V>(z + i), sigma));
    });
}

void check_vals(int vals) {
    require(vals >= 1 && vals <= 256 && std::has_single_bit(static_cast<unsigned>(vals)),
            "Poisson noise takes vals of 1, 2, 4 ... 256, not {}", vals);
}

std::vector<std::uint8_t> levels_of(const float* values, std::size_t n) {
    std::vector<std::uint8_t> levels(n);
    for (std::size_t i = 0; i < n; ++i) levels[i] = poisson_level(values[i]);
    return levels;
}

std::vector<std::uint8_t> grey_levels(const Planar& picture) {
    std::vector<std::uint8_t> levels(picture.plane_values());
    const float *r = picture.plane(0), *g = picture.plane(1), *b = picture.plane(2);
    for (std::size_t i = 0; i < levels.size(); ++i) {
        levels[i] = poisson_level(grey_of(r[i], g[i], b[i]));
    }
    return levels;
}

/// The same deviations to some planes of the picture.
void add_deviations(const Planar& picture, int first, int last, const float* noise, Planar& to) {
    const std::size_t n = picture.plane_values();
    for (int c = first; c <= last; ++c) {
        const float* from = picture.plane(c);
        float* out = to.plane_(c);
        for (std::size_t i = 0; i < n; ++i) out[i] = clamp(from[i] + noise[i], 0.0F, 1.0F);
    }
}

/// `count(channel, levels, counts)` fills the counts of one plane; channel 3 is the shared one.
template <class Count>
Planar with_poisson(const Planar& picture, double scale, bool gray, int vals, Count&& count) {
    check_vals(vals);
    require(!gray || picture.channels() == 3, "grey Poisson noise takes three planes, not {}",
            picture.channels());
    const std::size_t n = picture.plane_values();
    Planar out(picture.channels(), picture.height(), picture.width());
    Planar noise(1, picture.height(), picture.width());
    const int planes = gray ? 1 : picture.channels();
    for (int c = 0; c < planes; ++c) {
        const std::vector<std::uint8_t> levels =
            gray ? grey_levels(picture) : levels_of(picture.plane(c), n);
        float* deviation = noise.data_();
        count(gray ? shared_channel : static_cast<std::uint32_t>(c), levels, deviation);
        for (std::size_t i = 0; i < n; ++i) {
            deviation[i] = poisson_deviation(deviation[i], static_cast<float>(vals), levels[i],
                                             static_cast<float>(scale));
        }
        add_deviations(picture, c, gray ? picture.channels() - 1 : c, deviation, out);
    }
    return out;
}

void require_field(const Planar& picture, const Planar& field) {
    require(field.size() == picture.size() &&
                (field.channels() == 1 || field.channels() == picture.channels()),
            "the noise is {} x {} x {}, the picture {} x {} x {}; it must have the same size and "
            "as many planes or one",
            field.channels(), field.height(), field.width(), picture.channels(), picture.height(),
            picture.width());
}

}  // namespace

Planar gaussian_noise(const Planar& picture, double sigma, bool gray, const StreamKey& key) {
    Planar out(picture.channels(), picture.height(), picture.width());
    const auto s = static_cast<float>(sigma);
    for (int c = 0; c < picture.channels(); ++c) {
        if (gray && c > 0) break;
        const std::uint32_t channel = gray ? shared_channel : static_cast<std::uint32_t>(c);
        for_each_words(key, channel, picture.plane_values(),
                       [&](std::size_t p, std::size_t n, const auto& words) {
                           std::array<float, at_once> z;
                           for (std::size_t i = 0; i < at_once; i += lanes) {
                               store(&z[i], normal_of_words(&words[i], normal_table));
                           }
                           const int last = gray ? picture.channels() - 1 : c;
                           for (int d = c; d <= last; ++d) {
                               add_gaussian(picture.plane(d) + p, z.data(), n, s,
                                            out.plane_(d) + p);
                           }
                       });
    }
    return out;
}

Planar gaussian_noise(const Planar& picture, double sigma, const Planar& z) {
    require_field(picture, z);
    Planar out(picture.channels(), picture.height(), picture.width());
    for (int c = 0; c < picture.channels(); ++c) {
        add_gaussian(picture.plane(c), z.plane(z.channels() == 1 ? 0 : c), picture.plane_values(),
                     static_cast<float>(sigma), out.plane_(c));
    }
    return out;
}

Planar normal_field(PixelSize size, bool gray, const StreamKey& key) {
    Planar field(gray ? 1 : 3, size);
    for (int c = 0; c < field.channels(); ++c) {
        const std::uint32_t channel = gray ? shared_channel : static_cast<std::uint32_t>(c);
        for_each_words(key, channel, field.plane_values(),
                       [&](std::size_t p, std::size_t n, const auto& words) {
                           std::array<float, at_once> z;
                           for (std::size_t i = 0; i < at_once; i += lanes) {
                               store(&z[i], normal_of_words(&words[i], normal_table));
                           }
                           std::copy_n(z.begin(), n, field.plane_(c) + p);
                       });
    }
    return field;
}

Planar nested_field(const Planar& field, PixelSize size) {
    require(size.width <= field.width() && size.height <= field.height(),
            "a nested noise field of {} x {} is too small for a picture of {} x {}", field.width(),
            field.height(), size.width, size.height);
    Planar out(field.channels(), size);
    for (int c = 0; c < field.channels(); ++c) {
        for (int y = 0; y < size.height; ++y) {
            const int top = area_begin(y, field.height(), size.height);
            const int rows = area_end(y, field.height(), size.height) - top;
            for (int x = 0; x < size.width; ++x) {
                const int left = area_begin(x, field.width(), size.width);
                const int columns = area_end(x, field.width(), size.width) - left;
                out.row_(c, y)[x] =
                    area_mean(field.row(c, top) + left, field.width(), rows, columns) *
                    std::sqrt(static_cast<float>(rows * columns));
            }
        }
    }
    return out;
}

int distinct_levels(const Planar& picture, bool gray) {
    std::array<std::uint8_t, 256> seen{};
    const auto mark = [&](const std::vector<std::uint8_t>& levels) {
        for (const std::uint8_t level : levels) seen[level] = 1;
    };
    if (gray) {
        mark(grey_levels(picture));
    } else {
        for (int c = 0; c < picture.channels(); ++c) {
            mark(levels_of(picture.plane(c), picture.plane_values()));
        }
    }
    return static_cast<int>(std::count(seen.begin(), seen.end(), 1));
}

int poisson_vals(int distinct) {
    return static_cast<int>(std::bit_ceil(static_cast<unsigned>(std::max(distinct, 1))));
}

Planar poisson_noise(const Planar& picture, double scale, bool gray, int vals,
                     const StreamKey& key) {
    check_vals(vals);
    const PoissonTable& table = poisson_table();
    const PoissonEntry* entries =
        table.entries + 256 * std::countr_zero(static_cast<unsigned>(vals));
    return with_poisson(
        picture, scale, gray, vals, [&](std::uint32_t channel, const auto& levels, float* counts) {
            for_each_words(
                key, channel, levels.size(), [&](std::size_t p, std::size_t n, const auto& words) {
                    for (std::size_t i = 0; i < n; ++i) {
                        counts[p + i] = static_cast<float>(
                            poisson_of_word(words[i], entries[levels[p + i]], table.thresholds));
                    }
                });
        });
}

Planar poisson_noise(const Planar& picture, double scale, int vals, const Planar& counts) {
    require_field(picture, counts);
    const bool gray = counts.channels() == 1 && picture.channels() == 3;
    return with_poisson(picture, scale, gray, vals,
                        [&](std::uint32_t channel, const auto&, float* to) {
                            const int plane = gray ? 0 : static_cast<int>(channel);
                            std::copy_n(counts.plane(plane), counts.plane_values(), to);
                        });
}

}  // namespace ultrasr
