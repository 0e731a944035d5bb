#include "data/color.h"

#include <cmath>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "tests/test.h"

using namespace ultrasr;

TEST_SUITE("unit") {
    TEST_CASE("sRGB: values of IEC 61966-2-1") {
        CHECK(srgb_to_linear(0.04045) == doctest::Approx(0.04045 / 12.92));
        CHECK(srgb_to_linear(0.5) == doctest::Approx(0.21404114048));
        CHECK(linear_to_srgb(0.21404114048) == doctest::Approx(0.5));
        CHECK(linear_to_srgb(1) == doctest::Approx(1));
    }

    TEST_CASE("encode_srgb: the fast curve within 1e-6, also at its joint") {
        double worst = 0;
        for (int i = 0; i <= 100000; ++i) {
            const double light = std::pow(i / 100000.0, 2);
            worst = std::max(worst,
                             std::abs(static_cast<double>(encode_srgb(static_cast<float>(light))) -
                                      linear_to_srgb(light)));
        }
        CHECK(worst < 1e-6);
        CHECK(encode_srgb(-0.1F) == 0);
        CHECK(encode_srgb(1.7F) == 1);
        CHECK(encode_srgb(std::nanf("")) == 0);
    }

    TEST_CASE("encode_srgb, linear_part: every 8-bit and 16-bit level comes back") {
        cv::Mat levels(1, 256, CV_8UC3);
        for (int i = 0; i < 256; ++i)
            levels.at<cv::Vec3b>(0, i) = cv::Vec3b::all(static_cast<unsigned char>(i));
        const Frame frame{levels, Encoding::srgb};
        CHECK(cv::norm(encode_srgb(linear_part(frame, {0, 0, 256, 1}), 8), levels, cv::NORM_INF) ==
              0);
        CHECK(cv::norm(encoded_part(frame, {16, 0, 3, 1}, 8), levels.colRange(16, 19),
                       cv::NORM_INF) == 0);
        Frame deep{cv::Mat(1, 3, CV_16UC3), Encoding::linear};
        deep.rgb.at<cv::Vec3w>(0, 0) = {0, 65535, 14027};  // 0.21404 of full scale
        const cv::Mat coded = encoded_part(deep, {0, 0, 1, 1}, 16);
        CHECK(coded.at<cv::Vec3w>(0, 0)[0] == 0);
        CHECK(coded.at<cv::Vec3w>(0, 0)[1] == 65535);
        CHECK(coded.at<cv::Vec3w>(0, 0)[2] == doctest::Approx(32767).epsilon(2e-4));
        CHECK_THROWS_AS(linear_part(frame, {250, 0, 7, 1}), Error);
    }
}
