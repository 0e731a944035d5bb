#include "models/resample.h"

#include <cmath>

#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/file.h"
#include "models/scale_policy.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

/// The input of tests/golden/make_models.py: levels 0..255.
int level(int c, int y, int x) { return (37 * c + 11 * y + 7 * x + 3 * x * y) % 64 * 255 / 63; }

Image golden_input(const Json& golden) {
    const auto& head = golden.at("provenance");
    Image image(PixelSize{head.at("width"), head.at("height")});
    for (int y = 0; y < image.height(); ++y) {
        for (int x = 0; x < image.width(); ++x) {
            for (int c = 0; c < 3; ++c) {
                image.row_(y)[3 * x + c] = static_cast<float>(level(c, y, x)) / 255.0F;
            }
        }
    }
    return image;
}

Json read_golden(const char* name) {
    const auto path = test::golden(name);
    return parse_json(read_file(path), path.string());
}

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("resize equals Pillow's mode F, bicubic and Lanczos, enlarging and shrinking") {
        const Json golden = read_golden("models_resample.json");
        const Image input = golden_input(golden);
        CHECK(golden.at("cases").size() == 10);
        for (const Json& c : golden.at("cases")) {
            const auto kernel = c.at("kernel") == "bicubic" ? Kernel::bicubic : Kernel::lanczos3;
            const PixelSize target{c.at("width"), c.at("height")};
            const Image result = resize(input, target, kernel);
            REQUIRE(result.size() == target);
            CAPTURE(c.at("kernel").get<std::string>());
            CAPTURE(target.width);
            double worst = 0.0;
            std::size_t i = 0;
            for (int y = 0; y < target.height; ++y) {
                for (int k = 0; k < 3 * target.width; ++k) {
                    const double expected = c.at("values").at(i++);
                    worst = std::max(worst, std::abs(expected - result.row(y)[k]));
                }
            }
            CHECK(i == c.at("values").size());
            CHECK(worst < 1e-6);  // float32 pictures on both sides, golden with 7 digits
        }
    }

    TEST_CASE("resize_8bit_lanczos4 is the documented kernel, at most one level off") {
        const Json golden = read_golden("models_lanczos4.json");
        const Image input = golden_input(golden);
        for (const Json& c : golden.at("cases")) {
            const PixelSize target{c.at("width"), c.at("height")};
            const Image result = resize_8bit_lanczos4(input, target);
            int worst = 0;
            int off = 0;
            std::size_t i = 0;
            for (int y = 0; y < target.height; ++y) {
                for (int k = 0; k < 3 * target.width; ++k) {
                    const int expected = c.at("levels").at(i++);
                    const int got = static_cast<int>(std::lround(255.0F * result.row(y)[k]));
                    CHECK(result.row(y)[k] == static_cast<float>(got) / 255.0F);
                    worst = std::max(worst, std::abs(expected - got));
                    off += expected != got;
                }
            }
            CHECK(worst <= 1);  // OpenCV's taps are rounded to 1/2048: one level, on few pixels
            CHECK(off * 10 < static_cast<int>(i));
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE("resize keeps constants, copies equal sizes, and commutes with mirroring") {
        const Json golden = read_golden("models_resample.json");
        const Image input = golden_input(golden);
        cv::Mat mirrored;
        cv::flip(input.mat(), mirrored, 1);
        Image grey(PixelSize{7, 5});
        grey = Image(cv::Mat(5, 7, CV_32FC3, cv::Scalar(0.3, 0.5, 0.7)));
        for (const Kernel kernel : {Kernel::bicubic, Kernel::lanczos3}) {
            CHECK(cv::norm(resize(input, input.size(), kernel).mat(), input.mat(), cv::NORM_INF) ==
                  0.0);
            for (const PixelSize size : {PixelSize{1, 1}, PixelSize{3, 40}, PixelSize{31, 2}}) {
                const cv::Mat flat(size.height, size.width, CV_32FC3, cv::Scalar(0.3, 0.5, 0.7));
                CHECK(cv::norm(resize(grey, size, kernel).mat(), flat, cv::NORM_INF) < 1e-6);
                cv::Mat back;
                cv::flip(resize(Image(mirrored), size, kernel).mat(), back, 1);
                CHECK(cv::norm(resize(input, size, kernel).mat(), back, cv::NORM_INF) < 1e-6);
            }
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("resize: an empty picture or target is our bug") {
        CHECK_THROWS_AS(resize(Image(), {4, 4}, Kernel::bicubic), Error);
        CHECK_THROWS_AS(resize(Image(PixelSize{4, 4}), {0, 4}, Kernel::bicubic), Error);
    }

    TEST_CASE("clamped: nothing outside [0,1], NaN becomes 0") {
        Image image(PixelSize{2, 1});
        const float values[6]{-0.1F, 0.0F, 0.5F, 1.0F, 1.5F, std::nanf("")};
        std::copy(values, values + 6, image.row_(0));
        const Image result = clamped(image);
        const float expected[6]{0.0F, 0.0F, 0.5F, 1.0F, 1.0F, 0.0F};
        for (int k = 0; k < 6; ++k) CHECK(result.row(0)[k] == expected[k]);
        CHECK(image.row(0)[0] == -0.1F);
    }
}
