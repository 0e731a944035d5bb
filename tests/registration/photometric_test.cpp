#include "registration/photometric.h"

#include <cmath>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/color.h"
#include "registration/warp.h"
#include "tests/registration/zoom_pair.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

/// A picture that is smooth within LR pixels: there a curve of the mean is the mean of the curve.
cv::Mat smooth_picture(std::uint64_t seed) {
    cv::Mat large;
    cv::resize(test::cloud_picture(80, 60, seed), large, {640, 480}, 0, 0, cv::INTER_CUBIC);
    cv::max(large, 0.0, large);
    return large;
}

/// LR made from HR's block means by `change` (channel, value, place of the middle, unit: half
/// diagonal).
template <class Change>
PhotometricInput input_of(const cv::Mat& hr, const Change& change) {
    PhotometricInput input;
    input.hr_mean = block_means(hr, 8);
    input.lr = input.hr_mean.clone();
    input.weight = cv::Mat(input.lr.rows, input.lr.cols, CV_32F, cv::Scalar(1));
    const double half = 0.5 * std::hypot(input.lr.cols, input.lr.rows);
    for (int y = 0; y < input.lr.rows; ++y) {
        for (int x = 0; x < input.lr.cols; ++x) {
            const double px = (x + 0.5 - input.lr.cols / 2.0) / half;
            const double py = (y + 0.5 - input.lr.rows / 2.0) / half;
            for (int c = 0; c < 3; ++c) {
                float& v = input.lr.ptr<float>(y)[3 * x + c];
                v = static_cast<float>(change(c, static_cast<double>(v), px, py));
            }
        }
    }
    return input;
}

double distance(const PhotometricInput& input, const cv::Mat& hr) {
    const cv::Mat means = block_means(hr, 8);
    return cv::norm(encode_srgb(means, 16), encode_srgb(input.lr, 16), cv::NORM_L1) / 65535 /
           static_cast<double>(3 * means.total());
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("fit_photometric: gain and offset by hand") {
        const cv::Mat hr = test::cloud_picture(640, 480, 31);
        const PhotometricInput input = input_of(
            hr, [](int c, double v, double, double) { return (0.6 + 0.1 * c) * v + 0.01; });
        const PhotometricFit fit = fit_photometric(input, Photometric::gain);
        CHECK(fit.kind == Photometric::gain);
        for (std::size_t c = 0; c < 3; ++c) {
            CHECK(fit.gain[c] == doctest::Approx(0.6 + 0.1 * static_cast<double>(c)).epsilon(1e-3));
            CHECK(fit.offset[c] == doctest::Approx(0.01).epsilon(0.02));
        }
        CHECK(distance(input, apply_photometric(fit, hr)) < 1e-3);
    }

    TEST_CASE("fit_photometric: a tone curve and a vignette come out to half a level") {
        const cv::Mat hr = smooth_picture(32);
        const PhotometricInput input = input_of(hr, [](int c, double v, double x, double y) {
            const double tone = std::pow(v, 1.1 + 0.05 * c) * 0.8;
            return tone * (1 - 0.15 * (x * x + y * y) + 0.05 * x);
        });
        const PhotometricFit fit = fit_photometric(input, Photometric::curve);
        CHECK(fit.kind == Photometric::curve);
        CHECK(fit.why.empty());
        CHECK(fit.vignette[2] == doctest::Approx(-0.15).epsilon(0.1));
        CHECK(fit.vignette[0] == doctest::Approx(0.05).epsilon(0.2));
        CHECK(fit.residual_after < 0.2 * fit.residual_before);
        CHECK(distance(input, apply_photometric(fit, hr)) < 0.5 / 255);
        // Encoding with the match equals matching, then encoding
        const cv::Mat direct = encode_matched(fit, hr, 8);
        CHECK(cv::norm(direct, encode_srgb(apply_photometric(fit, hr), 8), cv::NORM_INF) == 0);
    }

    TEST_CASE("fit_photometric: left out, with the reason, when it would do harm or nothing") {
        const cv::Mat hr = test::cloud_picture(320, 240, 33);
        const auto half = [](int, double v, double, double) { return 0.5 * v; };
        PhotometricInput input = input_of(hr, half);
        CHECK(fit_photometric(input, Photometric::none).kind == Photometric::none);
        CHECK(fit_photometric(input, Photometric::none).why.empty());
        CHECK(fit_photometric(input, Photometric::curve).kind == Photometric::curve);
        input.hr_burnt_share = 0.03;
        CHECK(fit_photometric(input, Photometric::curve).why.starts_with("burnt out: 3.0 %"));
        input = input_of(hr, half);
        input.correlation = 0.85;
        CHECK(fit_photometric(input, Photometric::curve).why.starts_with("correlation"));
        input = input_of(hr, [](int, double v, double, double) { return 1.005 * v; });
        CHECK(fit_photometric(input, Photometric::curve).why.starts_with("gains within 1 %"));
        input = input_of(hr, [](int, double v, double, double) { return 0.1 * v; });
        CHECK(fit_photometric(input, Photometric::gain).why.starts_with("slope 0.10"));
    }

    TEST_CASE("photometric: names there and back") {
        for (const char* name : {"curve", "gain", "none"})
            CHECK(name_of(photometric(name)) == name);
        CHECK_THROWS_AS(photometric("auto"), Error);
    }
}
