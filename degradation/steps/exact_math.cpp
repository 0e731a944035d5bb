#include "degradation/steps/exact_math.h"

#include <cmath>  // sqrt, ldexp, frexp, floor: exact by IEEE 754

namespace ultrasr::exact {
namespace {

// Parts of a constant, so that n times the first is exact for small n
constexpr double ln2_high = 0x1.62e42fefap-1, ln2_low = 0x1.cf79abc9e3b39p-40;
constexpr double half_pi_high = 0x1.921fb544p+0, half_pi_low = 0x1.0b4611a626331p-34;

/// sin and cos of |x| <= pi / 4 by their Taylor series.
double small_sin(double x) {
    const double q = x * x;
    double term = x, sum = 0;
    for (int k = 19; k >= 3; k -= 2) {  // Horner, from the smallest term
        sum = -q / (k * (k - 1)) * (1 + sum);
    }
    return term + term * sum;
}
double small_cos(double x) {
    const double q = x * x;
    double sum = 0;
    for (int k = 20; k >= 2; k -= 2) sum = -q / (k * (k - 1)) * (1 + sum);
    return 1 + sum;
}

/// x less a whole number of quarter turns, which is counted in `quarter`.
double reduced(double x, int& quarter) {
    const double n = std::floor(x * (2 / 3.14159265358979323846) + 0.5);
    quarter = static_cast<int>(static_cast<long long>(n) & 3);
    return (x - n * half_pi_high) - n * half_pi_low;
}

}  // namespace

double exp(double x) {
    if (x < -745) return 0;
    const double n = std::floor(x * 1.4426950408889634 + 0.5);
    const double r = (x - n * ln2_high) - n * ln2_low;  // |r| <= 0.35
    double sum = 0;
    for (int k = 16; k >= 1; --k) sum = r / k * (1 + sum);
    return std::ldexp(1 + sum, static_cast<int>(n));
}

double log(double x) {
    int exponent = 0;
    double m = std::frexp(x, &exponent);  // [0.5, 1)
    if (m < 0.70710678118654752) {
        m *= 2;
        --exponent;
    }
    // log m = 2 artanh z
    const double z = (m - 1) / (m + 1), q = z * z;
    double sum = 0;
    for (int k = 23; k >= 3; k -= 2) sum = q * (1.0 / k + sum);
    return exponent * ln2_high + (2 * z * (1 + sum) + exponent * ln2_low);
}

double pow(double x, double y) {
    if (x == 0) return y == 0 ? 1 : 0;
    return exact::exp(y * exact::log(x));
}

double sin(double x) {
    int quarter = 0;
    const double r = reduced(x, quarter);
    const double value = quarter % 2 == 0 ? small_sin(r) : small_cos(r);
    return quarter < 2 ? value : -value;
}

double cos(double x) {
    int quarter = 0;
    const double r = reduced(x, quarter);
    const double value = quarter % 2 == 0 ? small_cos(r) : small_sin(r);
    return quarter == 0 || quarter == 3 ? value : -value;
}

double bessel_j1(double x) {
    if (x == 0) return 0;
    if (x < 1e-3) {  // the recurrence would overflow
        const double q = x * x / 4;
        return x / 2 * (1 - q / 2 * (1 - q / 6));
    }
    // Downwards from an order where J is as good as 0: J(n-1) = 2 n / x J(n) - J(n+1)
    const int start = 2 * (static_cast<int>(x) / 2 + 20 + static_cast<int>(std::sqrt(60 * x)) / 2);
    double above = 0, here = 1e-250, one = 0, norm = 0;
    for (int n = start; n >= 1; --n) {
        if (n % 2 == 0) norm += 2 * here;  // 1 = J0 + 2 J2 + 2 J4 + ...
        if (n == 1) one = here;
        const double below = 2 * n / x * here - above;
        above = here;
        here = below;
        if (here > 1e200 || here < -1e200) {
            above *= 1e-200;
            here *= 1e-200;
            norm *= 1e-200;
        }
    }
    return one / (norm + here);
}

}  // namespace ultrasr::exact
