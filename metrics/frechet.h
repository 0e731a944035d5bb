// The Frechet distance between two Gaussians fitted to rows of features.
#pragma once
#include <cstddef>
#include <span>
#include <vector>

namespace ultrasr {

/// Mean and covariance (N - 1) of N rows, in double.
struct FeatureStatistics {
    std::vector<double> mean;        ///< [features]
    std::vector<double> covariance;  ///< [features, features], row-major
    std::size_t count = 0;           ///< N
};

/// rows      N x features, row-major; N >= 2
/// throws    Error(input) when there are fewer than two rows
FeatureStatistics statistics_of(std::span<const float> rows, std::size_t features);

/// |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), by one of three equal ways (metrics.md 5.8):
///
/// From rows, where tr (S1 S2)^(1/2) is the sum of the singular values of A B^T, A and B the
/// centred rows over sqrt(N - 1): an N1 x N2 matrix. For sets no larger than `features`.
double frechet_distance_of_rows(std::span<const float> a, std::span<const float> b,
                                std::size_t features);

/// From rows and statistics: the roots of the eigenvalues of A S2 A^T, an N1 x N1 matrix.
double frechet_distance_of_rows(std::span<const float> a, const FeatureStatistics& b);

/// From statistics: the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), both symmetric.
double frechet_distance(const FeatureStatistics& a, const FeatureStatistics& b);

}  // namespace ultrasr
