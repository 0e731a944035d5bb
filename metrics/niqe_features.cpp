#include "metrics/niqe_features.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace ultrasr {
namespace {

// ---- The table of shapes ----

constexpr int shapes = 9801;

struct ShapeTable {
    std::array<double, shapes> alpha;        ///< 0.2 + 0.001 i, as float32
    std::array<double, shapes> ratio;        ///< Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)), ascending
    std::array<double, shapes> scale;        ///< sqrt(Gamma(1/a) / Gamma(3/a))
    std::array<double, shapes> mean_factor;  ///< Gamma(2/a) / Gamma(1/a)

    ShapeTable() {
        for (std::size_t i = 0; i < shapes; ++i) {
            const double a = static_cast<float>(0.2 + 0.001 * static_cast<double>(i));
            const double gamma_1 = std::tgamma(1.0 / a);
            const double gamma_2 = std::tgamma(2.0 / a);
            const double gamma_3 = std::tgamma(3.0 / a);
            alpha[i] = a;
            ratio[i] = gamma_2 * gamma_2 / (gamma_1 * gamma_3);
            scale[i] = std::sqrt(gamma_1 / gamma_3);
            mean_factor[i] = gamma_2 / gamma_1;
        }
    }

    /// The index of the nearest ratio, the first one on ties; 0 for a NaN.
    std::size_t nearest(double r) const {
        if (!std::isfinite(r)) return 0;
        const auto above = std::lower_bound(ratio.begin(), ratio.end(), r);
        const auto i = static_cast<std::size_t>(above - ratio.begin());
        if (i == 0) return 0;
        if (i == ratio.size()) return i - 1;
        return r - ratio[i - 1] <= ratio[i] - r ? i - 1 : i;
    }
};

// ---- The window ----

constexpr int radius = 3;
constexpr double window_sigma = 7.0 / 6.0;

/// One quarter of the symmetric window: [|dy|][|dx|].
using QuarterWindow = std::array<std::array<double, radius + 1>, radius + 1>;

QuarterWindow quarter_window() {
    QuarterWindow w{};
    double sum = 0.0;
    for (int dy = -radius; dy <= radius; ++dy) {
        for (int dx = -radius; dx <= radius; ++dx) {
            const double value =
                std::exp(-(dx * dx + dy * dy) / (2.0 * window_sigma * window_sigma));
            sum += value;
            w[static_cast<unsigned>(std::abs(dy))][static_cast<unsigned>(std::abs(dx))] = value;
        }
    }
    for (auto& row : w) {
        for (double& value : row) value = static_cast<float>(value / sum);
    }
    return w;
}

/// A row of doubles with `radius` repeated edge values on either side.
class PaddedRow {
  public:
    explicit PaddedRow(int width)
        : width_(width), values_(static_cast<std::size_t>(width + 2 * radius)) {}
    double* inner_() { return values_.data() + radius; }
    const double* padded() const { return values_.data(); }  ///< value x - radius at [x]
    void repeat_edges_() {
        std::fill_n(values_.begin(), radius, values_[radius]);
        std::fill_n(values_.end() - radius, radius, values_[static_cast<unsigned>(width_ + 2)]);
    }

  private:
    int width_;
    std::vector<double> values_;
};

/// Rows of equal weight added up: [k] holds row y - k plus row y + k, once of the luma, once of its
/// square. Only the 16 different weights are left to multiply.
struct FoldedRows {
    std::array<PaddedRow, radius + 1> luma;
    std::array<PaddedRow, radius + 1> square;
    explicit FoldedRows(int width)
        : luma{PaddedRow(width), PaddedRow(width), PaddedRow(width), PaddedRow(width)},
          square(luma) {}

    template <class T>
    void fold_(const Plane<T>& plane, int y) {
        for (int k = 0; k <= radius; ++k) {
            const T* upper = plane.row(std::max(y - k, 0));
            const T* lower = plane.row(std::min(y + k, plane.height() - 1));
            PaddedRow& folded = luma[static_cast<unsigned>(k)];
            PaddedRow& folded_square = square[static_cast<unsigned>(k)];
            double *sum = folded.inner_(), *sum_square = folded_square.inner_();
            if (k == 0) {
                for (int x = 0; x < plane.width(); ++x) {
                    const double v = upper[x];
                    sum[x] = v;
                    sum_square[x] = v * v;
                }
            } else {
                for (int x = 0; x < plane.width(); ++x) {
                    const double u = upper[x], v = lower[x];
                    sum[x] = u + v;
                    sum_square[x] = u * u + v * v;
                }
            }
            folded.repeat_edges_();
            folded_square.repeat_edges_();
        }
    }
};

/// The window applied at x to four folded rows.
inline double filtered(const std::array<const double*, radius + 1>& rows, int x,
                       const QuarterWindow& w) {
    double sum = 0.0;
    for (unsigned k = 0; k <= radius; ++k) {
        const double* v = rows[k] + x;
        double part = w[k][0] * v[3];
        part += w[k][1] * (v[2] + v[4]);
        part += w[k][2] * (v[1] + v[5]);
        part += w[k][3] * (v[0] + v[6]);
        sum += part;
    }
    return sum;
}

template <class T>
Plane<double> normalise(const Plane<T>& luma, int y0, int rows) {
    static const QuarterWindow w = quarter_window();
    const int width = luma.width();
    Plane<double> result(width, rows);
    FoldedRows folded(width);
    std::array<const double*, radius + 1> folded_luma{}, folded_square{};
    for (unsigned k = 0; k <= radius; ++k) {
        folded_luma[k] = folded.luma[k].padded();
        folded_square[k] = folded.square[k].padded();
    }
    for (int y = 0; y < rows; ++y) {
        folded.fold_(luma, y0 + y);
        const T* in = luma.row(y0 + y);
        double* out = result.row_(y);
        for (int x = 0; x < width; ++x) {
            const double mu = filtered(folded_luma, x, w);
            const double variance = filtered(folded_square, x, w) - mu * mu;
            const double sd = std::sqrt(std::abs(variance) + 2.22e-16);
            out[x] = (static_cast<double>(in[x]) - mu) / (sd + 1.0);
        }
    }
    return result;
}

// ---- The half-size picture ----

/// The ten taps 2i - 4 ... 2i + 5; the outermost two are zero. All exact in binary.
constexpr std::array<float, 10> cubic{0.0F,         -0.01171875F, -0.03515625F, 0.11328125F,
                                      0.43359375F,  0.43359375F,  0.11328125F,  -0.03515625F,
                                      -0.01171875F, 0.0F};

/// Sum of the products with taps 1 to 8. The zero taps change nothing.
template <Profile profile>
float cubic_sum(float v1, float v2, float v3, float v4, float v5, float v6, float v7, float v8) {
    const float t1 = cubic[1] * v1, t2 = cubic[2] * v2, t3 = cubic[3] * v3, t4 = cubic[4] * v4;
    const float t5 = cubic[5] * v5, t6 = cubic[6] * v6, t7 = cubic[7] * v7, t8 = cubic[8] * v8;
    if constexpr (profile == Profile::cuda) {
        // Four interleaved partial sums: taps k, k + 4, k + 8
        return (((t4 + t8) + (t1 + t5)) + (t2 + t6)) + (t3 + t7);
    } else {
        return ((((((t1 + t2) + t3) + t4) + t5) + t6) + t7) + t8;
    }
}

/// Mirrored with the edge repeated: -1 is 0, -2 is 1.
int mirrored(int i, int n) { return i < 0 ? -i - 1 : (i >= n ? 2 * n - 1 - i : i); }

template <Profile profile>
Plane<double> halve(const Plane<float>& luma) {
    const int width = luma.width(), height = luma.height();
    const int half_width = width / 2, half_height = height / 2;
    constexpr int reach = 4;

    // Values / 255, divided in double, kept in float32
    Plane<float> unit(width, height);
    for (int y = 0; y < height; ++y) {
        const float* in = luma.row(y);
        float* out = unit.row_(y);
        for (int x = 0; x < width; ++x) {
            out[x] = static_cast<float>(static_cast<double>(in[x]) / 255.0);
        }
    }

    Plane<double> result(half_width, half_height);
    std::vector<float> column(static_cast<std::size_t>(width));
    // Even and odd places apart, two more on either side: place 2i of the row is even[i + 2]
    std::vector<float> even(static_cast<std::size_t>(half_width + reach)), odd(even.size());
    for (int y = 0; y < half_height; ++y) {
        // Downwards
        std::array<const float*, 10> r{};
        for (int k = 0; k < 10; ++k) {
            r[static_cast<unsigned>(k)] = unit.row(mirrored(2 * y - 4 + k, height));
        }
        for (int x = 0; x < width; ++x) {
            column[static_cast<unsigned>(x)] = cubic_sum<profile>(
                r[1][x], r[2][x], r[3][x], r[4][x], r[5][x], r[6][x], r[7][x], r[8][x]);
        }

        // Sideways
        for (int i = -2; i < half_width + 2; ++i) {
            const auto at = static_cast<unsigned>(i + 2);
            even[at] = column[static_cast<unsigned>(mirrored(2 * i, width))];
            odd[at] = column[static_cast<unsigned>(mirrored(2 * i + 1, width))];
        }
        const float *e = even.data(), *o = odd.data();
        double* out = result.row_(y);
        for (int x = 0; x < half_width; ++x) {
            out[x] = 255.0 * static_cast<double>(cubic_sum<profile>(o[x], e[x + 1], o[x + 1],
                                                                    e[x + 2], o[x + 2], e[x + 3],
                                                                    o[x + 3], e[x + 4]));
        }
    }
    return result;
}

// ---- Moments of a block ----

// Four doubles at a time, in GCC's portable form: two SSE2 operations or one of AVX, same bits.
using Lanes = double __attribute__((vector_size(32)));
using LaneMask = std::int64_t __attribute__((vector_size(32)));
using UnalignedLanes = double __attribute__((vector_size(32), aligned(8), may_alias));
constexpr int lanes = 4;

/// Sums over one array, four lanes each.
struct LaneMoments {
    LaneMask negatives{};  ///< minus the count
    LaneMask positives{};
    Lanes negative_squares{};
    Lanes positive_squares{};
    Lanes absolute{};
};

inline void add_(LaneMoments& m, const Lanes& v) {
    const Lanes zero{};
    const LaneMask negative = v < zero;
    const LaneMask positive = v > zero;
    const Lanes square = v * v;
    m.negatives += negative;
    m.positives += positive;
    m.negative_squares += negative ? square : zero;
    m.positive_squares += positive ? square : zero;
    m.absolute += negative ? -v : v;
}

SignedMoments joined(const LaneMoments& m, std::int64_t samples) {
    SignedMoments result;
    result.samples = samples;
    for (int i = 0; i < lanes; ++i) {
        result.negatives -= m.negatives[i];
        result.positives -= m.positives[i];
        result.negative_squares += m.negative_squares[i];
        result.positive_squares += m.positive_squares[i];
        result.absolute += m.absolute[i];
    }
    return result;
}

}  // namespace

Aggd fit_aggd(const SignedMoments& moments) {
    static const ShapeTable table;
    const auto samples = static_cast<double>(moments.samples);
    const double l = std::sqrt(moments.negative_squares / static_cast<double>(moments.negatives));
    const double r = std::sqrt(moments.positive_squares / static_cast<double>(moments.positives));
    const double q = l / r;
    const double mean_absolute = moments.absolute / samples;
    const double rho = mean_absolute * mean_absolute /
                       ((moments.negative_squares + moments.positive_squares) / samples);
    const double ratio = rho * (q * q * q + 1.0) * (q + 1.0) / ((q * q + 1.0) * (q * q + 1.0));
    const std::size_t i = table.nearest(ratio);
    const double left = l * table.scale[i];
    const double right = r * table.scale[i];
    return {table.alpha[i], left, right, (right - left) * table.mean_factor[i]};
}

Plane<double> locally_normalised(const Plane<float>& luma, int y, int rows) {
    return normalise(luma, y, rows);
}

Plane<double> locally_normalised(const Plane<double>& luma, int y, int rows) {
    return normalise(luma, y, rows);
}

Plane<double> half_size(const Plane<float>& luma, Profile profile) {
    return profile == Profile::cuda ? halve<Profile::cuda>(luma) : halve<Profile::cpu>(luma);
}

BlockFeatures block_features(const Plane<double>& normalised, int x, int y, int side) {
    // Two rows with their last and first value repeated in front and behind: the block is a ring
    const auto length = static_cast<std::size_t>(side);
    std::vector<double> buffer_1(length + 2), buffer_2(length + 2);
    double *above = buffer_1.data() + 1, *here = buffer_2.data() + 1;
    const auto take_row = [&](int row, double* out) {
        const double* in = normalised.row(y + row) + x;
        std::copy_n(in, length, out);
        out[-1] = in[side - 1];
        out[side] = in[0];
    };

    // Moments of the block itself and of its products with the left, upper, upper left and upper
    // right neighbours
    LaneMoments own, left, up, up_left, up_right;
    take_row(side - 1, above);
    for (int row = 0; row < side; ++row) {
        take_row(row, here);
        const auto load = [](const double* from) {
            return reinterpret_cast<const UnalignedLanes*>(from);
        };
        for (int i = 0; i < side; i += lanes) {
            const Lanes v = *load(here + i);
            add_(own, v);
            add_(left, v * *load(here + i - 1));
            add_(up, v * *load(above + i));
            add_(up_left, v * *load(above + i - 1));
            add_(up_right, v * *load(above + i + 1));
        }
        std::swap(above, here);
    }

    // Fits
    const std::int64_t samples = std::int64_t{side} * side;
    const Aggd shape = fit_aggd(joined(own, samples));
    BlockFeatures features{shape.alpha, (shape.left + shape.right) / 2.0};
    std::size_t next = 2;
    for (const LaneMoments* moments : {&left, &up, &up_left, &up_right}) {
        const Aggd fit = fit_aggd(joined(*moments, samples));
        for (const double value : {fit.alpha, fit.mean, fit.left, fit.right}) {
            features[next++] = value;
        }
    }
    return features;
}

}  // namespace ultrasr
