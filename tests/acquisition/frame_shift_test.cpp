#include <cmath>
#include <opencv2/core.hpp>

#include "acquisition/frame_shift.h"
#include "data/base/random.h"
#include "tests/acquisition/shots.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

/// One channel of the waves, with noise of that standard deviation from 8-bit rounding upwards.
cv::Mat view(std::uint64_t seed, double dx, double dy, double noise, std::uint64_t item,
             PixelSize size = {240, 176}) {
    const Image image = test::waves(size, seed, dx, dy);
    cv::Mat mat(size.height, size.width, CV_32F);
    Rng rng(seed, 100 + item);
    for (int y = 0; y < size.height; ++y) {
        for (int x = 0; x < size.width; ++x) {
            double n = 0;  // a sum of four uniform numbers, near enough to a Gaussian
            for (int i = 0; i < 4; ++i) n += rng.uniform() - 0.5;
            mat.ptr<float>(y)[x] = image.row(y)[3 * x] + static_cast<float>(noise * 1.732 * n);
        }
    }
    return mat;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("estimate_shift: a known shift is found to 0.02 px, with noise, gain and offset") {
        for (const PixelPoint shift :
             {PixelPoint{0, 0}, PixelPoint{0.3, -0.7}, PixelPoint{0.5, 0.5}, PixelPoint{-2.25, 1.4},
              PixelPoint{11.6, -7.9}}) {
            for (std::uint64_t seed = 1; seed <= 2; ++seed) {
                const cv::Mat first = view(seed, 0, 0, 0.01, 1);
                const cv::Mat second = 0.8 * view(seed, shift.x, shift.y, 0.01, 2) + 0.07;
                const auto found = estimate_shift(first, second);
                CAPTURE(shift.x);
                CAPTURE(seed);
                REQUIRE(found.has_value());
                CHECK(std::abs(found->centre.x - shift.x) < 0.01);
                CHECK(std::abs(found->centre.y - shift.y) < 0.01);
                CHECK(std::abs(found->rms_px - std::hypot(shift.x, shift.y)) < 0.02);
                CHECK(found->sigma_px < 0.02);
                CHECK(std::abs(found->turn_deg) < 0.01);
                CHECK(found->correlation > 0.9);
            }
        }
    }

    TEST_CASE("estimate_shift: its standard error covers what it misses") {
        int outside = 0;
        for (std::uint64_t seed = 1; seed <= 12; ++seed) {
            const auto found = estimate_shift(view(seed, 0, 0, 0.05, 1, {160, 128}),
                                              view(seed, 0.4, 0.1, 0.05, 2, {160, 128}));
            REQUIRE(found.has_value());
            const double missed = std::hypot(found->centre.x - 0.4, found->centre.y - 0.1);
            outside += missed > 3 * found->sigma_px;
            CHECK(found->sigma_px < 0.1);
        }
        CHECK(outside == 0);
    }

    TEST_CASE("estimate_shift: a turn about the middle has no shift there, but an RMS") {
        const PixelSize size{240, 176};
        const cv::Mat first = view(5, 0, 0, 0, 1);
        // The waves turned by 0.05 degrees, drawn exactly
        const double turn = 0.05 * CV_PI / 180;
        const test::Waves waves(5);
        cv::Mat second(first.size(), CV_32F);
        for (int y = 0; y < size.height; ++y) {
            for (int x = 0; x < size.width; ++x) {
                const double u = x - (size.width - 1) / 2.0, v = y - (size.height - 1) / 2.0;
                const double dx = (std::cos(turn) - 1) * u + std::sin(turn) * v;
                const double dy = -std::sin(turn) * u + (std::cos(turn) - 1) * v;
                second.ptr<float>(y)[x] = static_cast<float>(waves.at(x + dx, y + dy));
            }
        }
        const auto found = estimate_shift(first, second);
        REQUIRE(found.has_value());
        CHECK(test::near(found->turn_deg, 0.05, 0.005));
        CHECK(std::hypot(found->centre.x, found->centre.y) < 0.005);
        const double radius = std::sqrt((239.0 * 239 * 14 / 12 + 175.0 * 175 * 10 / 8) / 12);
        CHECK(test::near(found->rms_px, turn * radius, 0.005));
    }

    TEST_CASE("estimate_shift: things that moved in a part of the picture do not move the result") {
        const cv::Mat first = view(2, 0, 0, 0.005, 1);
        cv::Mat second = view(2, 0.2, 0, 0.005, 2);
        view(9, 0, 0, 0, 1)(cv::Rect(0, 0, 70, 60)).copyTo(second(cv::Rect(150, 80, 70, 60)));
        const auto found = estimate_shift(first, second);
        REQUIRE(found.has_value());
        CHECK(std::abs(found->centre.x - 0.2) < 0.02);
        CHECK(std::abs(found->centre.y) < 0.02);
    }

    TEST_CASE("estimate_shift: nothing without detail, or between two different scenes") {
        CHECK_FALSE(estimate_shift(view(1, 0, 0, 0, 1), view(2, 0, 0, 0, 1)).has_value());
        const cv::Mat grey(128, 128, CV_32F, cv::Scalar(0.5));
        CHECK_FALSE(estimate_shift(grey, grey).has_value());
    }
}
