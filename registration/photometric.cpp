#include "registration/photometric.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "data/base/error.h"
#include "data/color.h"
#include "registration/knots.h"
#include "registration/least_squares.h"

namespace ultrasr {
namespace {

constexpr std::array quantiles{0.005, 0.05, 0.20, 0.40, 0.60, 0.80, 0.95, 0.995};
constexpr std::size_t knot_count = quantiles.size();

/// A cubic Hermite curve with limited slopes (Fritsch and Carlson 1980), straight outside.
class MonotoneCubic {
  public:
    MonotoneCubic(const std::vector<double>& x, const std::vector<double>& y) : x_(x), y_(y) {
        const std::size_t n = x.size();
        std::vector<double> secant(n - 1);
        for (std::size_t i = 0; i + 1 < n; ++i) secant[i] = (y[i + 1] - y[i]) / (x[i + 1] - x[i]);
        slope_.resize(n);
        slope_[0] = secant[0];
        slope_[n - 1] = secant[n - 2];
        for (std::size_t i = 1; i + 1 < n; ++i) {
            slope_[i] = secant[i - 1] * secant[i] <= 0 ? 0 : (secant[i - 1] + secant[i]) / 2;
        }
        for (std::size_t i = 0; i + 1 < n; ++i) {
            if (secant[i] == 0) {
                slope_[i] = slope_[i + 1] = 0;
                continue;
            }
            const double a = slope_[i] / secant[i], b = slope_[i + 1] / secant[i];
            const double length = a * a + b * b;
            if (length > 9) {
                slope_[i] = 3 / std::sqrt(length) * a * secant[i];
                slope_[i + 1] = 3 / std::sqrt(length) * b * secant[i];
            }
        }
    }

    double operator()(double v) const {
        const std::size_t n = x_.size();
        if (v <= x_[0]) return y_[0] + slope_[0] * (v - x_[0]);
        if (v >= x_[n - 1]) return y_[n - 1] + slope_[n - 1] * (v - x_[n - 1]);
        const std::size_t i = piece_of(x_, v);
        const double h = x_[i + 1] - x_[i], t = (v - x_[i]) / h, s = 1 - t;
        return s * s * (1 + 2 * t) * y_[i] + t * t * (3 - 2 * t) * y_[i + 1] +
               h * t * s * (s * slope_[i] - t * slope_[i + 1]);
    }

    /// Slopes between the knots at 5 to 95 %, of sRGB-encoded values: towards black and white a
    /// change of tone may have any slope in light, and hardly a pixel lies there.
    std::pair<double, double> encoded_slopes() const {
        double least = 1e9, largest = 0;
        const auto encoded = [](double light) {
            return linear_to_srgb(std::clamp(light, 0.0, 1.0));
        };
        for (std::size_t i = 1; i + 2 < x_.size(); ++i) {
            const double slope = (encoded(y_[i + 1]) - encoded(y_[i])) /
                                 std::max(1e-6, encoded(x_[i + 1]) - encoded(x_[i]));
            least = std::min(least, slope);
            largest = std::max(largest, slope);
        }
        return {least, largest};
    }

  private:
    std::vector<double> x_, y_, slope_;
};

struct Place {
    double x, y, r2;
};

Place place_of(int x, int y, double width, double height) {
    const double half = 0.5 * std::hypot(width, height);
    const double px = (x + 0.5 - width / 2) / half, py = (y + 0.5 - height / 2) / half;
    return {px, py, px * px + py * py};
}

double shade(const std::array<double, 3>& v, const Place& p) {
    return 1 + v[0] * p.x + v[1] * p.y + v[2] * p.r2;
}

/// One pixel that counts, of LR and of HR's block means, linear light.
struct Pixel {
    int x, y;
    const float *hr, *lr;  ///< three channels
    double weight;
};

/// Calls action(pixel) row by row.
template <class Action>
void over_pixels(const PhotometricInput& input, const Action& action) {
    for (int y = 0; y < input.hr_mean.rows; ++y) {
        const float* lr = input.lr.ptr<float>(y);
        const float* hr = input.hr_mean.ptr<float>(y);
        const float* weight = input.weight.ptr<float>(y);
        for (int x = 0; x < input.hr_mean.cols; ++x, lr += 3, hr += 3) {
            if (weight[x] > 0) action(Pixel{x, y, hr, lr, static_cast<double>(weight[x])});
        }
    }
}

/// Root mean square difference to LR, sRGB-encoded, weighted.
/// value  (channel, light of HR, pixel) to the light that is compared with LR's
template <class Value>
double residual_of(const PhotometricInput& input, const Value& value) {
    double sum = 0, weights = 0;
    over_pixels(input, [&](const Pixel& p) {
        for (std::size_t c = 0; c < 3; ++c) {
            const double made = value(c, static_cast<double>(p.hr[c]), p);
            const auto d =
                static_cast<double>(encode_srgb(static_cast<float>(made)) - encode_srgb(p.lr[c]));
            sum += p.weight * d * d;
        }
        weights += 3 * p.weight;
    });
    return weights > 0 ? std::sqrt(sum / weights) : 0;
}

bool fit_gain(const PhotometricInput& input, PhotometricFit& fit) {
    for (std::size_t c = 0; c < 3; ++c) {
        std::vector<double> a(4, 0.0), b(2, 0.0);
        over_pixels(input, [&](const Pixel& p) {
            const double w = p.weight;
            const auto h = static_cast<double>(p.hr[c]), l = static_cast<double>(p.lr[c]);
            a[0] += w * h * h;
            a[1] += w * h;
            a[3] += w;
            b[0] += w * h * l;
            b[1] += w * l;
        });
        const auto solution = solve_symmetric(a, b);
        if (solution.empty()) return false;
        fit.gain[c] = solution[0];
        fit.offset[c] = solution[1];
    }
    return true;
}

/// Knots at the quantiles of one channel of HR, kept apart.
std::vector<double> knots_of(const cv::Mat& hr_mean, std::size_t c) {
    std::vector<float> all;
    for (int y = 0; y < hr_mean.rows; ++y) {
        const float* hr = hr_mean.ptr<float>(y) + c;
        for (int x = 0; x < hr_mean.cols; ++x) all.push_back(hr[3 * x]);
    }
    std::sort(all.begin(), all.end());
    std::vector<double> knots;
    for (const double q : quantiles) {
        auto knot = static_cast<double>(
            all[static_cast<std::size_t>(q * static_cast<double>(all.size() - 1))]);
        if (!knots.empty()) {
            // Four levels apart, or noise would set the slope between two knots
            const double before = linear_to_srgb(std::clamp(knots.back(), 0.0, 1.0));
            knot = std::max({knot, srgb_to_linear(before + 4 / 255.0), knots.back() + 1e-4});
        }
        knots.push_back(knot);
    }
    return knots;
}

/// The values at the knots that explain one channel of LR, the vignette held; none where there is
/// no solution. The fit is straight between knots: to LR itself at first (`values` empty), then to
/// what the cubic through `values` leaves.
std::vector<double> fit_values(const PhotometricInput& input, std::size_t c,
                               const std::array<double, 3>& vignette,
                               const std::vector<double>& knots,
                               const std::vector<double>& values) {
    std::optional<MonotoneCubic> before;
    if (!values.empty()) before.emplace(knots, values);
    std::vector<double> a(knot_count * knot_count, 0.0), b(knot_count, 0.0);
    over_pixels(input, [&](const Pixel& p) {
        const double v = shade(vignette, place_of(p.x, p.y, input.lr.cols, input.lr.rows));
        const auto hr = static_cast<double>(p.hr[c]);
        const double target = static_cast<double>(p.lr[c]) - (before ? v * (*before)(hr) : 0);
        const std::size_t i = piece_of(knots, hr);
        const double t = (hr - knots[i]) / (knots[i + 1] - knots[i]);
        const std::array<double, 2> hat{1 - t, t};
        for (std::size_t j = 0; j < 2; ++j) {
            b[i + j] += p.weight * v * hat[j] * target;
            for (std::size_t k = j; k < 2; ++k) {
                a[(i + j) * knot_count + i + k] += p.weight * v * v * hat[j] * hat[k];
            }
        }
    });
    add_smoothness_(a, b, knots, 1e-2, values);
    std::vector<double> solution = solve_symmetric(a, b);
    for (std::size_t i = 0; i < solution.size(); ++i) {
        if (before) solution[i] += values[i];
        if (i > 0) solution[i] = std::max(solution[i], solution[i - 1]);
    }
    return solution;
}

/// The vignette that explains LR with the curves held; none where there is no solution.
std::vector<double> fit_vignette(const PhotometricInput& input, const PhotometricFit& fit) {
    std::vector<double> a(9, 0.0), b(3, 0.0);
    for (std::size_t c = 0; c < 3; ++c) {
        const MonotoneCubic curve(fit.knots[c], fit.values[c]);
        over_pixels(input, [&](const Pixel& p) {
            const Place at = place_of(p.x, p.y, input.lr.cols, input.lr.rows);
            const double made = curve(static_cast<double>(p.hr[c]));
            const std::array<double, 3> column{made * at.x, made * at.y, made * at.r2};
            const double rest = static_cast<double>(p.lr[c]) - made;
            for (std::size_t i = 0; i < 3; ++i) {
                b[i] += p.weight * column[i] * rest;
                for (std::size_t j = i; j < 3; ++j) {
                    a[3 * i + j] += p.weight * column[i] * column[j];
                }
            }
        });
    }
    return solve_symmetric(a, b);
}

bool fit_curve(const PhotometricInput& input, PhotometricFit& fit) {
    for (std::size_t c = 0; c < 3; ++c) fit.knots[c] = knots_of(input.hr_mean, c);

    // Curves with the vignette held, then the vignette with the curves held
    for (int round = 0; round < 4; ++round) {
        for (std::size_t c = 0; c < 3; ++c) {
            fit.values[c] = fit_values(input, c, fit.vignette, fit.knots[c], fit.values[c]);
            if (fit.values[c].empty()) return false;
        }
        const std::vector<double> vignette = fit_vignette(input, fit);
        if (vignette.empty()) return false;
        std::copy(vignette.begin(), vignette.end(), fit.vignette.begin());
    }
    return true;
}

/// One row of HR after the match.
class Matcher {
  public:
    Matcher(const PhotometricFit& fit, int width, int height)
        : fit_(fit), width_(width), height_(height) {
        if (fit.kind != Photometric::curve) return;
        // The curves as tables over the root of the light, read linearly
        for (std::size_t c = 0; c < 3; ++c) {
            const MonotoneCubic curve(fit.knots[c], fit.values[c]);
            for (int i = 0; i <= steps + 1; ++i) {
                const double root = static_cast<double>(i) / steps;
                table_[c].push_back(static_cast<float>(curve(root * root)));
            }
        }
    }

    void row(int y, const float* from, float* to) const {
        if (fit_.kind == Photometric::none) {
            std::copy_n(from, 3 * width_, to);
            return;
        }
        for (int x = 0; x < width_; ++x, from += 3, to += 3) {
            if (fit_.kind == Photometric::gain) {
                for (std::size_t c = 0; c < 3; ++c) {
                    to[c] = std::clamp(static_cast<float>(fit_.gain[c]) * from[c] +
                                           static_cast<float>(fit_.offset[c]),
                                       0.0F, 1.0F);
                }
                continue;
            }
            const auto v =
                static_cast<float>(shade(fit_.vignette, place_of(x, y, width_, height_)));
            for (std::size_t c = 0; c < 3; ++c) {
                const float at = std::sqrt(std::clamp(from[c], 0.0F, 1.0F)) * steps;
                const auto i = static_cast<std::size_t>(at);
                const float* low = &table_[c][i];
                const float made = low[0] + (at - static_cast<float>(i)) * (low[1] - low[0]);
                to[c] = std::clamp(made * v, 0.0F, 1.0F);
            }
        }
    }

  private:
    static constexpr int steps = 4096;
    const PhotometricFit& fit_;
    int width_, height_;
    std::array<std::vector<float>, 3> table_;
};

template <class Action>
void over_rows(int rows, const Action& action) {
    tbb::this_task_arena::isolate([&] { tbb::parallel_for(0, rows, action); });
}

PhotometricFit none_because(PhotometricFit fit, std::string why) {
    fit.kind = Photometric::none;
    fit.why = std::move(why);
    return fit;
}

}  // namespace

Photometric photometric(std::string_view name) {
    if (name == "curve") return Photometric::curve;
    if (name == "gain") return Photometric::gain;
    if (name == "none") return Photometric::none;
    fail(Fault::usage, "unknown photometric matching '{}'; known: curve, gain, none", name);
}

std::string_view name_of(Photometric kind) {
    return kind == Photometric::curve ? "curve" : kind == Photometric::gain ? "gain" : "none";
}

PhotometricFit fit_photometric(const PhotometricInput& input, Photometric wanted) {
    PhotometricFit fit;
    fit.residual_before = residual_of(input, [](std::size_t, double v, const Pixel&) { return v; });
    fit.residual_after = fit.residual_before;
    if (wanted == Photometric::none) return fit;
    if (input.hr_burnt_share > 0.02 || input.lr_burnt_share > 0.02) {
        return none_because(fit,
                            fmt::format("burnt out: {:.1f} % of HR, {:.1f} % of LR",
                                        100 * input.hr_burnt_share, 100 * input.lr_burnt_share));
    }
    if (input.correlation < 0.9) {
        return none_because(fit, fmt::format("correlation {:.3f} below 0.9", input.correlation));
    }
    if (!fit_gain(input, fit)) return none_because(fit, "the gain has no solution");
    bool equal = true;
    for (std::size_t c = 0; c < 3; ++c) {
        equal = equal && std::abs(fit.gain[c] - 1) <= 0.01 && std::abs(fit.offset[c]) <= 0.5 / 255;
    }
    if (equal) return none_because(fit, "gains within 1 % and offsets within 0.5 levels");

    // Fit, look at slope and gain
    fit.kind = wanted;
    double least = 1, largest = 1;
    if (wanted == Photometric::gain) {
        least = *std::min_element(fit.gain.begin(), fit.gain.end());
        largest = *std::max_element(fit.gain.begin(), fit.gain.end());
        fit.residual_after = residual_of(input, [&](std::size_t c, double v, const Pixel&) {
            return fit.gain[c] * v + fit.offset[c];
        });
    } else {
        if (!fit_curve(input, fit)) return none_because(fit, "the curve has no solution");
        const std::array curves{MonotoneCubic(fit.knots[0], fit.values[0]),
                                MonotoneCubic(fit.knots[1], fit.values[1]),
                                MonotoneCubic(fit.knots[2], fit.values[2])};
        for (const MonotoneCubic& curve : curves) {
            const auto [low, high] = curve.encoded_slopes();
            least = std::min(least, low);
            largest = std::max(largest, high);
        }
        fit.residual_after = residual_of(input, [&](std::size_t c, double v, const Pixel& p) {
            return curves[c](v) *
                   shade(fit.vignette, place_of(p.x, p.y, input.lr.cols, input.lr.rows));
        });
    }
    if (least < 0.25 || largest > 4) {
        return none_because(fit,
                            fmt::format("slope {:.2f} to {:.2f} leaves 0.25 to 4", least, largest));
    }
    if (fit.residual_after > 0.9 * fit.residual_before) {
        return none_because(fit, fmt::format("lowers the residual by {:.0f} % only",
                                             100 * (1 - fit.residual_after /
                                                            std::max(fit.residual_before, 1e-12))));
    }
    return fit;
}

PhotometricFit fit_gain_always(const PhotometricInput& input) {
    PhotometricFit fit;
    if (fit_gain(input, fit)) fit.kind = Photometric::gain;
    return fit;
}

cv::Mat apply_photometric(const PhotometricFit& fit, const cv::Mat& hr) {
    if (fit.kind == Photometric::none) return hr;
    cv::Mat result(hr.rows, hr.cols, CV_32FC3);
    const Matcher matcher(fit, hr.cols, hr.rows);
    over_rows(hr.rows, [&](int y) { matcher.row(y, hr.ptr<float>(y), result.ptr<float>(y)); });
    return result;
}

cv::Mat encode_matched(const PhotometricFit& fit, const cv::Mat& hr, int bits) {
    cv::Mat result(hr.rows, hr.cols, bits == 16 ? CV_16UC3 : CV_8UC3);
    const Matcher matcher(fit, hr.cols, hr.rows);
    over_rows(hr.rows, [&](int y) {
        cv::Mat light(1, hr.cols, CV_32FC3);
        matcher.row(y, hr.ptr<float>(y), light.ptr<float>());
        encode_srgb(light, bits).copyTo(result.row(y));
    });
    return result;
}

}  // namespace ultrasr
