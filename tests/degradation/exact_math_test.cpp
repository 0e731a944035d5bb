// Our elementary functions against the platform's in higher precision.
#include "degradation/steps/exact_math.h"

#include <cmath>
#include <limits>
#include <numbers>

#include "data/base/random.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

double relative(double ours, long double wanted) {
    return static_cast<double>(std::abs((ours - wanted) / wanted));
}
double absolute(double ours, long double wanted) {
    return static_cast<double>(std::abs(ours - wanted));
}

TEST_SUITE("unit") {
    TEST_CASE("exp: known values and both ends") {
        CHECK(exact::exp(0) == 1);
        CHECK(std::abs(exact::exp(1) - std::numbers::e) < 1e-15);
        CHECK(exact::exp(-745.5) == 0);
        CHECK(exact::exp(-1e300) == 0);
        CHECK(relative(exact::exp(700), std::exp(700.0L)) < 2e-15);
    }

    TEST_CASE("pow: 0 to a power, and exact small ones") {
        CHECK(exact::pow(0, 0.5) == 0);
        CHECK(exact::pow(0, 0) == 1);
        CHECK(std::abs(exact::pow(2, 0.5) - std::numbers::sqrt2) < 1e-15);
        CHECK(exact::pow(1, 3.7) == 1);
    }

    TEST_CASE("bessel_j1: tabulated values (Abramowitz and Stegun, table 9.1)") {
        CHECK(exact::bessel_j1(0) == 0);
        CHECK(std::abs(exact::bessel_j1(1) - 0.4400505857449335) < 1e-14);
        CHECK(std::abs(exact::bessel_j1(10) - 0.0434727461688614) < 1e-14);
        CHECK(std::abs(exact::bessel_j1(3.831705970207512)) < 1e-14);  // its first zero
        CHECK(exact::bessel_j1(1e-8) == doctest::Approx(5e-9).epsilon(1e-15));
    }
}

TEST_SUITE("property") {
    TEST_CASE("exp, log, pow, sin, cos: the errors that the header promises") {
        Rng rng(1, 0);
        double e = 0, l = 0, p = 0, s = 0, c = 0;
        for (int i = 0; i < 20000; ++i) {
            const double x = 1400 * rng.uniform() - 700;
            e = std::max(e, relative(exact::exp(x), std::exp(static_cast<long double>(x))));
            const double y = std::exp(x);
            const long double log = std::log(static_cast<long double>(y));
            l = std::max(l, absolute(exact::log(y), log) / static_cast<double>(1 + std::abs(log)));
            const double base = 1000 * rng.uniform(), power = 0.2 + 5 * rng.uniform();
            p = std::max(p, relative(exact::pow(base, power),
                                     std::pow(static_cast<long double>(base), power)));
            const double angle = i % 2 == 0 ? 20 * rng.uniform() - 10 : 2e5 * rng.uniform() - 1e5;
            const double scale = 1 + std::abs(angle);
            s = std::max(
                s, absolute(exact::sin(angle), std::sin(static_cast<long double>(angle))) / scale);
            c = std::max(
                c, absolute(exact::cos(angle), std::cos(static_cast<long double>(angle))) / scale);
        }
        CHECK(e < 1e-15);
        CHECK(l < 1e-15);
        CHECK(p < 1e-13);
        CHECK(s < 1e-15);
        CHECK(c < 1e-15);
    }

    TEST_CASE("bessel_j1: within 1e-14 up to what a kernel of 81 asks for") {
        double largest = 0;
        for (int i = 1; i <= 4000; ++i) {
            const double x = 180.0 * i / 4000 * (i % 3 == 0 ? 1e-3 : 1);
            const long double wanted = std::cyl_bessel_j(1.0L, static_cast<long double>(x));
            largest = std::max(largest, absolute(exact::bessel_j1(x), wanted));
        }
        CHECK(largest < 1e-14);
    }
}

}  // namespace
}  // namespace ultrasr
