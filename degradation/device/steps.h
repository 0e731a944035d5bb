// What a GPU does for one element of each degradation step. Plain structures without shared memory
// or waiting: the tests run the very same on a CPU and compare with the steps there, byte for byte.
#pragma once
#include <cstddef>
#include <cstdint>
#if !defined(__CUDA_ARCH__)
#include <atomic>
#include <bit>
#endif

#include "degradation/steps/blur_pixel.h"
#include "degradation/steps/jpeg_pixel.h"
#include "degradation/steps/noise_pixel.h"
#include "degradation/steps/resize_pixel.h"
#include "degradation/steps/usm_pixel.h"
#include "degradation/steps/variates.h"

namespace ultrasr {

/// Where everything of one run lies, in the memory of one device.
struct DeviceMemory {
    float* values = nullptr;               ///< pictures between the steps
    float* results = nullptr;              ///< what is copied out at the end
    std::uint32_t* seen = nullptr;         ///< sets of 8-bit levels, 8 words each
    const float* floats = nullptr;         ///< taps, weights, quantisation steps
    const std::int32_t* ints = nullptr;    ///< indices and ranges of taps
    const std::uint8_t* pixels = nullptr;  ///< GT that was copied in
    const float* normal = nullptr;         ///< normal_table
    const PoissonEntry* poisson = nullptr;
    const std::uint32_t* thresholds = nullptr;
};

/// What an element reads and writes: places in the arrays of DeviceMemory.
struct Places {
    std::uint64_t source[3] = {};  ///< in values
    std::uint64_t target[2] = {};  ///< in values
    std::uint32_t floats = 0, ints = 0;
    std::uint32_t seen = 0;  ///< a set, counted in sets
};

/// Planes of one picture, row after row.
struct PlaneShape {
    std::int32_t planes = 3, height = 1, width = 1;

    ULTRASR_HOST_DEVICE std::uint32_t plane_values() const {
        return static_cast<std::uint32_t>(height) * static_cast<std::uint32_t>(width);
    }
    ULTRASR_HOST_DEVICE std::uint32_t values() const {
        return static_cast<std::uint32_t>(planes) * plane_values();
    }
};

/// A value by its plane, row and column.
struct PlanePoint {
    std::int32_t plane, y, x;
};
ULTRASR_HOST_DEVICE inline PlanePoint point_of(std::uint32_t element, const PlaneShape& shape) {
    const auto width = static_cast<std::uint32_t>(shape.width);
    const auto height = static_cast<std::uint32_t>(shape.height);
    const std::uint32_t row = element / width, plane = row / height;
    return {static_cast<std::int32_t>(plane), static_cast<std::int32_t>(row - plane * height),
            static_cast<std::int32_t>(element - row * width)};
}

ULTRASR_HOST_DEVICE inline std::ptrdiff_t offset(int i, int stride) {
    return static_cast<std::ptrdiff_t>(i) * stride;
}

/// GT's bytes to planes of k / 255.
struct UnpackElement {
    static constexpr char name[] = "unpack";
    Places at;
    PlaneShape shape;
    const std::uint8_t* given = nullptr;  ///< in the device's memory; null: in `pixels`
    std::uint64_t pixels = 0;
    std::int64_t row_bytes = 0, pixel_bytes = 3, channel_bytes = 1;

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return shape.values(); }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const PlanePoint p = point_of(e, shape);
        const std::uint8_t* from = given ? given : m.pixels + pixels;
        const std::uint8_t level =
            from[p.y * row_bytes + p.x * pixel_bytes + p.plane * channel_bytes];
        m.values[at.target[0] + e] = static_cast<float>(level) / 255.0F;
    }
};

/// One value of a blur along an axis. taps: the middle one and those to its right.
ULTRASR_HOST_DEVICE inline float blurred_on_axis(const float* taps, int radius, const float* line,
                                                 int stride, int i, int n) {
    if (i >= radius && i + radius < n) {
        const float* here = line + offset(i, stride);
        return blur_axis<float>(taps, radius,
                                [&](int d, float) { return here[offset(d, stride)]; });
    }
    return blur_axis<float>(
        taps, radius, [&](int d, float) { return line[offset(reflected(i + d, n), stride)]; });
}

/// The same for the value under an element of the picture.
ULTRASR_HOST_DEVICE inline float blurred_across(const float* picture, const PlaneShape& shape,
                                                const float* taps, int radius, std::uint32_t e) {
    const PlanePoint p = point_of(e, shape);
    return blurred_on_axis(taps, radius, picture + (e - static_cast<std::uint32_t>(p.x)), 1, p.x,
                           shape.width);
}
ULTRASR_HOST_DEVICE inline float blurred_down(const float* picture, const PlaneShape& shape,
                                              const float* taps, int radius, std::uint32_t e) {
    const PlanePoint p = point_of(e, shape);
    const std::uint32_t top = e - static_cast<std::uint32_t>(p.y * shape.width);
    return blurred_on_axis(taps, radius, picture + top, shape.width, p.y, shape.height);
}

/// Half of a separable blur, and of USM's Gaussian along the rows.
struct AxisBlurElement {
    static constexpr char name[] = "blur_axis";
    Places at;
    PlaneShape shape;
    std::int32_t radius = 0;
    std::int32_t down = 0;  ///< 1: along the columns

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return shape.values(); }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const float* from = m.values + at.source[0];
        const float* taps = m.floats + at.floats;
        m.values[at.target[0] + e] = down ? blurred_down(from, shape, taps, radius, e)
                                          : blurred_across(from, shape, taps, radius, e);
    }
};

/// USM's second pass: picture and rows in, blurred picture and mask out.
struct UsmMaskElement {
    static constexpr char name[] = "usm_mask";
    Places at;
    PlaneShape shape;
    std::int32_t radius = 0;
    float threshold = 0;

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return shape.values(); }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const float blurred =
            blurred_down(m.values + at.source[1], shape, m.floats + at.floats, radius, e);
        m.values[at.target[0] + e] = blurred;
        m.values[at.target[1] + e] = usm_mask(m.values[at.source[0] + e], blurred, threshold);
    }
};

/// USM's last pass: picture, blurred picture and rows of the mask in, sharpened picture out.
struct UsmMixElement {
    static constexpr char name[] = "usm_mix";
    Places at;
    PlaneShape shape;
    std::int32_t radius = 0;
    float weight = 0;

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return shape.values(); }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const float soft =
            blurred_down(m.values + at.source[2], shape, m.floats + at.floats, radius, e);
        m.values[at.target[0] + e] =
            usm_mix(m.values[at.source[0] + e], m.values[at.source[1] + e], soft, weight);
    }
};

/// A row with its ends reflected: + i points to the sample i right of x.
struct ReflectedRow {
    const float* row;
    std::int32_t x, width;
    ULTRASR_HOST_DEVICE const float* operator+(int i) const {
        return row + reflected(x + i, width);
    }
};

/// A blur with all taps of its kernel. ints: the first and then the last tap worth visiting of
/// every row.
struct BlurElement {
    static constexpr char name[] = "blur";
    Places at;
    PlaneShape shape;
    std::int32_t size = 1;
    std::int32_t folds = 0;  ///< 1: rows are added in pairs

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return shape.values(); }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const PlanePoint p = point_of(e, shape);
        const float* plane =
            m.values + at.source[0] +
            static_cast<std::uint32_t>(p.plane) * std::uint64_t{shape.plane_values()};
        const int R = size / 2, w = shape.width, h = shape.height;
        const bool inside = p.x >= R && p.x + R < w && p.y >= R && p.y + R < h;
        m.values[at.target[0] + e] =
            inside
                ? value(m, [&](int j) { return plane + offset(p.y + j - R, w) + (p.x - R); })
                : value(m, [&](int j) {
                      return ReflectedRow{plane + offset(reflected(p.y + j - R, h), w), p.x - R, w};
                  });
    }
    template <class Row>
    ULTRASR_HOST_DEVICE float value(const DeviceMemory& m, Row&& row) const {
        const float* taps = m.floats + at.floats;
        const std::int32_t *first = m.ints + at.ints, *last = first + size;
        if (!folds) return blur_full<float>(taps, size, first, last, row);
        return blur_folded<float>(taps, size, first, last, [&](int d, int i, float) {
            const int middle = size / 2;
            return d == 0 ? *(row(middle) + i) : *(row(middle - d) + i) + *(row(middle + d) + i);
        });
    }
};

/// A mean over a bin.
struct AreaElement {
    static constexpr char name[] = "resize_area";
    Places at;
    PlaneShape from, to;

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return to.values(); }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const PlanePoint p = point_of(e, to);
        const int y = area_begin(p.y, from.height, to.height);
        const int x = area_begin(p.x, from.width, to.width);
        const float* plane =
            m.values + at.source[0] +
            static_cast<std::uint32_t>(p.plane) * std::uint64_t{from.plane_values()};
        m.values[at.target[0] + e] = area_mean(plane + offset(y, from.width) + x, from.width,
                                               area_end(p.y, from.height, to.height) - y,
                                               area_end(p.x, from.width, to.width) - x);
    }
};

/// A weighted sum along one axis; the other axis keeps its length.
struct TapsElement {
    static constexpr char name[] = "resize_taps";
    Places at;
    PlaneShape from, to;
    std::int32_t taps = 1;
    std::int32_t down = 0;  ///< 1: along the columns

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return to.values(); }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const PlanePoint p = point_of(e, to);
        const std::ptrdiff_t first = offset(down ? p.y : p.x, taps);
        const std::int32_t* index = m.ints + at.ints + first;
        const float* plane =
            m.values + at.source[0] +
            static_cast<std::uint32_t>(p.plane) * std::uint64_t{from.plane_values()};
        const float* line = down ? plane + p.x : plane + offset(p.y, from.width);
        const int stride = down ? from.width : 1;
        m.values[at.target[0] + e] =
            resize_axis<float>(m.floats + at.floats + first, taps,
                               [&](int t) { return line[offset(index[t], stride)]; });
    }
};

/// Four neighbouring pixels share the words of one counter.
ULTRASR_HOST_DEVICE inline std::uint32_t word_blocks(const PlaneShape& shape) {
    return (shape.plane_values() + 3) / 4;
}
constexpr std::uint32_t device_shared_channel = 3;

/// Normal noise on four pixels of a plane, or of all planes when it is grey.
struct GaussianElement {
    static constexpr char name[] = "gaussian_noise";
    Places at;
    PlaneShape shape;
    StreamKey key;
    float sigma = 0;
    std::int32_t gray = 0;

    ULTRASR_HOST_DEVICE std::uint32_t elements() const {
        return word_blocks(shape) * (gray ? 1U : static_cast<std::uint32_t>(shape.planes));
    }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const std::uint32_t field = e / word_blocks(shape), block = e - field * word_blocks(shape);
        const auto words = stream_words<1>(key, gray ? device_shared_channel : field, block);
        const std::uint32_t n = shape.plane_values();
        const std::uint32_t last = gray ? static_cast<std::uint32_t>(shape.planes) - 1 : field;
        for (std::uint32_t i = 0; i < 4 && 4 * block + i < n; ++i) {
            const float z = normal_of_word(words.word[i][0], m.normal);
            for (std::uint32_t c = field; c <= last; ++c) {
                const std::uint64_t p = std::uint64_t{c} * n + 4 * block + i;
                m.values[at.target[0] + p] = with_gaussian(m.values[at.source[0] + p], z, sigma);
            }
        }
    }
};

/// Enters a level in a set. Many threads at once, in any order.
ULTRASR_HOST_DEVICE inline void mark_seen_(std::uint32_t* words, std::uint8_t level) {
    std::uint32_t* word = words + level / 32;
    const std::uint32_t bit = 1U << (level % 32);
#if defined(__CUDA_ARCH__)
    if (!(*static_cast<volatile std::uint32_t*>(word) & bit)) atomicOr(word, bit);
#else
    const std::atomic_ref<std::uint32_t> shared(*word);
    if (!(shared.load(std::memory_order_relaxed) & bit)) {
        shared.fetch_or(bit, std::memory_order_relaxed);
    }
#endif
}

/// The binary logarithm of Poisson's vals: of the number of levels, rounded up.
ULTRASR_HOST_DEVICE inline std::int32_t log_vals(const std::uint32_t* words) {
    std::int32_t levels = 0, log = 0;
    for (int i = 0; i < 8; ++i) {
#if defined(__CUDA_ARCH__)
        levels += __popc(words[i]);
#else
        levels += std::popcount(words[i]);
#endif
    }
    while ((1 << log) < levels) ++log;
    return log;
}

ULTRASR_HOST_DEVICE inline std::uint8_t grey_level(const float* picture, std::uint32_t n,
                                                   std::uint32_t p) {
    return poisson_level(
        grey_of(picture[p], picture[std::uint64_t{n} + p], picture[2 * std::uint64_t{n} + p]));
}

/// Finds the 8-bit levels of a picture.
struct SeenElement {
    static constexpr char name[] = "distinct_levels";
    Places at;
    PlaneShape shape;
    std::int32_t gray = 0;

    ULTRASR_HOST_DEVICE std::uint32_t elements() const {
        return gray ? shape.plane_values() : shape.values();
    }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const float* picture = m.values + at.source[0];
        mark_seen_(m.seen + 8 * std::uint64_t{at.seen},
                   gray ? grey_level(picture, shape.plane_values(), e) : poisson_level(picture[e]));
    }
};

/// Poisson noise on four pixels of a plane, or of all planes when it is grey.
struct PoissonElement {
    static constexpr char name[] = "poisson_noise";
    Places at;
    PlaneShape shape;
    StreamKey key;
    float scale = 0;
    std::int32_t gray = 0;
    std::int32_t fixed_log_vals = -1;  ///< -1: from the set

    ULTRASR_HOST_DEVICE std::uint32_t elements() const {
        return word_blocks(shape) * (gray ? 1U : static_cast<std::uint32_t>(shape.planes));
    }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const std::uint32_t field = e / word_blocks(shape), block = e - field * word_blocks(shape);
        const auto words = stream_words<1>(key, gray ? device_shared_channel : field, block);
        const std::int32_t log =
            fixed_log_vals >= 0 ? fixed_log_vals : log_vals(m.seen + 8 * std::uint64_t{at.seen});
        const std::uint32_t n = shape.plane_values();
        const std::uint32_t last = gray ? static_cast<std::uint32_t>(shape.planes) - 1 : field;
        const float* picture = m.values + at.source[0];
        for (std::uint32_t i = 0; i < 4 && 4 * block + i < n; ++i) {
            const std::uint32_t p = 4 * block + i;
            const std::uint8_t level = gray ? grey_level(picture, n, p)
                                            : poisson_level(picture[std::uint64_t{field} * n + p]);
            const int count =
                poisson_of_word(words.word[i][0], m.poisson[256 * log + level], m.thresholds);
            const float deviation = poisson_deviation(static_cast<float>(count),
                                                      static_cast<float>(1 << log), level, scale);
            for (std::uint32_t c = field; c <= last; ++c) {
                const std::uint64_t q = std::uint64_t{c} * n + p;
                m.values[at.target[0] + q] = clamp(picture[q] + deviation, 0.0F, 1.0F);
            }
        }
    }
};

/// Luma at full, chroma at half size, both sides padded to multiples of 16: one luma plane and two
/// chroma planes of a quarter of its values follow each other.
struct JpegPlanes {
    std::int32_t height = 16, width = 16;  ///< of the luma

    ULTRASR_HOST_DEVICE std::uint32_t luma() const {
        return static_cast<std::uint32_t>(height) * static_cast<std::uint32_t>(width);
    }
    ULTRASR_HOST_DEVICE std::uint32_t values() const { return luma() + luma() / 2; }
};

/// Four pixels to four luma values and one of each chroma.
struct JpegSplitElement {
    static constexpr char name[] = "jpeg_split";
    Places at;
    PlaneShape shape;
    JpegPlanes ycc;
    std::int32_t replicate = 0;  ///< 1: padded with the edge, else with black

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return ycc.luma() / 4; }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const auto half = static_cast<std::uint32_t>(ycc.width / 2);
        const auto cy = static_cast<std::int32_t>(e / half),
                   cx = static_cast<std::int32_t>(e % half);
        float* luma = m.values + at.target[0];
        float blue[4], red[4];
        for (int i = 0; i < 4; ++i) {
            const int y = 2 * cy + i / 2, x = 2 * cx + i % 2;
            ycbcr_of_rgb(sample(m, 0, y, x), sample(m, 1, y, x), sample(m, 2, y, x),
                         luma[offset(y, ycc.width) + x], blue[i], red[i]);
        }
        float* chroma = luma + ycc.luma();
        chroma[e] = (blue[0] + blue[1] + blue[2] + blue[3]) * 0.25F;
        chroma[ycc.luma() / 4 + e] = (red[0] + red[1] + red[2] + red[3]) * 0.25F;
    }
    ULTRASR_HOST_DEVICE float sample(const DeviceMemory& m, int c, int y, int x) const {
        if (y >= shape.height || x >= shape.width) {
            if (!replicate) return 0.0F;
            y = y < shape.height ? y : shape.height - 1;
            x = x < shape.width ? x : shape.width - 1;
        }
        const float* plane = m.values + at.source[0] +
                             static_cast<std::uint32_t>(c) * std::uint64_t{shape.plane_values()};
        return plane[offset(y, shape.width) + x] * 255.0F;
    }
};

/// One block of 8 x 8 there and back through the quantiser, in place. floats: the steps of luma,
/// then those of chroma, both [horizontal][vertical].
struct JpegBlockElement {
    static constexpr char name[] = "jpeg_block";
    Places at;
    JpegPlanes ycc;

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return ycc.values() / 64; }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const std::uint32_t luma_blocks = ycc.luma() / 64, chroma_blocks = luma_blocks / 4;
        const bool is_luma = e < luma_blocks;
        std::uint32_t block = is_luma ? e : e - luma_blocks;
        std::uint64_t plane = is_luma ? 0 : ycc.luma();
        if (!is_luma && block >= chroma_blocks) {
            block -= chroma_blocks;
            plane += ycc.luma() / 4;
        }
        const std::int32_t width = is_luma ? ycc.width : ycc.width / 2;
        const auto across = static_cast<std::uint32_t>(width / 8);
        const std::uint32_t row = block / across, column = block - row * across;
        there_and_back_(
            m.values + at.source[0] + plane + offset(static_cast<int>(8 * row), width) + 8 * column,
            width, m.floats + at.floats + (is_luma ? 0 : 64));
    }
    ULTRASR_HOST_DEVICE static void there_and_back_(float* values, int stride, const float* steps) {
        float block[8][8], x[8];
        for (int u = 0; u < 8; ++u) {
            for (int v = 0; v < 8; ++v) x[v] = values[offset(v, stride) + u] - 128.0F;
            dct8_(x);
            for (int v = 0; v < 8; ++v) block[v][u] = x[v];
        }
        for (int v = 0; v < 8; ++v) {
            for (int u = 0; u < 8; ++u) x[u] = block[v][u];
            dct8_(x);
            for (int u = 0; u < 8; ++u) x[u] = quantised(x[u], steps[8 * u + v]);
            idct8_(x);
            for (int u = 0; u < 8; ++u) block[v][u] = x[u];
        }
        for (int u = 0; u < 8; ++u) {
            for (int v = 0; v < 8; ++v) x[v] = block[v][u];
            idct8_(x);
            for (int v = 0; v < 8; ++v) values[offset(v, stride) + u] = x[v] + 128.0F;
        }
    }
};

/// Luma and replicated chroma to one pixel of the picture, the padding cut off.
struct JpegJoinElement {
    static constexpr char name[] = "jpeg_join";
    Places at;
    PlaneShape shape;
    JpegPlanes ycc;

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return shape.plane_values(); }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const PlanePoint p = point_of(e, shape);
        const float* luma = m.values + at.source[0];
        const float* blue = luma + ycc.luma() + offset(p.y / 2, ycc.width / 2) + p.x / 2;
        float* to = m.values + at.target[0] + e;
        const std::uint64_t n = shape.plane_values();
        rgb_of_ycbcr(luma[offset(p.y, ycc.width) + p.x], *blue, blue[ycc.luma() / 4], to[0], to[n],
                     to[2 * n]);
    }
};

/// To [0,1], and to 8 bits.
struct ClampElement {
    static constexpr char name[] = "clamp";
    enum Bits : std::int32_t { any, rounded, truncated };
    Places at;
    PlaneShape shape;
    Bits bits = any;

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return shape.values(); }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        float value = clamp(m.values[at.source[0] + e], 0.0F, 1.0F);
        if (bits == rounded) value = round_even(value * 255.0F) / 255.0F;
        if (bits == truncated) value = cut(value * 255.0F) / 255.0F;
        m.values[at.target[0] + e] = value;
    }
};

/// Grey in all three planes.
struct GrayscaleElement {
    static constexpr char name[] = "grayscale";
    Places at;
    PlaneShape shape;

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return shape.plane_values(); }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        const std::uint64_t n = shape.plane_values();
        const float* from = m.values + at.source[0] + e;
        float* to = m.values + at.target[0] + e;
        to[0] = to[n] = to[2 * n] = grey_of(from[0], from[n], from[2 * n]);
    }
};

/// A finished picture to where it was asked for.
struct StoreElement {
    static constexpr char name[] = "store";
    Places at;
    PlaneShape shape;
    float* given = nullptr;  ///< in the device's memory; null: in `results`
    std::uint64_t result = 0;

    ULTRASR_HOST_DEVICE std::uint32_t elements() const { return shape.values(); }
    ULTRASR_HOST_DEVICE void operator()(const DeviceMemory& m, std::uint32_t e) const {
        (given ? given : m.results + result)[e] = m.values[at.source[0] + e];
    }
};

template <class... Element>
struct ElementList {
    static constexpr std::size_t count = sizeof...(Element);

    /// Calls `action(const Element*)`, a null pointer, with the type of that number.
    template <class Action>
    static void with_kind(std::size_t kind, Action&& action) {
        std::size_t i = 0;
        ((i++ == kind ? action(static_cast<const Element*>(nullptr)) : void()), ...);
    }
};

/// All of them. Of two kinds that are equally urgent the first is launched first.
using DeviceElements = ElementList<UnpackElement, AxisBlurElement, UsmMaskElement, UsmMixElement,
                                   BlurElement, AreaElement, TapsElement, GaussianElement,
                                   SeenElement, PoissonElement, JpegSplitElement, JpegBlockElement,
                                   JpegJoinElement, ClampElement, GrayscaleElement, StoreElement>;

/// The same step for many pictures of any sizes at once: a row of elements of one kind.
struct DeviceLaunch {
    std::size_t kind = 0;
    std::size_t records = 0;  ///< bytes before the first one
    std::uint32_t pictures = 0;
    std::uint32_t elements = 0;  ///< of the largest picture
};

}  // namespace ultrasr
