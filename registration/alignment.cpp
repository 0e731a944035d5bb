#include "registration/alignment.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "data/base/error.h"
#include "registration/least_squares.h"

namespace ultrasr {
namespace {

constexpr int strip = 16;      // rows of a task
constexpr int lane_count = 8;  // pixels handled at once
constexpr int most_columns = 10 + max_parameters;
constexpr double tukey_cut = 4.7;     // registration.md 4.6
constexpr double least_sigma = 0.05;  // of a residual in units of local contrast

typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

/// One value a column for eight pixels. (A struct, because templates drop a vector's attributes.)
struct LaneArray {
    Lanes of[most_columns];
    Lanes& operator[](std::size_t i) { return of[i]; }
    const Lanes& operator[](std::size_t i) const { return of[i]; }
    void clear() { *this = LaneArray{}; }
};

template <class Action>
void over_strips(int rows, const Action& action) {
    tbb::this_task_arena::isolate([&] {
        tbb::parallel_for(0, (rows + strip - 1) / strip,
                          [&](int s) { action(s, s * strip, std::min(rows, (s + 1) * strip)); });
    });
}

/// Cubic B-spline weights at a fraction, with first and second derivative.
struct Spline {
    Four value, first, second;
    explicit Spline(float t) {
        const float s = 1 - t;
        value = Four{s * s * s, 3 * t * t * t - 6 * t * t + 4, 3 * s * s * s - 6 * s * s + 4,
                     t * t * t} *
                (1.0F / 6);
        first = Four{-0.5F * s * s, 1.5F * t * t - 2 * t, -1.5F * s * s + 2 * s, 0.5F * t * t};
        second = Four{s, 3 * t - 2, 3 * s - 2, t};
    }
};

float sum_of(Four v) { return (v[0] + v[2]) + (v[1] + v[3]); }

/// Median of the absolute residuals by counting: 2^14 bins over [0, 4).
struct ResidualCounts {
    static constexpr int bins = 1 << 14;
    static constexpr float per_unit = bins / 4.0F;
    std::vector<std::uint32_t> count = std::vector<std::uint32_t>(bins, 0);

    void add(float residual) {
        const float at = std::min(std::abs(residual) * per_unit, bins - 1.0F);
        ++count[static_cast<std::size_t>(at)];
    }
    double median() const {
        std::uint64_t total = 0;
        for (const auto n : count) total += n;
        std::uint64_t below = 0;
        for (std::size_t i = 0; i < count.size(); ++i) {
            if (2 * (below + count[i]) >= total && count[i] > 0) {
                const double part =
                    (0.5 * static_cast<double>(total) - static_cast<double>(below)) / count[i];
                return (static_cast<double>(i) + part) / per_unit;
            }
            below += count[i];
        }
        return 0;
    }
};

}  // namespace

Alignment::Alignment(const AlignmentPictures& pictures, Brightness brightness, int rim)
    : pictures_(pictures), brightness_(brightness), rim_(std::max(rim, 2)) {
    const int rows = pictures_.wide.rows;
    // Packed rows, padded to whole blocks of lanes
    const int columns = (pictures_.wide.cols + lane_count - 1) / lane_count * lane_count;
    counts_.assign(static_cast<std::size_t>(rows), 0);
    column_ = cv::Mat(rows, columns, CV_32S);
    for (cv::Mat* m : {&value_, &gradient_x_, &gradient_y_, &laplacian_, &target_}) {
        *m = cv::Mat(rows, columns, CV_32F);
    }
    weights_ = cv::Mat(rows, pictures_.wide.cols, CV_32F);
}

void Alignment::read(const CameraMap& map, const cv::Mat& mask) {
    map_ = map;
    const cv::Mat& tele = pictures_.tele;
    const int width = pictures_.wide.cols;
    const double fx = static_cast<double>(map.geometry().tele.width) / tele.cols;
    const double fy = static_cast<double>(map.geometry().tele.height) / tele.rows;
    const double samples = map.geometry().scale / fx;  // a wide pixel
    const auto laplacian_unit = static_cast<float>(samples * samples);
    const double burnt_x = static_cast<double>(pictures_.tele_burnt.cols) / tele.cols;
    const double burnt_y = static_cast<double>(pictures_.tele_burnt.rows) / tele.rows;
    over_strips(pictures_.wide.rows, [&](int, int begin, int end) {
        std::vector<double> tx(static_cast<std::size_t>(width)), ty(tx.size());
        for (int y = begin; y < end; ++y) {
            map.row(pictures_.window.x, 1, pictures_.window.y + y, width, tx.data(), ty.data());
            const unsigned char* usable = pictures_.usable.ptr(y);
            const unsigned char* wanted = mask.empty() ? nullptr : mask.ptr(y);
            const float* wide = pictures_.wide.ptr<float>(y);
            int* column = column_.ptr<int>(y);
            float* value = value_.ptr<float>(y);
            float* gradient_x = gradient_x_.ptr<float>(y);
            float* gradient_y = gradient_y_.ptr<float>(y);
            float* laplacian = laplacian_.ptr<float>(y);
            float* target = target_.ptr<float>(y);
            int n = 0;
            for (int x = 0; x < width; ++x) {
                if (!usable[x] || (wanted && !wanted[x])) continue;
                const auto k = static_cast<std::size_t>(x);
                const double px = (tx[k] + 0.5) / fx - 0.5, py = (ty[k] + 0.5) / fy - 0.5;
                if (!(px >= rim_ && py >= rim_ && px < tele.cols - 1 - rim_ &&
                      py < tele.rows - 1 - rim_)) {
                    continue;
                }
                const int ix = static_cast<int>(px), iy = static_cast<int>(py);
                if (!pictures_.tele_burnt.empty() &&
                    pictures_.tele_burnt.at<unsigned char>(
                        std::min(pictures_.tele_burnt.rows - 1,
                                 static_cast<int>((py + 0.5) * burnt_y)),
                        std::min(pictures_.tele_burnt.cols - 1,
                                 static_cast<int>((px + 0.5) * burnt_x)))) {
                    continue;
                }
                const Spline across(static_cast<float>(px - ix)), down(static_cast<float>(py - iy));
                Four a{}, b{}, c{};
                for (int j = 0; j < 4; ++j) {
                    const Four row =
                        *reinterpret_cast<const Four*>(tele.ptr<float>(iy - 1 + j) + ix - 1);
                    a += down.value[j] * row;
                    b += down.first[j] * row;
                    c += down.second[j] * row;
                }
                column[n] = x;
                value[n] = sum_of(a * across.value);
                gradient_x[n] = sum_of(a * across.first);
                gradient_y[n] = sum_of(b * across.value);
                laplacian[n] = laplacian_unit * sum_of(a * across.second + c * across.value);
                target[n] = wide[x];
                ++n;
            }
            counts_[static_cast<std::size_t>(y)] = n;
            for (int i = n; i % lane_count != 0; ++i) {  // weight 0 later
                column[i] = 0;
                value[i] = gradient_x[i] = gradient_y[i] = laplacian[i] = target[i] = 0;
            }
        }
    });
    pixels_ = 0;
    for (const int n : counts_) pixels_ += static_cast<std::size_t>(n);
}

namespace {

/// The ten functions of registration.md 4.6 for eight pixels.
inline void basis_of(Brightness brightness, Lanes t, Lanes laplacian, Lanes x, Lanes y,
                     LaneArray& to) {
    to[0] = Lanes{} + 1.0F;
    to[1] = t;
    if (brightness == Brightness::gain) return;
    to[2] = t * t;
    to[3] = t * t * t;
    to[4] = x * t;
    to[5] = y * t;
    to[6] = (x * x + y * y) * t;
    to[7] = x;
    to[8] = y;
    to[9] = laplacian;
}

inline Lanes load(const float* p) { return *reinterpret_cast<const Lanes*>(p); }

inline float sum_of(Lanes v) {
    return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

/// Sums of one strip of rows.
struct StripSums {
    std::vector<double> matrix, right;
    double weight = 0;
    double w = 0, ww = 0, e = 0, ee = 0, we = 0;  // of wide and explanation, for the correlation
};

/// Adds weight x column_i x column_j over a row to the upper triangle, and x target to the right.
struct RowSums {
    int n;
    struct Cell {
        Lanes sum;
    };
    std::vector<Cell> matrix;
    LaneArray right{};

    explicit RowSums(int unknowns)
        : n(unknowns), matrix(static_cast<std::size_t>(unknowns * (unknowns + 1) / 2)) {}
    void clear() {
        std::fill(matrix.begin(), matrix.end(), Cell{});
        right.clear();
    }
    void add(const LaneArray& column, Lanes weight, Lanes target) {
        Cell* at = matrix.data();
        for (int i = 0; i < n; ++i) {
            const Lanes wi = weight * column[static_cast<std::size_t>(i)];
            for (int j = i; j < n; ++j) (at++)->sum += wi * column[static_cast<std::size_t>(j)];
            right[static_cast<std::size_t>(i)] += wi * target;
        }
    }
    void move_to(StripSums& sums) {
        const auto size = static_cast<std::size_t>(n);
        const Cell* at = matrix.data();
        for (std::size_t i = 0; i < size; ++i) {
            for (std::size_t j = i; j < size; ++j) {
                sums.matrix[i * size + j] += static_cast<double>(sum_of((at++)->sum));
            }
            sums.right[i] += static_cast<double>(sum_of(right[i]));
        }
        clear();
    }
};

}  // namespace

std::vector<double> Alignment::fit_brightness() const {
    const int n = basis_size(brightness_);
    const auto size = static_cast<std::size_t>(n);
    const int rows = pictures_.wide.rows;
    const double half = 0.5 * std::hypot(pictures_.wide.cols, rows);
    std::vector<StripSums> parts(static_cast<std::size_t>((rows + strip - 1) / strip));
    over_strips(rows, [&](int s, int begin, int end) {
        StripSums& part = parts[static_cast<std::size_t>(s)];
        part.matrix.assign(size * size, 0.0);
        part.right.assign(size, 0.0);
        RowSums sums(n);
        LaneArray columns{};
        for (int y = begin; y < end; ++y) {
            const Lanes yy = Lanes{} + static_cast<float>((y - (rows - 1) / 2.0) / half);
            const int count = counts_[static_cast<std::size_t>(y)];
            for (int i = 0; i < count; i += lane_count) {
                Lanes x{}, weight{};
                for (int k = 0; k < lane_count; ++k) {
                    x[k] = static_cast<float>(
                        (column_.ptr<int>(y)[i + k] - (pictures_.wide.cols - 1) / 2.0) / half);
                    weight[k] = i + k < count ? 1.0F : 0.0F;
                }
                basis_of(brightness_, load(value_.ptr<float>(y) + i),
                         load(laplacian_.ptr<float>(y) + i), x, yy, columns);
                sums.add(columns, weight, load(target_.ptr<float>(y) + i));
            }
            sums.move_to(part);
        }
    });
    StripSums total;
    total.matrix.assign(size * size, 0.0);
    total.right.assign(size, 0.0);
    for (const StripSums& part : parts) {
        for (std::size_t i = 0; i < size * size; ++i) total.matrix[i] += part.matrix[i];
        for (std::size_t i = 0; i < size; ++i) total.right[i] += part.right[i];
    }
    return solve_symmetric(total.matrix, total.right);
}

NormalEquations Alignment::equations(const std::vector<double>& c,
                                     const std::vector<int>& free) const {
    const int basis = basis_size(brightness_);
    const int n = basis + static_cast<int>(free.size());
    const auto size = static_cast<std::size_t>(n);
    const int rows = pictures_.wide.rows, width = pictures_.wide.cols;
    const double half = 0.5 * std::hypot(width, rows);
    const double x_middle = (width - 1) / 2.0, y_middle = (rows - 1) / 2.0;
    std::array<float, most_columns> coefficient{};
    for (std::size_t i = 0; i < c.size(); ++i) coefficient[i] = static_cast<float>(c[i]);

    // Explain each pixel; count the residuals
    cv::Mat residual(target_.rows, target_.cols, CV_32F);
    std::vector<StripSums> parts(static_cast<std::size_t>((rows + strip - 1) / strip));
    std::vector<ResidualCounts> counts(parts.size());
    over_strips(rows, [&](int s, int begin, int end) {
        StripSums& part = parts[static_cast<std::size_t>(s)];
        LaneArray columns{};
        for (int y = begin; y < end; ++y) {
            const Lanes yy = Lanes{} + static_cast<float>((y - y_middle) / half);
            const int count = counts_[static_cast<std::size_t>(y)];
            const float* target = target_.ptr<float>(y);
            float* to = residual.ptr<float>(y);
            for (int i = 0; i < count; i += lane_count) {
                Lanes x{};
                for (int k = 0; k < lane_count; ++k) {
                    x[k] = static_cast<float>((column_.ptr<int>(y)[i + k] - x_middle) / half);
                }
                basis_of(brightness_, load(value_.ptr<float>(y) + i),
                         load(laplacian_.ptr<float>(y) + i), x, yy, columns);
                Lanes explained{};
                for (int j = 0; j < basis; ++j) {
                    explained += coefficient[static_cast<std::size_t>(j)] *
                                 columns[static_cast<std::size_t>(j)];
                }
                const int there = std::min(lane_count, count - i);
                for (int k = 0; k < there; ++k) {
                    const double w = target[i + k], e = explained[k];
                    to[i + k] = target[i + k] - explained[k];
                    counts[static_cast<std::size_t>(s)].add(to[i + k]);
                    part.w += w;
                    part.ww += w * w;
                    part.e += e;
                    part.ee += e * e;
                    part.we += w * e;
                }
                for (int k = there; k < lane_count; ++k) to[i + k] = 0;
            }
        }
    });
    NormalEquations result;
    result.unknowns = n;
    result.pixels = pixels_;
    ResidualCounts all;
    StripSums total;
    for (std::size_t s = 0; s < parts.size(); ++s) {
        for (std::size_t i = 0; i < all.count.size(); ++i) all.count[i] += counts[s].count[i];
        total.w += parts[s].w;
        total.ww += parts[s].ww;
        total.e += parts[s].e;
        total.ee += parts[s].ee;
        total.we += parts[s].we;
    }
    result.sigma = 1.4826 * all.median();
    const auto pixels = static_cast<double>(std::max<std::size_t>(1, pixels_));
    const double both = total.we - total.w * total.e / pixels;
    const double own =
        (total.ww - total.w * total.w / pixels) * (total.ee - total.e * total.e / pixels);
    result.correlation = own > 0 ? both / std::sqrt(own) : 0;

    // Weigh the pixels and sum up
    const auto limit = static_cast<float>(tukey_cut * std::max(result.sigma, least_sigma));
    const double fx = static_cast<double>(map_.geometry().tele.width) / pictures_.tele.cols;
    const double fy = static_cast<double>(map_.geometry().tele.height) / pictures_.tele.rows;
    weights_.setTo(0);
    over_strips(rows, [&](int s, int begin, int end) {
        StripSums& part = parts[static_cast<std::size_t>(s)];
        part.matrix.assign(size * size, 0.0);
        part.right.assign(size, 0.0);
        RowSums sums(n);
        LaneArray columns{};
        // The derivatives by the parameters are smooth: exact at nodes, linear between
        constexpr int node_step = 16;
        const int nodes = width / node_step + 2;
        std::vector<std::array<std::array<float, 2>, max_parameters>> node(
            static_cast<std::size_t>(nodes));
        for (int y = begin; y < end; ++y) {
            for (int k = 0; k < nodes; ++k) {
                MapDerivatives d;
                map_.with_derivatives({static_cast<double>(pictures_.window.x + k * node_step),
                                       static_cast<double>(pictures_.window.y + y)},
                                      d);
                for (std::size_t p = 0; p < free.size(); ++p) {
                    const PixelPoint& by = d.by_parameter[static_cast<std::size_t>(free[p])];
                    node[static_cast<std::size_t>(k)][p] = {static_cast<float>(by.x / fx),
                                                            static_cast<float>(by.y / fy)};
                }
            }
            const Lanes yy = Lanes{} + static_cast<float>((y - y_middle) / half);
            const int count = counts_[static_cast<std::size_t>(y)];
            const int* column = column_.ptr<int>(y);
            const float* from = residual.ptr<float>(y);
            float* weights = weights_.ptr<float>(y);
            for (int i = 0; i < count; i += lane_count) {
                Lanes x{}, weight{};
                const int there = std::min(lane_count, count - i);
                for (int k = 0; k < there; ++k) {
                    x[k] = static_cast<float>((column[i + k] - x_middle) / half);
                    const float u = from[i + k] / limit;
                    const float v = 1 - u * u;
                    weight[k] = v > 0 ? v * v : 0.0F;
                    weights[column[i + k]] = weight[k];
                    part.weight += static_cast<double>(weight[k]);
                }
                const Lanes t = load(value_.ptr<float>(y) + i);
                basis_of(brightness_, t, load(laplacian_.ptr<float>(y) + i), x, yy, columns);

                // Slope of the explanation by T, times gradient, times Jacobian
                Lanes slope = Lanes{} + coefficient[1];
                if (brightness_ == Brightness::basis) {
                    slope += 2 * coefficient[2] * t + 3 * coefficient[3] * t * t +
                             coefficient[4] * x + coefficient[5] * yy +
                             coefficient[6] * (x * x + yy * yy);
                }
                const Lanes gx = slope * load(gradient_x_.ptr<float>(y) + i);
                const Lanes gy = slope * load(gradient_y_.ptr<float>(y) + i);
                for (std::size_t p = 0; p < free.size(); ++p) {
                    Lanes jx{}, jy{};
                    for (int k = 0; k < there; ++k) {
                        const int at = column[i + k];
                        const auto& low = node[static_cast<std::size_t>(at / node_step)][p];
                        const auto& high = node[static_cast<std::size_t>(at / node_step + 1)][p];
                        const float share = static_cast<float>(at % node_step) * (1.0F / node_step);
                        jx[k] = low[0] + share * (high[0] - low[0]);
                        jy[k] = low[1] + share * (high[1] - low[1]);
                    }
                    columns[static_cast<std::size_t>(basis) + p] = gx * jx + gy * jy;
                }
                sums.add(columns, weight, load(target_.ptr<float>(y) + i));
            }
            sums.move_to(part);
        }
    });
    result.matrix.assign(size * size, 0.0);
    result.right.assign(size, 0.0);
    for (const StripSums& part : parts) {
        for (std::size_t i = 0; i < size * size; ++i) result.matrix[i] += part.matrix[i];
        for (std::size_t i = 0; i < size; ++i) result.right[i] += part.right[i];
        result.weight += part.weight;
    }
    result.kept = result.weight / pixels;
    return result;
}

}  // namespace ultrasr
