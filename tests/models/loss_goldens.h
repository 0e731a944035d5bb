// Inputs and summaries of tests/golden/sdd_loss.json, as make_sdd_loss.py describes them.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tests/models/formula_picture.h"
#include "tests/test.h"

namespace ultrasr::test {

/// N x C x H x W of value(n, c, y, x), exact in float32.
template <class Value>
at::Tensor by_formula(at::IntArrayRef shape, const Value& value) {
    at::Tensor result = at::empty(shape);
    float* p = result.mutable_data_ptr<float>();
    for (std::int64_t n = 0; n < shape[0]; ++n) {
        for (std::int64_t c = 0; c < shape[1]; ++c) {
            for (std::int64_t y = 0; y < shape[2]; ++y) {
                for (std::int64_t x = 0; x < shape[3]; ++x) {
                    *p++ = static_cast<float>(value(n, c, y, x));
                }
            }
        }
    }
    return result;
}

/// latents() there.
struct GoldenLatents {
    at::Tensor z_s, z_t, z_h, noise, theta_hat;

    GoldenLatents() {
        const auto level = [](std::int64_t i, int a, int b, int c, int m) {
            return static_cast<double>((a * i + b * i * i + c) % m - m / 2);
        };
        const auto made = [&](const auto& value) {
            return by_formula({3, 4, 6, 5}, [&](auto n, auto c, auto y, auto x) {
                return value(n, ((n * 4 + c) * 6 + y) * 5 + x);
            });
        };
        const auto s = [&](std::int64_t i) { return level(i, 37, 5, 11, 101) / 32.0; };
        z_s = made([&](auto, auto i) { return s(i); });
        z_t = made([&](auto n, auto i) {
            return s(i) + static_cast<double>(1 + n) * level(i, 53, 3, 29, 97) / 256.0;
        });
        z_h = made([&](auto n, auto i) {
            return s(i) + static_cast<double>(3 - n) * level(i, 41, 7, 7, 89) / 64.0;
        });
        noise = made([&](auto, auto i) { return level(i, 19, 11, 3, 83) / 32.0; });
        theta_hat = by_formula({3, 1, 6, 5}, [](auto n, auto, auto y, auto x) {
            return static_cast<double>(3 * ((n * 6 + y) * 5 + x) % 33) / 32.0;
        });
    }
};

/// Of tensors, how far `found` lies from a summary: 1 is the tolerance. Elements may be off by
/// `tolerance` of the largest; their rounding errors add up in "dot" like a random walk.
inline double distance_from_golden(const at::Tensor& found, const Json& golden,
                                   double tolerance = 1e-5) {
    const at::Tensor a = found.detach().to(at::kDouble).contiguous();
    const double* p = a.const_data_ptr<double>();
    const std::int64_t n = a.numel();
    const double largest = golden.at("max");
    const auto& samples = golden.at("samples");
    CHECK(samples.size() == 12);

    double max = 0.0, dot = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
        max = std::max(max, std::abs(p[i]));
        dot += p[i] * static_cast<double>((29 * i + 7) % 31 - 15) / 15.0;
    }
    double worst = std::abs(max - largest);
    worst = std::max(
        worst, std::abs(dot - golden.at("dot").get<double>()) / std::sqrt(static_cast<double>(n)));
    for (std::int64_t k = 0; k < 12; ++k) {
        const double expected = samples.at(static_cast<std::size_t>(k));
        worst = std::max(worst, std::abs(p[(k * n / 12 + k) % n] - expected));
    }
    const double result = worst / (tolerance * largest);
    return std::isnan(max + dot) ? INFINITY : result;
}

/// Of numbers.
inline bool near_golden(const at::Tensor& found, const Json& golden, double tolerance = 1e-5) {
    const double expected = golden;
    return std::abs(found.item<double>() - expected) <= tolerance * std::abs(expected);
}

}  // namespace ultrasr::test
