#include "registration/coarse.h"

#include <cmath>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "registration/luminance.h"
#include "tests/registration/zoom_pair.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

/// The coarse pictures of a zoom pair, the whole wide frame as the window.
CoarsePictures coarse_pictures(const test::ZoomPair& pair) {
    const Frame wide{pair.wide, Encoding::srgb}, tele{pair.tele, Encoding::srgb};
    const PixelSize small{static_cast<int>(std::lround(pair.tele.cols / pair.geometry.scale)),
                          static_cast<int>(std::lround(pair.tele.rows / pair.geometry.scale))};
    return {coded(luminance_of(wide, {0, 0, wide.rgb.cols, wide.rgb.rows}).light),
            {0, 0},
            coded(shrink_luminance(tele, small).light)};
}

double error_of(const CameraMap& map, const test::ZoomPair& pair) {
    double sum = 0;
    const PixelPoint middle = map.inverse(map.geometry().tele_centre());
    const auto grid =
        check_grid({static_cast<int>(middle.x) - 40, static_cast<int>(middle.y) - 25, 80, 50});
    for (const PixelPoint& x : grid) {
        const PixelPoint a = map(x), b = pair.to_tele(x);
        sum += (a.x - b.x) * (a.x - b.x) + (a.y - b.y) * (a.y - b.y);
    }
    return std::sqrt(sum / static_cast<double>(grid.size())) / map.geometry().scale;
}

test::ZoomPair turned_pair() {
    return test::make_zoom_pair(test::cloud_picture(1600, 1200, 11), 4, 2.02, 1.1, {1512, 1008}, 25,
                                -14);
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE(
        "estimate_coarse: SIFT finds a turned and zoomed pair to 0.1 LR px, by every "
        "normalisation") {
        const test::ZoomPair pair = turned_pair();
        const CoarsePictures pictures = coarse_pictures(pair);
        for (const auto kind : {Normalisation::local, Normalisation::none, Normalisation::meanstd,
                                Normalisation::hist, Normalisation::clahe}) {
            CoarseOptions options;
            options.norm = kind;
            const CoarseEstimate estimate = estimate_coarse(pictures, pair.geometry, options);
            REQUIRE_MESSAGE(estimate.found, name_of(kind));
            CHECK(estimate.way == "sift");
            CHECK(estimate.inliers >= 30);
            CHECK(estimate.points.size() == static_cast<std::size_t>(estimate.inliers));
            CHECK(error_of(map_from(estimate, MotionModel::camera, pair.geometry), pair) < 0.1);
        }
    }

    TEST_CASE("estimate_coarse: a window's corner is taken into account") {
        const test::ZoomPair pair = turned_pair();
        CoarsePictures pictures = coarse_pictures(pair);
        pictures.wide = pictures.wide(cv::Rect(60, 40, 300, 220)).clone();
        pictures.wide_corner = {60, 40};
        const CoarseEstimate estimate = estimate_coarse(pictures, pair.geometry);
        REQUIRE(estimate.found);
        CHECK(error_of(map_from(estimate, MotionModel::camera, pair.geometry), pair) < 0.1);
    }

    TEST_CASE("search_by_correlation: without keypoints, within the catch range of 2.3 LR px") {
        const test::ZoomPair pair = turned_pair();
        const CoarseEstimate estimate = search_by_correlation(coarse_pictures(pair), pair.geometry);
        CHECK(estimate.peak > 0.35);
        CHECK(estimate.peak_ratio > 1.2);
        REQUIRE(estimate.found);
        CHECK(estimate.points.empty());
        CHECK(error_of(map_from(estimate, MotionModel::camera, pair.geometry), pair) < 2.3);
    }

    TEST_CASE("estimate_coarse: another scene and a flat picture are not found") {
        const test::ZoomPair pair = turned_pair();
        CoarsePictures pictures = coarse_pictures(pair);
        const cv::Mat tele = pictures.tele;
        pictures.tele = coarse_pictures(test::make_zoom_pair(test::cloud_picture(1600, 1200, 12), 4,
                                                             2.02, 1.1, {1512, 1008}, 25, -14))
                            .tele;
        CoarseEstimate estimate = estimate_coarse(pictures, pair.geometry);
        CHECK(!estimate.found);
        CHECK(estimate.way == "none");
        CHECK(estimate.peak < 0.35);
        pictures.tele = cv::Mat(tele.rows, tele.cols, CV_32F, cv::Scalar(0.4));
        estimate = estimate_coarse(pictures, pair.geometry);
        CHECK(!estimate.found);
        CHECK(estimate.tele_keypoints == 0);
    }

    TEST_CASE("match_keypoints: large pictures are searched in tiles, with the same places") {
        // 1600 x 1200 is more than one SIFT call takes; a shift must come out exactly
        cv::Mat grey;
        cv::cvtColor(test::cloud_picture(1610, 1205, 13), grey, cv::COLOR_RGB2GRAY);
        const NormalisedPair pair =
            normalise(grey(cv::Rect(0, 0, 1600, 1200)), grey(cv::Rect(10, 5, 1600, 1200)),
                      Normalisation::none);
        const KeypointMatches found = match_keypoints(pair);
        CHECK(found.matches.size() > 500);
        std::size_t right = 0;
        for (const PointPair& m : found.matches) {
            right += std::hypot(m.wide.x - m.tele.x - 10, m.wide.y - m.tele.y - 5) < 0.3 ? 1 : 0;
        }
        CHECK(static_cast<double>(right) > 0.9 * static_cast<double>(found.matches.size()));
    }

    TEST_CASE("normalisation: names there and back") {
        for (const char* name : {"local", "none", "meanstd", "hist", "clahe"}) {
            CHECK(name_of(normalisation(name)) == name);
        }
        CHECK_THROWS_AS(normalisation("equalise"), Error);
    }
}
