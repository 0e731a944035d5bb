// What the tests of the degradation share: pictures, steps by name, golden tensors, statistics.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <string>
#include <vector>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/random.h"
#include "data/weights/safetensors.h"
#include "degradation/degradation.h"
#include "degradation/steps/resize.h"

namespace ultrasr::test {

/// Independent values in [low, high).
inline Planar noise_picture(int channels, int height, int width, std::uint64_t seed, double low = 0,
                            double high = 1) {
    Planar picture(channels, height, width);
    Rng rng(seed, 0);
    for (std::size_t i = 0; i < picture.values(); ++i) {
        picture.data_()[i] = static_cast<float>(low + (high - low) * rng.uniform());
    }
    return picture;
}

inline Planar flat_picture(int channels, int height, int width, float value) {
    Planar picture(channels, height, width);
    std::fill_n(picture.data_(), picture.values(), value);
    return picture;
}

/// `value(c, y, x)` everywhere.
template <class Value>
Planar made_picture(int channels, int height, int width, Value&& value) {
    Planar picture(channels, height, width);
    for (int c = 0; c < channels; ++c) {
        for (int y = 0; y < height; ++y) {
            for (int x = 0; x < width; ++x) {
                picture.row_(c, y)[x] = static_cast<float>(value(c, y, x));
            }
        }
    }
    return picture;
}

inline bool same_shape(const Planar& a, const Planar& b) {
    return a.channels() == b.channels() && a.size() == b.size();
}

inline bool same_bytes(const Planar& a, const Planar& b) {
    return same_shape(a, b) && std::memcmp(a.data(), b.data(), a.values() * sizeof(float)) == 0;
}

/// Infinite for another shape or a value that is not finite.
inline double largest_difference(const Planar& a, const Planar& b) {
    if (!same_shape(a, b)) return INFINITY;
    double largest = 0;
    for (std::size_t i = 0; i < a.values(); ++i) {
        const double d = std::abs(static_cast<double>(a.data()[i]) - b.data()[i]);
        if (!(d <= largest)) largest = std::isfinite(d) ? d : INFINITY;
    }
    return largest;
}

/// One step by its name in the list, as apply-step runs it.
inline Planar applied(std::string_view step, const std::string& params, const Planar& picture,
                      const StepInputs& given = {}, Json* measured = nullptr,
                      Tier tier = Tier::exact, const Stream& stream = {}) {
    StepContext context{stream, nullptr, measured};
    return degradation(step).make(Json::parse(params), given, tier)->apply(picture, context);
}

/// The sentence of the Error that `action` throws; empty when it throws none.
template <class Action>
std::string sentence_of(Action&& action, Fault fault = Fault::input) {
    try {
        action();
    } catch (const Error& error) {
        return error.fault() == fault ? error.sentence() : "another fault: " + error.sentence();
    }
    return {};
}

inline bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

/// A golden tensor [C,H,W], or [H,W] as one plane.
inline Planar planar_of(const SafetensorsFile& file, const std::string& name) {
    const TensorView* tensor = file.find(name);
    require(tensor && tensor->dtype == Dtype::f32 &&
                (tensor->shape.size() == 2 || tensor->shape.size() == 3),
            "the golden file holds no picture '{}'", name);
    const auto& s = tensor->shape;
    const std::size_t i = s.size() - 2;
    Planar out(i == 1 ? static_cast<int>(s[0]) : 1, static_cast<int>(s[i]),
               static_cast<int>(s[i + 1]));
    std::memcpy(out.data_(), tensor->bytes.data(), out.values() * sizeof(float));
    return out;
}

// ---- Statistics, in double ----

struct Moments {
    double mean = 0, variance = 0, skewness = 0, kurtosis = 0;  ///< kurtosis of a normal one: 3
};

inline Moments moments(const std::vector<double>& values) {
    Moments m;
    const auto n = static_cast<double>(values.size());
    for (const double v : values) m.mean += v / n;
    double third = 0, fourth = 0;
    for (const double v : values) {
        const double d = v - m.mean;
        m.variance += d * d / n;
        third += d * d * d / n;
        fourth += d * d * d * d / n;
    }
    m.skewness = third / std::pow(m.variance, 1.5);
    m.kurtosis = fourth / (m.variance * m.variance);
    return m;
}

inline double correlation(const std::vector<double>& a, const std::vector<double>& b) {
    const Moments ma = moments(a), mb = moments(b);
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - ma.mean) * (b[i] - mb.mean);
    return sum / (static_cast<double>(a.size()) * std::sqrt(ma.variance * mb.variance));
}

/// The odds that a chi-square of that many degrees of freedom is larger, by Wilson and Hilferty
/// 1931: good to 1e-3 from three degrees on, where our limits stand far in the tail anyway.
inline double chi_square_odds(double chi_square, double degrees) {
    const double spread = 2 / (9 * degrees);
    const double z = (std::cbrt(chi_square / degrees) - (1 - spread)) / std::sqrt(spread);
    return 0.5 * std::erfc(z / std::numbers::sqrt2);
}

/// Pearson's statistic as odds; cells expecting under 5 are joined with the next.
inline double counts_odds(const std::vector<double>& counts, const std::vector<double>& expected) {
    double chi_square = 0, count = 0, expect = 0;
    int cells = 0;
    double left = 0;
    for (const double e : expected) left += e;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        count += counts[i];
        expect += expected[i];
        left -= expected[i];
        if (expect < 5 || (left < 5 && i + 1 < counts.size())) continue;
        chi_square += (count - expect) * (count - expect) / expect;
        count = expect = 0;
        ++cells;
    }
    return chi_square_odds(chi_square, std::max(cells - 1, 1));
}

}  // namespace ultrasr::test
