// Small symmetric systems: what normal equations come to.
#pragma once
#include <vector>

namespace ultrasr {

/// Solves A x = b for symmetric positive definite A, scaled to unit diagonal first.
///
/// a        n x n, row by row; the upper triangle is read
/// inverse  receives A^-1 when not null
/// returns  x; empty when A is not positive definite (to 1e-13 of its scaled diagonal)
std::vector<double> solve_symmetric(const std::vector<double>& a, const std::vector<double>& b,
                                    std::vector<double>* inverse = nullptr);

/// Tukey's biweight: (1 - (r / limit)^2)^2 inside the limit, else 0.
inline double tukey_weight(double residual, double limit) {
    const double u = residual / limit;
    const double v = 1 - u * u;
    return v > 0 ? v * v : 0;
}

}  // namespace ultrasr
