#include "registration/register_pair.h"

#include <cmath>
#include <cstdlib>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/color.h"
#include "data/file.h"
#include "data/image_io.h"
#include "registration/true_error.h"
#include "registration/warp.h"
#include "tests/registration/zoom_pair.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

/// RMS distance of an estimate from a place function over the grid of `crop`, LR px.
template <class Truth>
double distance(const CameraMap& map, const PixelRect& crop, const Truth& truth) {
    double sum = 0;
    for (const PixelPoint& x : check_grid(crop)) {
        const PixelPoint a = map(x), b = truth(x);
        sum += (a.x - b.x) * (a.x - b.x) + (a.y - b.y) * (a.y - b.y);
    }
    return std::sqrt(sum / 117) / map.geometry().scale;
}

PairResult registered(const test::ZoomPair& pair, int scale,
                      const RegisterSettings& settings = {}) {
    const test::TemporaryFolder folder;
    write_file(folder.path() / "wide.png", encode_png(pair.wide));
    WideFrame wide(read_shot(folder.path() / "wide.png"), std::nullopt);
    return register_pair(wide, Frame{pair.tele.clone(), Encoding::srgb}, pair.geometry, scale,
                         settings);
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE(
        "register_pair: pictures resampled by OpenCV agree to 0.02 LR px, and half a pixel "
        "would be seen in both directions") {
        const test::ZoomPair pair = test::make_zoom_pair(test::cloud_picture(1600, 1200, 7), 4,
                                                         2.02, 0.7, {1512, 1008}, 13.4, -8.2);
        const PairResult result = registered(pair, 8);
        REQUIRE_MESSAGE(result.windows.size() == 1, result.reason);
        const PairWindow& window = result.windows[0];
        CHECK_MESSAGE(window.verdict == Verdict::ok, window.reason);
        const CameraMap& map = result.fit.map;
        const PixelRect crop = window.crop.lr;
        const double s = 4 * 2.02;
        CHECK(result.scale_true == doctest::Approx(s).epsilon(1e-3));
        CHECK(distance(map, crop, [&](PixelPoint x) { return pair.to_tele(x); }) < 0.02);

        // Wide places taken as corners instead of centres: half a pixel both ways, 0.71 together
        CHECK(distance(map, crop, [&](PixelPoint x) {
                  return pair.to_tele({x.x - 0.5, x.y - 0.5});
              }) == doctest::Approx(0.707).epsilon(0.05));
        // Scaling without the half-pixel term, x' = s x instead of s x + (s - 1) / 2
        CHECK(distance(map, crop, [&](PixelPoint x) {
                  const PixelPoint t = pair.to_tele(x);
                  return PixelPoint{t.x - (s - 1) / 2, t.y - (s - 1) / 2};
              }) == doctest::Approx(0.707 * (s - 1) / s).epsilon(0.05));
        // And back: tele places into the wide frame
        for (const PixelPoint& x : check_grid(crop)) {
            const PixelPoint back = map.inverse(pair.to_tele(x));
            CHECK(std::abs(back.x - x.x) < 0.05);
            CHECK(std::abs(back.y - x.y) < 0.05);
        }

        // The delivered pictures: LR untouched, HR's block means equal LR but for noise of coding
        const cv::Rect lr(crop.x, crop.y, crop.width, crop.height);
        CHECK(cv::norm(window.lr8, pair.wide(lr), cv::NORM_INF) == 0);
        CHECK(window.hr8.cols == 8 * window.lr8.cols);
        CHECK(window.hr8.rows == 8 * window.lr8.rows);
        const cv::Mat means =
            encode_srgb(block_means(linear_part(Frame{window.hr8, Encoding::srgb},
                                                {0, 0, window.hr8.cols, window.hr8.rows}),
                                    8),
                        8);
        CHECK(cv::norm(means, window.lr8, cv::NORM_L1) / static_cast<double>(3 * means.total()) <
              1.5);
    }

    TEST_CASE("register_pair: another scene is no match") {
        test::ZoomPair pair =
            test::make_zoom_pair(test::cloud_picture(1600, 1200, 7), 4, 2, 0, {1512, 1008}, 0, 0);
        pair.tele =
            test::make_zoom_pair(test::cloud_picture(1600, 1200, 8), 4, 2, 0, {1512, 1008}, 0, 0)
                .tele;
        const PairResult result = registered(pair, 8);
        CHECK(result.windows.empty());
        CHECK(result.reason.starts_with("no_match: "));
    }

    TEST_CASE("register_pair: turned pixels are found only when the tags differ") {
        test::ZoomPair pair =
            test::make_zoom_pair(test::cloud_picture(1600, 1200, 9), 4, 2, 0.3, {1512, 1008}, 3, 5);
        cv::Mat turned;
        cv::rotate(pair.tele, turned, cv::ROTATE_90_COUNTERCLOCKWISE);
        const cv::Mat upright = pair.tele;
        pair.tele = turned;
        const PixelSize size = pair.geometry.tele;
        pair.geometry.tele = {size.height, size.width};
        CHECK(registered(pair, 8).windows.empty());
        RegisterSettings settings;
        settings.try_turned = true;
        const PairResult result = registered(pair, 8, settings);
        REQUIRE_MESSAGE(result.windows.size() == 1, result.reason);
        CHECK(result.turned == 90);
        for (const PixelPoint& x : check_grid(result.windows[0].crop.lr)) {
            const PixelPoint expected = pair.to_tele(x);  // in the upright frame
            const PixelPoint decoded =
                as_decoded(result.fit.map(x), pair.geometry.tele, result.turned);
            // ROTATE_90_COUNTERCLOCKWISE: (x, y) of W x H goes to (y, W - 1 - x)
            CHECK(std::abs(decoded.x - expected.y) < 0.5);
            CHECK(std::abs(decoded.y - (size.width - 1 - expected.x)) < 0.5);
        }
    }

    TEST_CASE("prior_of: ratio of focal lengths, sensor crops allowed, smaller copies refused") {
        Shot wide, tele;
        wide.path = "a.jpg";
        tele.path = "b.jpg";
        wide.size = tele.size = {6048, 4024};
        wide.exif.focal_length_mm = 28;
        tele.exif.focal_length_mm = 340;
        wide.exif.model = "NIKON Z 6_2";
        std::string reason;
        auto prior = prior_of(wide, tele, reason);
        REQUIRE(prior.has_value());
        CHECK(prior->scale == doctest::Approx(340.0 / 28));
        CHECK(prior->focal_px == doctest::Approx(28 / 35.9 * 6048));

        // DX crop: fewer pixels of the same size
        wide.exif.focal_length_35mm = 28;
        tele.exif.focal_length_35mm = 510;
        tele.size = {4032, 2683};
        prior = prior_of(wide, tele, reason);
        REQUIRE(prior.has_value());
        CHECK(prior->scale == doctest::Approx(340.0 / 28));

        // A frame saved at half the size
        tele.exif.focal_length_35mm = 340;
        tele.size = {3008, 2000};
        CHECK(!prior_of(wide, tele, reason));
        CHECK(reason == "size_differs: 6048x4024 and 3008x2000");

        tele.size = wide.size;
        tele.exif.focal_length_mm.reset();
        tele.exif.focal_length_35mm.reset();
        CHECK(!prior_of(wide, tele, reason));
        CHECK(reason == "no_focal: b.jpg has no focal length; give --focal b.jpg=mm");
        tele.focal_override_mm = 224;
        prior = prior_of(wide, tele, reason);
        REQUIRE(prior.has_value());
        CHECK(prior->scale == doctest::Approx(8));
    }
}

TEST_SUITE("golden") {
    TEST_CASE("register_pair: real photographs resampled by OpenCV agree to 0.02 LR px") {
        // Any folder of photographs of 8 megapixels and more; none is committed
        const char* root = std::getenv("ULTRASR_PHOTOS");
        if (!root) {
            MESSAGE("skipped: ULTRASR_PHOTOS names no folder of large photographs");
            return;
        }
        int tried = 0, accepted = 0;
        for (const fs::path& file : list_images(root)) {
            const Image image = read_image(file).image;
            if (image.width() < 3300 || image.height() < 2000) continue;
            if (++tried > 12) break;
            const PixelRect even{0, 0, image.width() / 20 * 20, image.height() / 20 * 20};
            cv::Mat rgb8;
            image.mat()(cv::Rect(0, 0, even.width, even.height)).convertTo(rgb8, CV_8U, 255);
            const cv::Mat light = linear_part(Frame{rgb8, Encoding::srgb}, even);
            const int scale = tried % 2 ? 8 : 10;
            const int factor = tried % 2 ? 4 : 5;
            const test::ZoomPair pair = test::make_zoom_pair(light, factor, 2.0, 0.4 * (tried - 6),
                                                             {3024, 2012}, 40.3, -31.7);
            const PairResult result = registered(pair, scale);
            const bool ok = !result.windows.empty() && result.windows[0].verdict == Verdict::ok;
            const double error = result.windows.empty()
                                     ? NAN
                                     : distance(result.fit.map, result.windows[0].crop.lr,
                                                [&](PixelPoint x) { return pair.to_tele(x); });
            MESSAGE(file.filename().string()
                    << " x" << scale << std::string(ok ? " ok " : " refused: ")
                    << (result.windows.empty() ? result.reason : result.windows[0].reason)
                    << " error " << error << " LR px, sigma_est "
                    << (result.windows.empty() ? NAN : result.windows[0].error.sigma_est));
            if (!ok) continue;
            ++accepted;
            // One with hardly any texture may be worse, when it says so itself
            CHECK(error < std::max(0.02, 2 * result.windows[0].error.sigma_est));
        }
        CHECK(accepted >= 1);
    }
}
