// Gaussian and Poisson noise from streams that know their own pixel: any part of a field can be
// computed by anybody, in any order.
#pragma once
#include "degradation/steps/planar.h"
#include "degradation/steps/variates.h"

namespace ultrasr {

/// Adds normal noise and clamps to [0,1].
///
/// sigma   in 1/255
/// gray    one field for all channels
/// Source: degradation.md 1.7.
Planar gaussian_noise(const Planar& picture, double sigma, bool gray, const StreamKey& key);

/// The same with a given field. z: as many planes as the picture, or one that all share.
Planar gaussian_noise(const Planar& picture, double sigma, const Planar& z);

/// The field that gaussian_noise draws for a picture of that size: three planes, or one for all.
Planar normal_field(PixelSize size, bool gray, const StreamKey& key);

/// A field brought to a smaller size: means over the bins of ResizeMode::area, each times the root
/// of how many values it has, so that the variance stays 1.
///
/// throws  Error(input) when a side would grow
/// Source: degradation.md 3.4, noise2_field nested.
Planar nested_field(const Planar& field, PixelSize size);

/// The number of different 8-bit levels, over all channels or of the grey picture.
int distinct_levels(const Planar& picture, bool gray);

/// The number of photons that white stands for: the next power of two.
int poisson_vals(int distinct);

/// Adds Poisson noise and clamps to [0,1].
///
/// scale   on the deviation from the mean
/// vals    1, 2, 4 ... 256
/// Source: degradation.md 1.8.
Planar poisson_noise(const Planar& picture, double scale, bool gray, int vals,
                     const StreamKey& key);

/// The same with given counts: three planes, or one when the channels share the noise.
Planar poisson_noise(const Planar& picture, double scale, int vals, const Planar& counts);

}  // namespace ultrasr
