#include "acquisition/sensor.h"

#include <cmath>
#include <numeric>
#include <opencv2/core.hpp>

#include "acquisition/gaussian_noise.h"

#include "tests/test.h"

using namespace ultrasr;

namespace {

LightPlanes even_light(int rows, int columns, float light) {
    LightPlanes planes;
    for (cv::Mat& plane : planes) plane = cv::Mat(rows, columns, CV_32F, cv::Scalar(light));
    return planes;
}

struct Moments {
    double mean = 0, variance = 0;
};

Moments moments(const cv::Mat& values) {
    cv::Scalar mean, deviation;
    cv::meanStdDev(values, mean, deviation);
    return {mean[0], deviation[0] * deviation[0]};
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("normal_quantile: known values of the normal law") {
        // Abramowitz and Stegun, table 26.5
        CHECK(normal_quantile(0.5) == doctest::Approx(0).epsilon(1e-12));
        CHECK(normal_quantile(0.975) == doctest::Approx(1.959963984540054).epsilon(1e-9));
        CHECK(normal_quantile(0.001) == doctest::Approx(-3.090232306167813).epsilon(1e-9));
        CHECK(normal_quantile(0.99999) == doctest::Approx(4.264890793922602).epsilon(1e-9));
    }

    TEST_CASE("fill_gaussian: standard normal, and rows know nothing of each other") {
        constexpr std::size_t n = 200000;
        std::vector<float> one(n), two(n);
        fill_gaussian(5, 1, one);
        fill_gaussian(5, 2, two);
        double sum = 0, square = 0, fourth = 0, product = 0, neighbours = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const double v = one[i];
            sum += v;
            square += v * v;
            fourth += v * v * v * v;
            product += v * two[i];
            if (i > 0) neighbours += v * one[i - 1];
        }
        const double limit = 4 / std::sqrt(static_cast<double>(n));  // four standard errors
        CHECK(std::abs(sum / n) < limit);
        CHECK(std::abs(square / n - 1) < limit * std::sqrt(2.0));
        CHECK(std::abs(fourth / n - 3) < limit * std::sqrt(96.0));
        CHECK(std::abs(product / n) < limit);
        CHECK(std::abs(neighbours / n) < limit);
    }

    TEST_CASE("expose_: noise of variance slope x signal + floor, the same for any strips") {
        const CameraTruth camera{.size = {512, 256}, .f_px = 400};
        const Exposure exposure{
            .gain = 0.5, .noise_slope = {1e-4, 2e-4, 4e-4}, .noise_floor = 1e-6, .noise_seed = 9};
        LightPlanes whole = even_light(256, 512, 0.6F);
        expose_(whole, 0, camera, exposure);
        for (std::size_t c = 0; c < 3; ++c) {
            const Moments m = moments(whole[c]);
            const double variance = exposure.noise_slope[c] * 0.3 + 1e-6;
            const double n = 256 * 512;
            CHECK(std::abs(m.mean - 0.3) < 4 * std::sqrt(variance / n));
            CHECK(m.variance == doctest::Approx(variance).epsilon(4 * std::sqrt(2 / n)).scale(0));
        }
        LightPlanes part = even_light(40, 512, 0.6F);
        expose_(part, 100, camera, exposure);
        CHECK(cv::countNonZero(part[1] != whole[1].rowRange(100, 140)) == 0);
    }

    TEST_CASE("expose_: the vignette takes its share in the corner and nothing in the middle") {
        const CameraTruth camera{.size = {301, 201}, .f_px = 400};
        LightPlanes light = even_light(201, 301, 0.5F);
        expose_(light, 0, camera, {.gain = 1, .vignette = 0.4});
        CHECK(light[0].at<float>(100, 150) == doctest::Approx(0.5));
        const double r_squared = (150.0 * 150 + 100 * 100) / (150.5 * 150.5 + 100.5 * 100.5);
        CHECK(light[0].at<float>(0, 0) == doctest::Approx(0.5 * (1 - 0.4 * r_squared)));
    }

    TEST_CASE("ToneCurve: without a look it is sRGB's, and its table follows the exact one") {
        const PictureLook plain;
        CHECK(ToneCurve::exact(plain, 0.2140411) == doctest::Approx(0.5).epsilon(1e-6));
        CHECK(ToneCurve::exact(plain, 1.7) == doctest::Approx(1));
        for (const PictureLook& look : {plain, PictureLook{.tone_exponent = 0.88, .s_curve = 0.25},
                                        PictureLook{.tone_exponent = 1.12, .s_curve = 0.05}}) {
            const ToneCurve curve(look);
            std::vector<float> light(4001), coded(4001);
            for (std::size_t i = 0; i < light.size(); ++i) {
                light[i] = static_cast<float>(std::pow(static_cast<double>(i) / 4000, 2.5));
            }
            curve.apply(light.data(), coded.data(), 4001);
            double worst = 0;
            bool rising = true;
            for (std::size_t i = 0; i < light.size(); ++i) {
                worst = std::max(worst, std::abs(coded[i] - ToneCurve::exact(look, light[i])));
                rising = rising && (i == 0 || coded[i] >= coded[i - 1]);
            }
            CHECK(worst < 1e-4);
            CHECK(rising);
        }
    }

    TEST_CASE("develop_8bit: even light becomes its coded level; sharpening leaves it alone") {
        const PictureLook look{.white_balance = {1.1, 1, 0.9}, .sharpening = 0.5};
        const cv::Mat rgb = develop_8bit(even_light(10, 24, 0.3F), look, ToneCurve(look));
        REQUIRE(rgb.rows == 10 - 2 * sharpening_reach);
        for (int c = 0; c < 3; ++c) {
            const auto channel = static_cast<std::size_t>(c);
            const double light = 0.3F * look.white_balance[channel];
            const int level = static_cast<int>(std::lround(255 * ToneCurve::exact(look, light)));
            for (int y = 0; y < rgb.rows; ++y) {
                for (int x = 0; x < rgb.cols; ++x) CHECK(rgb.at<cv::Vec3b>(y, x)[c] == level);
            }
        }
    }

    TEST_CASE("develop_8bit: sharpening steepens an edge, by the same on all channels") {
        LightPlanes light = even_light(20, 40, 0.1F);
        for (cv::Mat& plane : light) plane.colRange(20, 40) = cv::Scalar(0.4);
        PictureLook look;
        const cv::Mat soft = develop_8bit(light, look, ToneCurve(look));
        look.sharpening = 0.5;
        const cv::Mat sharp = develop_8bit(light, look, ToneCurve(look));
        for (int c = 0; c < 3; ++c) {
            CHECK(sharp.at<cv::Vec3b>(5, 19)[c] < soft.at<cv::Vec3b>(5, 19)[c] - 5);
            CHECK(sharp.at<cv::Vec3b>(5, 20)[c] > soft.at<cv::Vec3b>(5, 20)[c] + 5);
            CHECK(sharp.at<cv::Vec3b>(5, 10)[c] == soft.at<cv::Vec3b>(5, 10)[c]);
        }
    }
}
