#include "registration/least_squares.h"

#include <cmath>
#include <cstddef>

namespace ultrasr {

std::vector<double> solve_symmetric(const std::vector<double>& a, const std::vector<double>& b,
                                    std::vector<double>* inverse) {
    const std::size_t n = b.size();
    std::vector<double> unit(n);
    std::vector<double> l(n * n, 0.0);

    // Scale to unit diagonal
    for (std::size_t i = 0; i < n; ++i) {
        const double diagonal = a[i * n + i];
        if (!(diagonal > 0) || !std::isfinite(diagonal)) return {};
        unit[i] = 1 / std::sqrt(diagonal);
    }

    // Factor by Cholesky
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j <= i; ++j) {
            double sum = a[j * n + i] * unit[i] * unit[j];
            for (std::size_t k = 0; k < j; ++k) sum -= l[i * n + k] * l[j * n + k];
            if (i == j) {
                if (!(sum > 1e-13)) return {};
                l[i * n + i] = std::sqrt(sum);
            } else {
                l[i * n + j] = sum / l[j * n + j];
            }
        }
    }

    // Substitute forwards and backwards
    const auto solve = [&](std::vector<double> x) {
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t k = 0; k < i; ++k) x[i] -= l[i * n + k] * x[k];
            x[i] /= l[i * n + i];
        }
        for (std::size_t i = n; i-- > 0;) {
            for (std::size_t k = i + 1; k < n; ++k) x[i] -= l[k * n + i] * x[k];
            x[i] /= l[i * n + i];
        }
        return x;
    };
    std::vector<double> scaled(n);
    for (std::size_t i = 0; i < n; ++i) scaled[i] = b[i] * unit[i];
    std::vector<double> x = solve(scaled);
    for (std::size_t i = 0; i < n; ++i) x[i] *= unit[i];
    if (inverse) {
        inverse->assign(n * n, 0.0);
        for (std::size_t i = 0; i < n; ++i) {
            std::vector<double> e(n, 0.0);
            e[i] = 1;
            e = solve(e);
            for (std::size_t k = 0; k < n; ++k) (*inverse)[k * n + i] = e[k] * unit[i] * unit[k];
        }
    }
    return x;
}

}  // namespace ultrasr
