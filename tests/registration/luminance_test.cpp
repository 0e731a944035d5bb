#include "registration/luminance.h"

#include <tbb/global_control.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <opencv2/core.hpp>

#include "data/base/random.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

Frame noise_frame(int width, int height, std::uint64_t seed) {
    Frame frame{cv::Mat(height, width, CV_8UC3), Encoding::srgb};
    Rng rng(seed, 0);
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < 3 * width; ++x)
            frame.rgb.ptr(y)[x] = static_cast<unsigned char>(rng.below(256));
    }
    return frame;
}

double mean_of(const cv::Mat& m) { return cv::mean(m)[0]; }

bool equal(const cv::Mat& a, const cv::Mat& b) {
    for (int y = 0; y < a.rows; ++y) {
        if (std::memcmp(a.ptr(y), b.ptr(y), static_cast<std::size_t>(a.cols) * a.elemSize()) != 0)
            return false;
    }
    return a.size() == b.size();
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("luminance_of: sRGB levels become weighted light") {
        Frame frame{cv::Mat(1, 2, CV_8UC3, cv::Scalar(255, 0, 0)), Encoding::srgb};
        frame.rgb.at<cv::Vec3b>(0, 1) = {128, 128, 128};
        const Luminance l = luminance_of(frame, {0, 0, 2, 1});
        CHECK(l.light.at<float>(0, 0) == doctest::Approx(0.2126));
        // IEC 61966-2-1: ((128/255 + 0.055) / 1.055)^2.4
        CHECK(l.light.at<float>(0, 1) == doctest::Approx(0.2158605).epsilon(1e-6));
        CHECK(l.burnt.at<float>(0, 0) == 1);
        CHECK(l.burnt.at<float>(0, 1) == 0);
    }

    TEST_CASE("luminance_of: 16-bit frames are light already") {
        Frame frame{cv::Mat(1, 1, CV_16UC3), Encoding::linear};
        frame.rgb.at<cv::Vec3w>(0, 0) = {0, 65535, 32768};
        const Luminance l = luminance_of(frame, {0, 0, 1, 1});
        CHECK(l.light.at<float>(0, 0) == doctest::Approx(0.7152 + 0.0722 * 32768 / 65535.0));
        CHECK(l.burnt.at<float>(0, 0) == 1);
    }

    TEST_CASE("shrink_luminance: whole and broken factors keep the mean") {
        const Frame frame = noise_frame(120, 84, 1);
        const Luminance full = luminance_of(frame, {0, 0, 120, 84});
        for (const PixelSize size :
             {PixelSize{40, 28}, PixelSize{36, 24}, PixelSize{120, 84}, PixelSize{7, 4}}) {
            const Luminance small = shrink_luminance(frame, size);
            CHECK(small.size() == size);
            CHECK(mean_of(small.light) == doctest::Approx(mean_of(full.light)).epsilon(1e-5));
            CHECK(mean_of(small.burnt) == doctest::Approx(mean_of(full.burnt)).epsilon(1e-5));
        }
        const Luminance coarse = shrink_luminance(frame, {40, 28}, 4);
        CHECK(coarse.burnt.size() == cv::Size(10, 7));
        CHECK(mean_of(coarse.burnt) == doctest::Approx(mean_of(full.burnt)).epsilon(1e-5));
    }

    TEST_CASE("shrink_area: a place x becomes (x + 0.5) / f - 0.5") {
        // The half-pixel trap: centre of mass of a soft blob, before and after
        cv::Mat blob(90, 120, CV_32F);
        const double cx = 61.3, cy = 40.8;
        for (int y = 0; y < blob.rows; ++y) {
            for (int x = 0; x < blob.cols; ++x) {
                blob.at<float>(y, x) = static_cast<float>(
                    std::exp(-0.5 * ((x - cx) * (x - cx) + (y - cy) * (y - cy)) / 64));
            }
        }
        const cv::Mat small = shrink_area(blob, {48, 36});  // 2.5 each way
        double sum = 0, sx = 0, sy = 0;
        for (int y = 0; y < small.rows; ++y) {
            for (int x = 0; x < small.cols; ++x) {
                const double v = static_cast<double>(small.at<float>(y, x));
                sum += v, sx += v * x, sy += v * y;
            }
        }
        CHECK(sx / sum == doctest::Approx((cx + 0.5) / 2.5 - 0.5).epsilon(1e-4));
        CHECK(sy / sum == doctest::Approx((cy + 0.5) / 2.5 - 0.5).epsilon(1e-4));
    }

    TEST_CASE("coded: gamma 1/2.2 within 1e-5") {
        cv::Mat light(1, 5, CV_32F);
        const std::array values{0.0F, 1e-4F, 0.02F, 0.5F, 1.0F};
        for (int i = 0; i < 5; ++i) light.at<float>(0, i) = values[static_cast<std::size_t>(i)];
        const cv::Mat code = coded(light);
        for (int i = 0; i < 5; ++i) {
            const double v = static_cast<double>(values[static_cast<std::size_t>(i)]);
            CHECK(static_cast<double>(code.at<float>(0, i)) ==
                  doctest::Approx(std::pow(v, 1 / 2.2)).epsilon(1e-5).scale(1));
        }
    }

    TEST_CASE("blurred: a point becomes the Gaussian, a flat picture stays") {
        cv::Mat point = cv::Mat::zeros(41, 41, CV_32F);
        point.at<float>(20, 20) = 1;
        const cv::Mat soft = blurred(point, 2);
        CHECK(cv::sum(soft)[0] == doctest::Approx(1).epsilon(1e-5));
        CHECK(static_cast<double>(soft.at<float>(20, 22)) /
                  static_cast<double>(soft.at<float>(20, 20)) ==
              doctest::Approx(std::exp(-0.5)).epsilon(1e-4));
        const cv::Mat flat = blurred(cv::Mat(20, 30, CV_32F, cv::Scalar(0.3)), 5);
        CHECK(cv::norm(flat, cv::Mat(20, 30, CV_32F, cv::Scalar(0.3)), cv::NORM_INF) < 1e-6);
    }

    TEST_CASE(
        "local_contrast: what is multiplied or shifted as a whole comes out nearly the same") {
        cv::Mat picture(200, 300, CV_32F);
        Rng rng(5, 0);
        for (int y = 0; y < picture.rows; ++y) {
            for (int x = 0; x < picture.cols; ++x) {
                picture.at<float>(y, x) =
                    static_cast<float>(0.5 + 0.2 * (rng.uniform() - 0.5) + 0.1 * std::sin(x / 9.0));
            }
        }
        const cv::Mat a = local_contrast(picture, 12, 0);
        const cv::Mat b = local_contrast(picture * 0.5 + 0.2, 12, 0);
        CHECK(cv::norm(a, b, cv::NORM_INF) < 2e-3);  // float32 of E[x^2] - E[x]^2
        CHECK(std::abs(cv::mean(a)[0]) < 0.02);
    }
}

TEST_SUITE("property") {
    TEST_CASE("luminance: the same bytes for 1 and 3 threads") {
        const Frame frame = noise_frame(700, 500, 2);
        std::vector<cv::Mat> results;
        for (const std::size_t threads : {1, 3}) {
            const tbb::global_control control(tbb::global_control::max_allowed_parallelism,
                                              threads);
            const Luminance small = shrink_luminance(frame, {280, 200}, 4);
            results.push_back(local_contrast(coded(blurred(small.light, 1.3)), 20, 0.03));
            results.push_back(small.burnt);
        }
        CHECK(equal(results[0], results[2]));
        CHECK(equal(results[1], results[3]));
    }
}
