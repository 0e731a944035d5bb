#include "registration/warp.h"

#include <tbb/global_control.h>

#include <cmath>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/color.h"
#include "tests/registration/zoom_pair.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

constexpr PairGeometry geometry{{200, 150}, {800, 600}, 150, 4};

Frame tele_frame(std::uint64_t seed) {
    return {encode_srgb(test::cloud_picture(800, 600, seed), 8), Encoding::srgb};
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("warp_hr: where HR's lattice meets the tele pixels, HR is a copy") {
        // Scale exactly 4, wide pixel (100, 75)'s lattice on whole tele pixels: x = (x + 0.5) 4 -
        // 0.5
        const Frame tele = tele_frame(41);
        const CameraMap map(MotionModel::affine, geometry);
        const CropWindow window{{60, 50, 40, 30}, {160, 120}, {160, 120}};
        const WarpedHr warped = warp_hr(tele, map, window, 4);
        CHECK(warped.step == doctest::Approx(1));
        const PixelPoint first = map({60 - 0.5 + 0.125, 50 - 0.5 + 0.125});
        const int x0 = static_cast<int>(std::lround(first.x)),
                  y0 = static_cast<int>(std::lround(first.y));
        CHECK(first.x == doctest::Approx(x0));
        // The tele frame's centre is that of the wide frame: (100 - 0.5) and (400 - 0.5)
        CHECK(x0 == 240);
        CHECK(y0 == 200);
        const cv::Mat expected = tele.rgb(cv::Rect(x0, y0, 160, 120));
        CHECK(cv::norm(encode_srgb(warped.linear, 8), expected, cv::NORM_INF) == 0);
    }

    TEST_CASE("warp_hr: a smooth picture is read between its pixels to a level") {
        Frame tele{cv::Mat(600, 800, CV_16UC3), Encoding::linear};
        const auto value = [](double x, double y) {
            return 0.5 + 0.25 * std::sin(x / 7) + 0.2 * std::cos(y / 9);
        };
        for (int y = 0; y < 600; ++y) {
            for (int x = 0; x < 800; ++x) {
                const auto v = static_cast<unsigned short>(65535 * value(x, y));
                tele.rgb.at<cv::Vec3w>(y, x) = {v, v, v};
            }
        }
        const Parameters theta{0.01, -0.02, 0.013, 0.02, 0.01, -0.007};
        const CameraMap map(MotionModel::affine, geometry, theta);
        const CropWindow window{{60, 50, 40, 30}, {160, 120}, {160, 120}};
        const WarpedHr warped = warp_hr(tele, map, window, 4);
        double worst = 0;
        for (int y = 0; y < 120; ++y) {
            for (int x = 0; x < 160; ++x) {
                const PixelPoint t = map({60 - 0.5 + (x + 0.5) / 4, 50 - 0.5 + (y + 0.5) / 4});
                worst = std::max(worst,
                                 std::abs(static_cast<double>(warped.linear.ptr<float>(y)[3 * x]) -
                                          value(t.x, t.y)));
            }
        }
        CHECK(worst < 2e-3);
    }

    TEST_CASE("warp_hr: no ringing beyond the neighbours and 2 %") {
        Frame tele{cv::Mat(600, 800, CV_8UC3, cv::Scalar(60, 60, 60)), Encoding::srgb};
        tele.rgb(cv::Rect(400, 0, 400, 600)).setTo(cv::Scalar(200, 200, 200));
        const Parameters theta{0, 0, 0.0011, 0, 0, 0.0007};
        const WarpedHr warped = warp_hr(tele, CameraMap(MotionModel::affine, geometry, theta),
                                        {{80, 50, 40, 30}, {160, 120}, {160, 120}}, 4);
        const double low = srgb_to_linear(60 / 255.0), high = srgb_to_linear(200 / 255.0);
        double least = 1, largest = 0;
        cv::minMaxLoc(warped.linear.reshape(1), &least, &largest);
        CHECK(least >= low - 0.0201 * (high - low));
        CHECK(largest <= high + 0.0201 * (high - low));
        CHECK(largest - least > 0.9 * (high - low));
    }

    TEST_CASE(
        "warp_hr: steps above 1.02 widen the kernel, burnt pixels are counted, outside is a "
        "fault") {
        const Frame tele = tele_frame(42);
        const CameraMap wide_step(MotionModel::affine, geometry, {0.06, 0, 0, 0, 0.06});
        CHECK(warp_hr(tele, wide_step, {{80, 60, 40, 30}, {160, 120}, {160, 120}}, 4).step ==
              doctest::Approx(1.06));
        Frame burnt{cv::Mat(600, 800, CV_8UC3, cv::Scalar(10, 10, 10)), Encoding::srgb};
        burnt.rgb(cv::Rect(0, 0, 400, 600)).setTo(cv::Scalar(255, 10, 10));
        const CameraMap map(MotionModel::affine, geometry);
        CHECK(warp_hr(burnt, map, {{80, 60, 40, 30}, {160, 120}, {160, 120}}, 4).burnt_share ==
              doctest::Approx(0.5).epsilon(0.03));
        CHECK_THROWS_AS(warp_hr(tele, map, {{0, 0, 40, 30}, {160, 120}, {160, 120}}, 4), Error);
    }

    TEST_CASE("warp_lr: LR read at the places of the tele pixels, HR untouched") {
        const test::ZoomPair pair =
            test::make_zoom_pair(test::cloud_picture(800, 600, 43), 4, 1, 0, {800, 600}, 0, 0);
        const CameraMap map(MotionModel::affine, pair.geometry);
        const PixelRect all{0, 0, 200, 150};
        const WarpedLr warped =
            warp_lr(Frame{pair.wide, Encoding::srgb}, all, Frame{pair.tele, Encoding::srgb}, map,
                    {{60, 50, 40, 30}, {160, 120}, {160, 120}}, 4);
        CHECK(warped.hr == PixelRect{240, 200, 160, 120});
        CHECK(cv::norm(encode_srgb(warped.hr_linear, 8), pair.tele(cv::Rect(240, 200, 160, 120)),
                       cv::NORM_INF) == 0);
        CHECK(cv::norm(encode_srgb(warped.linear, 8), pair.wide(cv::Rect(60, 50, 40, 30)),
                       cv::NORM_INF) == 0);
    }

    TEST_CASE("block_means: by hand, a partial block is left out") {
        cv::Mat hr(5, 4, CV_32FC3, cv::Scalar(0, 0, 0));
        hr.at<cv::Vec3f>(0, 1) = {1, 2, 4};
        const cv::Mat means = block_means(hr, 2);
        CHECK(means.size() == cv::Size(2, 2));
        CHECK(means.at<cv::Vec3f>(0, 0) == cv::Vec3f(0.25F, 0.5F, 1));
        CHECK(means.at<cv::Vec3f>(1, 1) == cv::Vec3f(0, 0, 0));
    }
}

TEST_SUITE("property") {
    TEST_CASE("warp_hr: the same bytes for 1 and 3 threads") {
        const Frame tele = tele_frame(44);
        const CameraMap map(MotionModel::camera, geometry, {0.001, -0.002, 0.02, 0.01});
        std::vector<cv::Mat> results;
        for (const std::size_t threads : {1, 3}) {
            const tbb::global_control control(tbb::global_control::max_allowed_parallelism,
                                              threads);
            results.push_back(
                warp_hr(tele, map, {{60, 50, 60, 40}, {240, 160}, {240, 160}}, 4).linear);
        }
        CHECK(cv::norm(results[0], results[1], cv::NORM_INF) == 0);
    }
}
