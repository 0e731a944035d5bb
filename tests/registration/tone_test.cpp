#include "registration/tone.h"

#include <cmath>
#include <opencv2/imgproc.hpp>

#include "data/base/random.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

/// A smooth picture with values over [0.05, 0.95].
cv::Mat smooth_picture(int width, int height) {
    Rng rng(5, 0);
    cv::Mat small(height / 12, width / 12, CV_32F);
    for (int y = 0; y < small.rows; ++y) {
        for (int x = 0; x < small.cols; ++x)
            small.at<float>(y, x) = static_cast<float>(0.1 + 0.8 * rng.uniform());
    }
    cv::Mat large;
    cv::resize(small, large, {width, height}, 0, 0, cv::INTER_CUBIC);
    cv::min(large, 0.95, large);
    cv::max(large, 0.05, large);
    return large;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("fit_tone: a bent curve under a vignette, with a tenth of the picture wrong") {
        const cv::Mat tele = smooth_picture(480, 320);
        const PairGeometry geometry{{120, 80}, {480, 320}, 100, 4};
        const CameraMap map(MotionModel::affine, geometry);
        const auto curve = [](double v) { return v + 0.1 * std::sin(6.2831853 * v) - 0.05; };
        cv::Mat wide(80, 120, CV_32F);
        for (int y = 0; y < 80; ++y) {
            for (int x = 0; x < 120; ++x) {
                const PixelPoint t = map({static_cast<double>(x), static_cast<double>(y)});
                cv::Mat one;
                cv::getRectSubPix(tele, {1, 1},
                                  cv::Point2f(static_cast<float>(t.x), static_cast<float>(t.y)),
                                  one);
                const double r2 = std::pow((x - 60) / 72.1, 2) + std::pow((y - 40) / 72.1, 2);
                wide.at<float>(y, x) = static_cast<float>(
                    curve(static_cast<double>(one.at<float>(0, 0))) * (1 - 0.1 * r2));
            }
        }
        wide(cv::Rect(10, 10, 30, 30)).setTo(0.9F);
        const cv::Mat usable(80, 120, CV_8U, cv::Scalar(255));
        const ToneCurve tone = fit_tone(wide, tele, usable, {0, 0, 120, 80}, map);
        REQUIRE(!tone.is_identity());
        double worst = 0;
        for (double v = 0.2; v < 0.8; v += 0.02) {
            worst = std::max(worst,
                             std::abs(static_cast<double>(tone(static_cast<float>(v))) - curve(v)));
        }
        CHECK(worst < 0.02);  // 14 straight pieces of a sine of 0.1

        // A picture through it equals its values through it
        const cv::Mat through = tone(tele);
        CHECK(through.at<float>(100, 200) ==
              doctest::Approx(tone(tele.at<float>(100, 200))).epsilon(1e-3));
        for (float v = 0; v < 0.99F; v += 0.01F) CHECK(tone(v + 0.01F) > tone(v));
    }

    TEST_CASE("fit_tone: too few pixels leave the identity") {
        const PairGeometry geometry{{12, 8}, {48, 32}, 100, 4};
        const cv::Mat tele = smooth_picture(48, 32), wide(8, 12, CV_32F, cv::Scalar(0.5));
        const ToneCurve tone = fit_tone(wide, tele, cv::Mat(8, 12, CV_8U, cv::Scalar(255)),
                                        {0, 0, 12, 8}, CameraMap(MotionModel::affine, geometry));
        CHECK(tone.is_identity());
        CHECK(tone(0.37F) == 0.37F);
    }
}
