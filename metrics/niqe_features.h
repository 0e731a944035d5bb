// What NIQE measures on a picture: locally normalised luma and the shape of its distribution.
#pragma once
#include <array>
#include <cstdint>

#include "metrics/metric.h"
#include "metrics/plane.h"

namespace ultrasr {

/// Side of a block in pixels; half of it at the second scale.
inline constexpr int niqe_block = 96;

/// alpha, (bl + br) / 2 of the block, then alpha, mean, bl, br of four products of neighbours.
using BlockFeatures = std::array<double, 18>;

/// What the fit needs to know of an array v. Zeros are neither negative nor positive.
struct SignedMoments {
    std::int64_t samples = 0;
    std::int64_t negatives = 0;
    std::int64_t positives = 0;
    double negative_squares = 0.0;  ///< sum of v^2 over v < 0
    double positive_squares = 0.0;  ///< sum of v^2 over v > 0
    double absolute = 0.0;          ///< sum of |v|
};

/// An asymmetric generalised Gaussian distribution.
struct Aggd {
    double alpha = 0.0;  ///< shape, one of 0.2, 0.201 ... 10
    double left = 0.0;   ///< scale bl of the negative side; NaN without negative samples
    double right = 0.0;  ///< scale br of the positive side; NaN without positive samples
    double mean = 0.0;   ///< (br - bl) Gamma(2 / alpha) / Gamma(1 / alpha)
};

/// Fits by moments. Without negative or without positive samples alpha is 0.2, a number.
/// Source: Mittal, Soundararajan, Bovik, "Making a completely blind image quality analyzer",
/// IEEE SPL 2013, eq. 4 to 8 (the fit of Lasmar et al. 2009); metrics.md 6.5.
Aggd fit_aggd(const SignedMoments& moments);

/// (I - mu) / (sd + 1) of `rows` rows from row y on, with a 7 x 7 Gaussian over the whole plane,
/// edges repeated.
///
/// The window is rounded to float32 as in the reference: it sums to 1 + 1.135e-8, which makes
/// flat areas a constant of one sign. metrics.md 6.3.
Plane<double> locally_normalised(const Plane<float>& luma, int y, int rows);
Plane<double> locally_normalised(const Plane<double>& luma, int y, int rows);

/// Half the size by the antialiased Keys cubic (a = -0.5), edges mirrored with the edge repeated.
///
/// luma     whole numbers in [0, 255], both sides even
/// returns  in [0, 255] times overshoot, neither rounded nor clipped. The arithmetic is float32
///          on values / 255; `profile` decides the order of the sums. metrics.md 6.4
Plane<double> half_size(const Plane<float>& luma, Profile profile);

/// Features of the square block of `normalised` whose upper left corner is (x, y).
/// Neighbours are taken circularly inside the block. `side` is a multiple of 4.
BlockFeatures block_features(const Plane<double>& normalised, int x, int y, int side);

}  // namespace ultrasr
