// The steps of BSRGAN's family that Real-ESRGAN's has not.
#pragma once
#include <array>

#include "degradation/steps/steps.h"

namespace ultrasr {

/// Normal noise of three channels that are mixed: channel i gets the sum of mixing[i][j] z_j. With
/// `multiplied` it is scaled by the picture (speckle). Clamps to [0,1] before (speckle) and after.
struct MixedNoiseStep : Step {
    std::array<std::array<double, 3>, 3> mixing{};  ///< in [0,1] values
    bool gray = false;                              ///< z_0 for all channels
    bool multiplied = false;
    FieldName field;

    Planar apply(Planar picture, StepContext& context) const override;
    Json params() const override;
};

/// Poisson noise of any number of photons on 8-bit levels.
struct PhotonNoiseStep : Step {
    double vals = 1000;  ///< photons at white, 1 to 20000
    bool gray = false;
    FieldName field;

    Planar apply(Planar picture, StepContext& context) const override;
    Json params() const override;
};

/// A Gaussian of 25 taps moved by half a step, and every s-th pixel.
struct ShiftedDownsampleStep : Step {
    double sigma = 1;
    int scale = 2;

    Planar apply(Planar picture, StepContext& context) const override;
    Json params() const override;
};

/// The mixing matrix of noise with covariance |strength^2 U^T diag(d) U|, element by element, where
/// U's columns are the left singular vectors of `a`, largest value first; eigenvalues by their
/// magnitude, as numpy.random.multivariate_normal takes them. Source: BSRGAN's add_Gaussian_noise.
std::array<std::array<double, 3>, 3> correlated_mixing(const std::array<double, 3>& d,
                                                       const std::array<double, 9>& a,
                                                       double strength);

}  // namespace ultrasr
