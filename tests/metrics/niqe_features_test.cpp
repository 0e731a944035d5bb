#include "metrics/niqe_features.h"

#include <cmath>
#include <vector>

#include "metrics/luma.h"
#include "metrics/niqe_parameters.h"
#include "tests/metrics/pictures.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

SignedMoments moments_of(const std::vector<double>& values) {
    SignedMoments m;
    for (const double v : values) {
        ++m.samples;
        m.negatives += v < 0.0;
        m.positives += v > 0.0;
        (v < 0.0 ? m.negative_squares : m.positive_squares) += v * v;
        m.absolute += std::abs(v);
    }
    return m;
}

/// Moments of an asymmetric generalised Gaussian, integrated by the midpoint rule.
SignedMoments moments_of_density(double alpha, double left, double right) {
    SignedMoments m;
    double weight = 0.0;
    for (int i = 0; i < 400000; ++i) {
        const double v = (i + 0.5) * 1e-4 * 10.0 - 200.0;
        const double p = std::exp(-std::pow(std::abs(v) / (v < 0.0 ? left : right), alpha));
        weight += p;
        (v < 0.0 ? m.negative_squares : m.positive_squares) += p * v * v;
        m.absolute += p * std::abs(v);
    }
    // Counts in the proportion of the two sides' areas, left : right
    m.samples = 1000000000;
    m.negatives = std::llround(1e9 * left / (left + right));
    m.positives = m.samples - m.negatives;
    for (double* sum : {&m.negative_squares, &m.positive_squares, &m.absolute}) {
        *sum *= 1e9 / weight;
    }
    return m;
}

TEST_SUITE("unit") {
    TEST_CASE("fit_aggd: recovers the parameters of a distribution") {
        struct Truth {
            double alpha, left, right;
        };
        for (const auto& [alpha, left, right] : {Truth{2.0, 1.0, 1.0}, Truth{1.0, 0.5, 0.8},
                                                 Truth{0.7, 0.9, 0.4}, Truth{5.0, 2.0, 3.0}}) {
            CAPTURE(alpha);
            const Aggd fit = fit_aggd(moments_of_density(alpha, left, right));
            // Half a step of the table and the midpoint rule's error
            CHECK(std::abs(fit.alpha - alpha) <= 2e-3);
            CHECK(fit.left == doctest::Approx(left).epsilon(3e-3));
            CHECK(fit.right == doctest::Approx(right).epsilon(3e-3));
            CHECK(fit.mean == doctest::Approx((right - left) * std::tgamma(2.0 / alpha) /
                                              std::tgamma(1.0 / alpha))
                                  .epsilon(2e-2));
        }
    }

    TEST_CASE("fit_aggd: the shape is the table's nearest, from 0.2 to 10 by 0.001 in float32") {
        // Two values of equal size: the flattest distribution there is, beyond the table's end
        CHECK(fit_aggd(moments_of({-1.0, 1.0})).alpha == double{10.0F});
        // One far from all others: the most peaked
        std::vector<double> peaked(100000, 1e-9);
        peaked[0] = 1.0;
        peaked[1] = -1.0;
        CHECK(fit_aggd(moments_of(peaked)).alpha == double{0.2F});
        const double alpha = fit_aggd(moments_of_density(2.0, 1.0, 1.0)).alpha;
        CHECK(alpha == double{static_cast<float>(alpha)});
    }

    TEST_CASE("fit_aggd: without samples on one side the shape is 0.2 and that side NaN") {
        const Aggd positive = fit_aggd(moments_of({1.0, 2.0, 3.0}));
        CHECK(positive.alpha == double{0.2F});
        CHECK(std::isnan(positive.left));
        CHECK(std::isfinite(positive.right));
        CHECK(std::isnan(positive.mean));
        const Aggd zero = fit_aggd(moments_of({0.0, 0.0}));
        CHECK(zero.alpha == double{0.2F});
        CHECK(std::isnan(zero.left));
        CHECK(std::isnan(zero.right));
    }

    TEST_CASE("locally_normalised: flat areas become a constant of one sign") {
        // The float32 window sums to 1 + 1.135e-8: M = -1.135e-8 c / (sd + 1)
        for (const float level : {1.0F, 90.0F, 255.0F}) {
            Plane<float> plane(40, 30);
            for (int y = 0; y < 30; ++y) std::fill_n(plane.row_(y), 40, level);
            const Plane<double> m = locally_normalised(plane, 0, 30);
            const double excess = 1.135e-8;
            const double sd = level * std::sqrt(excess);
            for (int y = 0; y < 30; ++y) {
                for (int x = 0; x < 40; ++x) {
                    CHECK(m.row(y)[x] ==
                          doctest::Approx(-excess * level / (sd + 1.0)).epsilon(2e-3));
                }
            }
        }
    }

    TEST_CASE("locally_normalised: 49 taps, edges repeated, rows anywhere") {
        const auto pair = test::picture("texture", {37, 29});
        const Plane<float> luma = rounded_luma(pair.sr, Luma::yiq, Profile::cuda);
        double weights[7][7];
        double sum = 0.0;
        for (int i = 0; i < 7; ++i) {
            for (int j = 0; j < 7; ++j) {
                weights[i][j] = std::exp(-((i - 3) * (i - 3) + (j - 3) * (j - 3)) /
                                         (2.0 * (7.0 / 6.0) * (7.0 / 6.0)));
                sum += weights[i][j];
            }
        }
        const Plane<double> whole = locally_normalised(luma, 0, 29);
        const Plane<double> part = locally_normalised(luma, 11, 9);
        for (int y = 0; y < 29; ++y) {
            for (int x = 0; x < 37; ++x) {
                double mu = 0.0, square = 0.0;
                for (int i = 0; i < 7; ++i) {
                    for (int j = 0; j < 7; ++j) {
                        const double w = static_cast<float>(weights[i][j] / sum);
                        const double v =
                            luma.row(std::clamp(y + i - 3, 0, 28))[std::clamp(x + j - 3, 0, 36)];
                        mu += w * v;
                        square += w * v * v;
                    }
                }
                const double sd = std::sqrt(std::abs(square - mu * mu) + 2.22e-16);
                // Rounding of sums of 49
                CHECK(std::abs(whole.row(y)[x] - (luma.row(y)[x] - mu) / (sd + 1.0)) < 1e-11);
                if (y >= 11 && y < 20) CHECK(part.row(y - 11)[x] == whole.row(y)[x]);
            }
        }
    }

    TEST_CASE("half_size: the ten weights, edges mirrored with the edge repeated") {
        const double w[10] = {0.0,        -0.01171875, -0.03515625, 0.11328125,  0.43359375,
                              0.43359375, 0.11328125,  -0.03515625, -0.01171875, 0.0};
        const auto pair = test::picture("texture", {24, 16});
        const Plane<float> luma = rounded_luma(pair.sr, Luma::yiq, Profile::cuda);
        const auto mirrored = [](int i, int n) {
            return i < 0 ? -1 - i : i >= n ? 2 * n - 1 - i : i;
        };
        for (const Profile profile : {Profile::cuda, Profile::cpu}) {
            const Plane<double> half = half_size(luma, profile);
            REQUIRE(half.width() == 12);
            REQUIRE(half.height() == 8);
            for (int y = 0; y < 8; ++y) {
                for (int x = 0; x < 12; ++x) {
                    double expected = 0.0;
                    for (int i = 0; i < 10; ++i) {
                        for (int j = 0; j < 10; ++j) {
                            expected +=
                                w[i] * w[j] *
                                luma.row(mirrored(2 * y - 4 + i, 16))[mirrored(2 * x - 4 + j, 24)];
                        }
                    }
                    // float32 arithmetic on values / 255
                    CHECK(std::abs(half.row(y)[x] - expected) < 1e-4);
                }
            }
        }
    }

    TEST_CASE("half_size: cuda adds four interleaved partial sums, cpu runs through") {
        Plane<float> luma(20, 20);
        for (int y = 0; y < 20; ++y) {
            for (int x = 0; x < 20; ++x) {
                luma.row_(y)[x] = static_cast<float>(test::hash32(x, y, 7) % 256U);
            }
        }
        const float w[10] = {0.0F,        -0.01171875F, -0.03515625F, 0.11328125F,  0.43359375F,
                             0.43359375F, 0.11328125F,  -0.03515625F, -0.01171875F, 0.0F};
        const auto sum = [&](const std::vector<float>& v, Profile profile) {
            volatile float p[4] = {0.0F, 0.0F, 0.0F, 0.0F};  // volatile: no fusing, no reordering
            volatile float running = 0.0F;
            for (int k = 0; k < 10; ++k) {
                const volatile float product = w[k] * v[static_cast<unsigned>(k)];
                p[k % 4] = p[k % 4] + product;
                running = running + product;
            }
            const volatile float two = p[0] + p[1];
            const volatile float three = two + p[2];
            return profile == Profile::cuda ? float{three + p[3]} : float{running};
        };
        int different = 0;
        const Plane<double> cuda = half_size(luma, Profile::cuda);
        const Plane<double> cpu = half_size(luma, Profile::cpu);
        for (const Profile profile : {Profile::cuda, Profile::cpu}) {
            const Plane<double>& half = profile == Profile::cuda ? cuda : cpu;
            for (int y = 2; y < 7; ++y) {
                for (int x = 2; x < 7; ++x) {
                    std::vector<float> row;
                    for (int j = 0; j < 10; ++j) {
                        std::vector<float> column;
                        for (int i = 0; i < 10; ++i) {
                            column.push_back(luma.row(2 * y - 4 + i)[2 * x - 4 + j] / 255.0F);
                        }
                        row.push_back(sum(column, profile));
                    }
                    CHECK(half.row(y)[x] == 255.0 * double{sum(row, profile)});
                    different += cuda.row(y)[x] != cpu.row(y)[x];
                }
            }
        }
        CHECK(different > 4);
    }

    TEST_CASE("block_features: neighbours are taken circularly inside the block") {
        Plane<double> m(30, 20);
        for (int y = 0; y < 20; ++y) {
            for (int x = 0; x < 30; ++x) {
                m.row_(y)[x] = static_cast<double>(test::hash32(x, y, 9) % 2001U) / 1000.0 - 1.0;
            }
        }
        const int x0 = 7, y0 = 3, side = 12;
        const BlockFeatures features = block_features(m, x0, y0, side);
        const auto at = [&](int y, int x) {
            return m.row(y0 + (y + side) % side)[x0 + (x + side) % side];
        };
        std::vector<double> own;
        for (int i = 0; i < side * side; ++i) own.push_back(at(i / side, i % side));
        const Aggd shape = fit_aggd(moments_of(own));
        CHECK(features[0] == shape.alpha);
        CHECK(features[1] == doctest::Approx((shape.left + shape.right) / 2.0).epsilon(1e-12));
        const int shifts[4][2] = {{0, 1}, {1, 0}, {1, 1}, {1, -1}};
        for (std::size_t s = 0; s < 4; ++s) {
            CAPTURE(s);
            std::vector<double> products;
            for (int i = 0; i < side * side; ++i) {
                const int y = i / side, x = i % side;
                products.push_back(at(y, x) * at(y - shifts[s][0], x - shifts[s][1]));
            }
            const Aggd fit = fit_aggd(moments_of(products));
            CHECK(features[2 + 4 * s] == fit.alpha);
            CHECK(features[3 + 4 * s] == doctest::Approx(fit.mean).epsilon(1e-9));
            CHECK(features[4 + 4 * s] == doctest::Approx(fit.left).epsilon(1e-12));
            CHECK(features[5 + 4 * s] == doctest::Approx(fit.right).epsilon(1e-12));
        }
    }

    TEST_CASE("niqe parameters: symmetric, and the sums of the file they come from") {
        double mean_sum = 0.0, trace = 0.0;
        for (std::size_t i = 0; i < niqe_features; ++i) {
            mean_sum += niqe_mean[i];
            trace += niqe_covariance[i][i];
            for (std::size_t j = 0; j < i; ++j) {
                CHECK(niqe_covariance[i][j] == niqe_covariance[j][i]);
            }
        }
        CHECK(mean_sum == doctest::Approx(17.32876552816881).epsilon(1e-14));
        CHECK(trace == doctest::Approx(1.6309188316421013).epsilon(1e-14));
    }
}

}  // namespace
}  // namespace ultrasr
