// Curves that are straight between knots, as parts of normal equations.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace ultrasr {

/// The piece that v lies in: the index of its first knot; the outer pieces reach on for ever.
///
/// knots  ascending, two or more
template <class Number>
std::size_t piece_of(const std::vector<Number>& knots, Number v) {
    const auto at = std::upper_bound(knots.begin(), knots.end(), v) - knots.begin() - 1;
    return static_cast<std::size_t>(
        std::clamp<std::ptrdiff_t>(at, 0, static_cast<std::ptrdiff_t>(knots.size()) - 2));
}

/// Sum of the first `count` diagonal entries of a matrix of n rows.
inline double diagonal_sum(const std::vector<double>& a, std::size_t n, std::size_t count) {
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += a[i * n + i];
    return sum;
}

/// Lets each inner knot lean on the straight line through its neighbours, so that one without data
/// nearby has a value and neighbouring slopes are alike.
///
/// a, b        normal equations (upper triangle); their first unknowns are the knots' values
/// smoothness  weight of the squared bends, of the mean diagonal entry of the knots
/// values      empty, or the values that the unknowns correct: their bends are then counted too
template <class Number>
void add_smoothness_(std::vector<double>& a, std::vector<double>& b,
                     const std::vector<Number>& knots, double smoothness,
                     const std::vector<double>& values = {}) {
    const std::size_t n = b.size();
    const double ridge =
        smoothness * diagonal_sum(a, n, knots.size()) / static_cast<double>(knots.size());
    for (std::size_t i = 1; i + 1 < knots.size(); ++i) {
        const auto share =
            static_cast<double>((knots[i] - knots[i - 1]) / (knots[i + 1] - knots[i - 1]));
        const std::array<double, 3> line{-(1 - share), 1, -share};
        double bend = 0;
        for (std::size_t p = 0; p < 3 && !values.empty(); ++p) bend += line[p] * values[i - 1 + p];
        for (std::size_t p = 0; p < 3; ++p) {
            b[i - 1 + p] -= ridge * line[p] * bend;
            for (std::size_t q = p; q < 3; ++q) {
                a[(i - 1 + p) * n + i - 1 + q] += ridge * line[p] * line[q];
            }
        }
    }
}

}  // namespace ultrasr
