#include "degradation/steps/resize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "data/base/error.h"
#include "degradation/steps/resize_pixel.h"

namespace ultrasr {
namespace {

constexpr std::array<std::pair<std::string_view, ResizeMode>, 5> mode_names{
    {{"area", ResizeMode::area},
     {"bilinear", ResizeMode::bilinear},
     {"bicubic", ResizeMode::bicubic},
     {"area_cv", ResizeMode::area_cv},
     {"bicubic_matlab", ResizeMode::bicubic_matlab}}};

/// Keys 1981 with its parameter; t is a distance.
template <class T>
T keys(T t, T A) {
    t = std::abs(t);
    if (t <= 1) return ((A + 2) * t - (A + 3)) * t * t + 1;
    return t < 2 ? ((A * t - 5 * A) * t + 8 * A) * t - 4 * A : T{0};
}

/// Where output i samples the source, pixel centres at whole numbers: one rounding, as the
/// reference does it (exact double is up to 3e-5 off after interpolation, correction 3).
float source_of(int i, double step) {
    return std::fma(static_cast<float>(step), static_cast<float>(i) + 0.5F, -0.5F);
}

/// Two or four neighbours, edges repeated.
AxisTaps point_taps(const AxisSampling& axis, int taps) {
    AxisTaps out;
    out.taps = taps;
    for (int i = 0; i < axis.m; ++i) {
        float at = source_of(i, axis.step);
        if (taps == 2) at = std::clamp(at, 0.0F, static_cast<float>(axis.n - 1));
        const int first = static_cast<int>(std::floor(at));
        const float t = at - static_cast<float>(first);
        for (int k = 0; k < taps; ++k) {
            const int offset = k - (taps == 4 ? 1 : 0);
            out.index.push_back(std::clamp(first + offset, 0, axis.n - 1));
            const float distance = static_cast<float>(offset) - t;
            out.weight.push_back(taps == 4 ? keys(distance, -0.75F) : 1 - std::abs(distance));
        }
    }
    return out;
}

/// Taps gathered per output, brought to one length by weights of 0.
class Gathered {
  public:
    void begin() { outputs_.emplace_back(); }
    void add(int index, double weight) { outputs_.back().push_back({index, weight}); }
    void normalise() {
        double sum = 0;
        for (const auto& [index, weight] : outputs_.back()) sum += weight;
        for (auto& [index, weight] : outputs_.back()) weight /= sum;
    }
    AxisTaps taps() const {
        AxisTaps out;
        for (const auto& output : outputs_) {
            out.taps = std::max(out.taps, static_cast<int>(output.size()));
        }
        for (const auto& output : outputs_) {
            for (std::size_t k = 0; k < static_cast<std::size_t>(out.taps); ++k) {
                const bool there = k < output.size();
                out.index.push_back(there ? output[k].first : output.back().first);
                out.weight.push_back(there ? static_cast<float>(output[k].second) : 0.0F);
            }
        }
        return out;
    }

  private:
    std::vector<std::vector<std::pair<int, double>>> outputs_;
};

/// The filter stretched by the step when shrinking; taps outside are left out.
AxisTaps antialias_taps(const AxisSampling& axis, ResizeMode mode) {
    const double stretch = std::max(axis.step, 1.0);
    const double reach = (mode == ResizeMode::bicubic ? 2 : 1) * stretch;
    Gathered gathered;
    for (int i = 0; i < axis.m; ++i) {
        const double centre = axis.step * (i + 0.5);
        const int first = std::max(static_cast<int>(centre - reach + 0.5), 0);
        const int end = std::min(static_cast<int>(centre + reach + 0.5), axis.n);
        gathered.begin();
        for (int j = first; j < std::max(end, first + 1); ++j) {
            const double d = (j + 0.5 - centre) / stretch;
            gathered.add(std::min(j, axis.n - 1), mode == ResizeMode::bicubic
                                                      ? keys(d, -0.5)
                                                      : std::max(1 - std::abs(d), 0.0));
        }
        gathered.normalise();
    }
    return gathered.taps();
}

/// MATLAB's imresize: edges mirrored with repetition.
AxisTaps matlab_taps(const AxisSampling& axis) {
    const double stretch = std::max(axis.step, 1.0), reach = 2 * stretch;
    const auto mirrored = [&](int j) {
        const int period = 2 * axis.n;
        j = ((j % period) + period) % period;
        return j < axis.n ? j : period - 1 - j;
    };
    Gathered gathered;
    for (int i = 0; i < axis.m; ++i) {
        const double centre = axis.step * (i + 0.5);
        gathered.begin();
        const int end = static_cast<int>(std::ceil(centre + reach));
        for (int j = static_cast<int>(std::floor(centre - reach)); j < end; ++j) {
            const double w = keys((j + 0.5 - centre) / stretch, -0.5);
            if (w != 0) gathered.add(mirrored(j), w);
        }
        gathered.normalise();
    }
    return gathered.taps();
}

/// OpenCV's INTER_AREA when both axes shrink: every pixel counts by its share.
AxisTaps area_cv_taps(const AxisSampling& axis) {
    Gathered gathered;
    for (int i = 0; i < axis.m; ++i) {
        gathered.begin();
        const double begin = i * axis.step, end = std::min(begin + axis.step, 1.0 * axis.n);
        for (int j = static_cast<int>(begin); j < axis.n && j < end; ++j) {
            const double share = std::min(j + 1.0, end) - std::max(1.0 * j, begin);
            if (share > 1e-3) gathered.add(j, share);  // as OpenCV: slivers do not count
        }
        gathered.normalise();
    }
    return gathered.taps();
}

/// OpenCV's INTER_AREA when an axis grows: linear between pixels of the source's size.
AxisTaps linear_cv_taps(const AxisSampling& axis) {
    // Where a pixel begins exactly on another one, a step in float32 could land before it
    const bool whole = axis.step == sampling_to(axis.n, axis.m).step;
    const double inverse = whole ? static_cast<double>(axis.m) / axis.n : 1 / axis.step;
    const double step = 1 / inverse;
    Gathered gathered;
    for (int i = 0; i < axis.m; ++i) {
        gathered.begin();
        const int j = std::min(static_cast<int>(std::floor(i * step)), axis.n - 1);
        const double t = (i + 1) - (j + 1) * inverse;
        const double part = t <= 0 ? 0 : t - std::floor(t);
        gathered.add(j, 1 - part);
        gathered.add(std::min(j + 1, axis.n - 1), part);
        gathered.normalise();
    }
    return gathered.taps();
}

Planar resize_area(const Planar& picture, int height, int width) {
    const int n = picture.height(), w = picture.width();
    std::vector<int> begin, count;
    for (int x = 0; x < width; ++x) {
        begin.push_back(area_begin(x, w, width));
        count.push_back(area_end(x, w, width) - begin.back());
    }
    Planar out(picture.channels(), height, width);
    for (int c = 0; c < picture.channels(); ++c) {
        for (int y = 0; y < height; ++y) {
            const int y0 = area_begin(y, n, height), rows = area_end(y, n, height) - y0;
            float* to = out.row_(c, y);
            for (int x = 0; x < width; ++x) {
                const auto i = static_cast<std::size_t>(x);
                to[x] = area_mean(picture.row(c, y0) + begin[i], w, rows, count[i]);
            }
        }
    }
    return out;
}

/// One row resized along its columns.
template <int taps>
void resize_row(const float* from, const AxisTaps& axis, int m, float* to) {
    const int* index = axis.index.data();
    const float* weight = axis.weight.data();
    for (int x = 0; x < m; ++x, index += taps, weight += taps) {
        to[x] = resize_axis<float>(weight, taps, [&](int t) { return from[index[t]]; });
    }
}
void resize_row(const float* from, const AxisTaps& axis, int m, float* to) {
    switch (axis.taps) {
        case 2:
            return resize_row<2>(from, axis, m, to);
        case 4:
            return resize_row<4>(from, axis, m, to);
        default:
            break;
    }
    for (int x = 0; x < m; ++x) {
        const std::ptrdiff_t i = static_cast<std::ptrdiff_t>(x) * axis.taps;
        const int* index = axis.index.data() + i;
        to[x] = resize_axis<float>(axis.weight.data() + i, axis.taps,
                                   [&](int t) { return from[index[t]]; });
    }
}

}  // namespace

ResizeMode resize_mode(std::string_view name) {
    std::string known;
    for (const auto& [word, mode] : mode_names) {
        if (word == name) return mode;
        known += known.empty() ? "" : ", ";
        known += word;
    }
    fail(Fault::usage, "unknown resize mode '{}'; known: {}", name, known);
}

std::string_view resize_mode_name(ResizeMode mode) {
    return mode_names[static_cast<std::size_t>(mode)].first;
}

AxisSampling sampling_to(int n, int m) {
    // One float32 division, as the reference
    return {n, m, static_cast<float>(n) / static_cast<float>(m), n == m};
}

AxisSampling sampling_by(int n, double ratio, ResizeMode mode) {
    const int m = static_cast<int>(std::floor(n * ratio));
    if (mode == ResizeMode::area) return sampling_to(n, std::max(m, 1));
    return {n, std::max(m, 1), 1 / ratio, m == n && (mode == ResizeMode::bilinear || ratio == 1)};
}

AxisTaps axis_taps(const AxisSampling& axis, ResizeMode mode, bool antialias) {
    if (axis.copy) {
        AxisTaps same;
        for (int i = 0; i < axis.n; ++i) same.index.push_back(i);
        same.weight.assign(static_cast<std::size_t>(axis.n), 1.0F);
        return same;
    }
    switch (mode) {
        case ResizeMode::bilinear:
        case ResizeMode::bicubic:
            return antialias ? antialias_taps(axis, mode)
                             : point_taps(axis, mode == ResizeMode::bicubic ? 4 : 2);
        case ResizeMode::area_cv:
            return axis.step >= 1 ? area_cv_taps(axis) : linear_cv_taps(axis);
        case ResizeMode::bicubic_matlab:
            return matlab_taps(axis);
        case ResizeMode::area:
            break;
    }
    fail(Fault::internal, "bins have no taps");
}

PictureTaps picture_taps(const AxisSampling& rows, const AxisSampling& columns, ResizeMode mode,
                         bool antialias) {
    const bool grows = rows.step < 1 || columns.step < 1;
    if (mode == ResizeMode::area_cv && grows)
        return {linear_cv_taps(rows), linear_cv_taps(columns)};
    return {axis_taps(rows, mode, antialias), axis_taps(columns, mode, antialias)};
}

Planar resize(const Planar& picture, const AxisSampling& rows, const AxisSampling& columns,
              ResizeMode mode, bool antialias) {
    if (rows.n != picture.height() || columns.n != picture.width()) {
        fail(Fault::internal, "a picture of {} x {} cannot be resized as one of {} x {}",
             picture.width(), picture.height(), columns.n, rows.n);
    }
    if (rows.copy && columns.copy) return picture;
    if (mode == ResizeMode::area) return resize_area(picture, rows.m, columns.m);
    const PictureTaps taps = picture_taps(rows, columns, mode, antialias);
    const AxisTaps &down = taps.rows, &across = taps.columns;

    // Along the columns first, those rows alone that some output looks at
    Planar out(picture.channels(), rows.m, columns.m);
    Planar lines(1, rows.n, columns.m);
    std::vector<const float*> sources(static_cast<std::size_t>(down.taps));
    for (int c = 0; c < picture.channels(); ++c) {
        std::vector<char> done(static_cast<std::size_t>(rows.n));
        for (int y = 0; y < rows.m; ++y) {
            const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(y) * down.taps;
            for (int t = 0; t < down.taps; ++t) {
                const int source = down.index[static_cast<std::size_t>(first + t)];
                float* line = lines.row_(0, source);
                if (!std::exchange(done[static_cast<std::size_t>(source)], 1)) {
                    if (columns.copy) {
                        std::memcpy(line, picture.row(c, source),
                                    static_cast<std::size_t>(columns.m) * sizeof(float));
                    } else {
                        resize_row(picture.row(c, source), across, columns.m, line);
                    }
                }
                sources[static_cast<std::size_t>(t)] = line;
            }
            float* to = out.row_(c, y);
            const float* weights = down.weight.data() + first;
            for_each_lane(columns.m, [&](int x, auto v) {
                using V = decltype(v);
                store(to + x, resize_axis<V>(weights, down.taps, [&](int t) {
                          return loaded<V>(sources[static_cast<std::size_t>(t)] + x);
                      }));
            });
        }
    }
    return out;
}

Planar resize_to(const Planar& picture, PixelSize size, ResizeMode mode, bool antialias) {
    return resize(picture, sampling_to(picture.height(), size.height),
                  sampling_to(picture.width(), size.width), mode, antialias);
}

}  // namespace ultrasr
