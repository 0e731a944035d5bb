// Elementary functions out of +, -, *, / and square roots alone: the same bits wherever IEEE 754
// holds, which no two platforms' libm promise of each other.
#pragma once

namespace ultrasr::exact {

double exp(double x);            ///< relative error below 1e-15 for |x| < 700; 0 below -745
double log(double x);            ///< x > 0; error below 1e-15 (1 + |log x|)
double pow(double x, double y);  ///< x >= 0; 0^y = 0 for y > 0; relative error below 1e-13
double sin(double x);            ///< |x| < 1e5, absolute error below 1e-15 (1 + |x|)
double cos(double x);

/// Bessel function of the first kind and order one, x >= 0; absolute error below 1e-14.
/// Source: Abramowitz and Stegun 9.12 (Miller's recurrence), normalised by 9.1.46.
double bessel_j1(double x);

}  // namespace ultrasr::exact
