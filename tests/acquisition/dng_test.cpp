#include "acquisition/dng.h"

#include <libraw/libraw.h>

#include <cmath>
#include <opencv2/core.hpp>

#include "acquisition/shot.h"
#include "data/base/error.h"
#include "data/file.h"

#include "tests/test.h"

using namespace ultrasr;

namespace {

constexpr std::array<double, 3> camera_white{0.51, 1, 0.69};
constexpr int width = 160, height = 120;

/// Linear sRGB light of a smooth picture, all colours between 0.05 and 0.7.
double light(int x, int y, std::size_t c) {
    const double turn = 0.03 * x + 0.02 * y + 2.1 * static_cast<double>(c);
    return 0.35 + 0.3 * std::sin(turn) * std::cos(0.013 * (x - y));
}

/// balance  what the frame's white balance multiplies the light by, green 1
DngPicture smooth_picture(bool mosaic, const std::array<double, 3>& balance) {
    DngPicture picture;
    if (mosaic) {
        picture.black = 1008;
        picture.white = 15892;
    }
    picture.samples.create(height, width, mosaic ? CV_16UC1 : CV_16UC3);
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            for (std::size_t c = 0; c < 3; ++c) {
                if (mosaic && c != static_cast<std::size_t>((y & 1) + (x & 1))) continue;
                const double v = picture.black +
                                 (picture.white - picture.black) * camera_white[c] * light(x, y, c);
                const std::size_t at =
                    mosaic ? static_cast<std::size_t>(x) : 3 * static_cast<std::size_t>(x) + c;
                picture.samples.ptr<std::uint16_t>(y)[at] =
                    static_cast<std::uint16_t>(std::lround(v));
            }
        }
    }
    for (std::size_t c = 0; c < 3; ++c) picture.neutral[c] = camera_white[c] / balance[c];
    picture.exif.make = "NIKON CORPORATION";
    picture.exif.model = "NIKON Z 6_2";
    picture.exif.lens_model = "NIKKOR Z 28-400mm f/4-8 VR";
    picture.exif.focal_length_mm = 225;
    picture.exif.focal_length_35mm = 225;
    picture.exif.iso = 100;
    picture.exif.exposure_s = 0.0125;
    picture.exif.f_number = 8;
    picture.exif.exposure_mode = 1;
    picture.exif.white_balance = 1;
    picture.exif.orientation = 8;
    picture.exif.taken_s = 1717236304.07;
    picture.exif.pixel_width = width;
    picture.exif.pixel_height = height;
    picture.exif.color_space = 1;
    return picture;
}

/// Greatest difference to the balanced light, a border of six pixels left out.
double worst_difference(const Frame& frame, const std::array<double, 3>& balance) {
    double worst = 0;
    for (int y = 6; y < height - 6; ++y) {
        const auto* row = frame.rgb.ptr<std::uint16_t>(y);
        for (int x = 6; x < width - 6; ++x) {
            for (std::size_t c = 0; c < 3; ++c) {
                const double seen = row[3 * static_cast<std::size_t>(x) + c] / 65535.0;
                worst = std::max(worst, std::abs(seen - balance[c] * light(x, y, c)));
            }
        }
    }
    return worst;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("encode_dng: LibRaw gives back linear sRGB, by the frame's own white balance") {
        test::TemporaryFolder folder;
        for (const bool mosaic : {true, false}) {
            for (const auto& balance :
                 {std::array<double, 3>{1, 1, 1}, std::array<double, 3>{1.1, 1, 0.92}}) {
                CAPTURE(mosaic);
                CAPTURE(balance[0]);
                const auto path = folder.path() / "frame.dng";
                write_file(path, encode_dng(smooth_picture(mosaic, balance), camera_white));
                const Shot shot = read_shot(path);
                CHECK(shot.kind == ShotKind::raw);
                CHECK(shot.size == PixelSize{width, height});
                const Frame frame = decode_shot(shot);
                REQUIRE(frame.is_16bit());
                CHECK(frame.encoding == Encoding::linear);
                // Levels of 14 bits, their demosaicing, six-digit rationals
                CHECK(worst_difference(frame, balance) < 0.004);
            }
        }
    }

    TEST_CASE("encode_dng: another frame's white balance can be put in its place") {
        test::TemporaryFolder folder;
        const std::array<double, 3> own{1.2, 1, 0.9}, daylight{1, 1, 1};
        const auto path = folder.path() / "frame.dng";
        write_file(path, encode_dng(smooth_picture(true, own), camera_white));
        const Shot shot = read_shot(path);
        const auto as_shot = camera_white_balance(shot);
        REQUIRE(as_shot.has_value());
        CHECK((*as_shot)[0] == doctest::Approx(1.2 / 0.51).epsilon(1e-4));
        CHECK((*as_shot)[2] == doctest::Approx(0.9 / 0.69).epsilon(1e-4));
        const WhiteBalance other{1 / 0.51F, 1, 1 / 0.69F, 1};
        CHECK(worst_difference(decode_shot(shot, other), daylight) < 0.004);
    }

    TEST_CASE("encode_dng: the colour matrix gives the sensor's answer to daylight") {
        test::TemporaryFolder folder;
        const auto path = folder.path() / "frame.dng";
        write_file(path, encode_dng(smooth_picture(true, {1.2, 1, 0.9}), camera_white));
        LibRaw raw;
        REQUIRE(raw.open_file(path.c_str()) == LIBRAW_SUCCESS);
        const auto& matrix = raw.imgdata.color.dng_color[0].colormatrix;
        constexpr std::array<double, 3> d65{0.95047, 1, 1.08883};
        for (std::size_t c = 0; c < 3; ++c) {
            double answer = 0;
            for (std::size_t k = 0; k < 3; ++k) {
                answer += static_cast<double>(matrix[c][k]) * d65[k];
            }
            CHECK(std::abs(answer - camera_white[c]) < 1e-3);
        }
    }

    TEST_CASE("encode_dng: tags come back") {
        test::TemporaryFolder folder;
        const auto path = folder.path() / "frame.dng";
        const DngPicture picture = smooth_picture(true, {1, 1, 1});
        write_file(path, encode_dng(picture, camera_white));
        const Exif exif = read_exif(path);
        CHECK(exif.make == picture.exif.make);
        CHECK(exif.model == picture.exif.model);
        CHECK(exif.lens_model == picture.exif.lens_model);
        CHECK(exif.focal_length_mm == 225.0);
        CHECK(exif.focal_length_35mm == 225.0);
        CHECK(exif.iso == 100);
        REQUIRE(exif.exposure_s.has_value());
        CHECK(*exif.exposure_s == doctest::Approx(0.0125));
        CHECK(exif.f_number == 8.0);
        CHECK(exif.exposure_mode == 1);
        CHECK(exif.white_balance == 1);
        CHECK(exif.orientation == 8);
        REQUIRE(exif.taken_s.has_value());
        CHECK(*exif.taken_s == doctest::Approx(1717236304.07).epsilon(1e-14));
        CHECK(exif.pixel_width == width);
        CHECK(exif.pixel_height == height);
        CHECK(exif.color_space == 1);
    }

    TEST_CASE("encode_dng: pixels and levels that no DNG holds are refused") {
        DngPicture picture = smooth_picture(true, {1, 1, 1});
        picture.white = picture.black;
        CHECK_THROWS_WITH_AS(encode_dng(picture, camera_white),
                             doctest::Contains("black 1008 and white 1008"), Error);
        picture = smooth_picture(false, {1, 1, 1});
        picture.black = 1008;
        CHECK_THROWS_WITH_AS(encode_dng(picture, camera_white), doctest::Contains("black 1008"),
                             Error);
        picture = {};
        picture.samples = cv::Mat::zeros(8, 8, CV_8UC1);
        CHECK_THROWS_WITH_AS(encode_dng(picture, camera_white), doctest::Contains("16-bit"), Error);
    }
}
