// The natural pictures that NIQE compares with: mean and covariance of their features.
#pragma once
#include <array>

namespace ultrasr {

inline constexpr int niqe_features = 36;  ///< 18 at each of two scales

/// Mean of the features of pristine pictures.
extern const std::array<double, niqe_features> niqe_mean;

/// Their covariance, symmetric and positive definite.
extern const std::array<std::array<double, niqe_features>, niqe_features> niqe_covariance;

}  // namespace ultrasr
