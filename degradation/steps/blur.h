// Blur and unsharp masking of planar pictures on the CPU.
#pragma once
#include "degradation/steps/blur_kernel.h"
#include "degradation/steps/planar.h"

namespace ultrasr {

/// Correlates every plane with the kernel, edges reflected without repetition (as often as a small
/// picture needs). Values are not clamped.
///
/// Source: degradation.md 1.4; BasicSR filter2D.
Planar blur(const Planar& picture, const BlurKernel& kernel);

/// Unsharp masking: adds `weight` of the residual of a Gaussian where it exceeds the threshold, the
/// mask softened by the same Gaussian.
struct UsmOptions {
    double weight = 0.5;
    int radius = 50;        ///< taps of the Gaussian, made odd by adding one; sigma follows from it
    double threshold = 10;  ///< of 255 times the residual
};

/// Source: degradation.md 1.5; BasicSR USMSharp. throws Error(input) for a radius outside 1 ...
/// 200.
Planar usm_sharpen(const Planar& picture, const UsmOptions& options = {});

/// The right half of USM's Gaussian: the middle tap first. For the twin on the GPU.
std::vector<float> usm_taps(int radius);

}  // namespace ultrasr
