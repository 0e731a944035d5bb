#include "registration/crop.h"

#include "data/base/error.h"
#include "tests/test.h"

using namespace ultrasr;

TEST_SUITE("unit") {
    TEST_CASE("crop_sizes: the table of registration.md 6") {
        struct Row {
            int scale;
            PixelSize lr, hr, keep_lr;
        };
        for (const Row& row : {Row{8, {378, 251}, {3024, 2008}, {378, 251}},
                               Row{10, {302, 200}, {3020, 2000}, {303, 201}},
                               Row{12, {252, 167}, {3024, 2004}, {252, 168}},
                               Row{14, {216, 143}, {3024, 2002}, {216, 144}}}) {
            const CropWindow multiple = crop_sizes({6048, 4024}, row.scale, CropMode::multiple);
            CHECK(PixelSize{multiple.lr.width, multiple.lr.height} == row.lr);
            CHECK(multiple.hr == row.hr);
            CHECK(multiple.other == PixelSize{3024, 2008});
            const CropWindow keep = crop_sizes({6048, 4024}, row.scale, CropMode::keep);
            CHECK(PixelSize{keep.lr.width, keep.lr.height} == row.keep_lr);
            CHECK(keep.hr == PixelSize{3024, 2008});
        }
    }

    TEST_CASE("place_crops: about the tele frame's centre, wherever that lies") {
        const PairGeometry geometry{{6048, 4024}, {6048, 4024}, 4704, 8};
        Parameters theta{};
        theta[0] = 0.005;  // about 23 LR px up
        theta[1] = -0.004;
        const CameraMap map(MotionModel::camera, geometry, theta);
        const PixelPoint middle = map.inverse(geometry.tele_centre());
        const auto crops = place_crops(map, 8, CropMode::multiple, 1);
        REQUIRE(crops.size() == 1);
        CHECK(crops[0].lr.x + 188.5 == doctest::Approx(middle.x).epsilon(0.6 / middle.x));
        CHECK(crops[0].lr.y + 125 == doctest::Approx(middle.y).epsilon(0.6 / middle.y));
    }

    TEST_CASE("place_crops: four quadrant windows lie inside the tele frame") {
        const PairGeometry geometry{{6048, 4024}, {6048, 4024}, 4704, 14};
        Parameters theta{};
        theta[2] = 0.03;
        const CameraMap map(MotionModel::camera, geometry, theta);
        const auto crops = place_crops(map, 14, CropMode::multiple, 4);
        REQUIRE(crops.size() == 4);
        for (const CropWindow& crop : crops) {
            for (const int i : {0, crop.hr.width - 1}) {
                for (const int j : {0, crop.hr.height - 1}) {
                    const PixelPoint t =
                        map({crop.lr.x - 0.5 + (i + 0.5) / 14, crop.lr.y - 0.5 + (j + 0.5) / 14});
                    CHECK(t.x >= 8);
                    CHECK(t.y >= 8);
                    CHECK(t.x <= 6047 - 8);
                    CHECK(t.y <= 4023 - 8);
                }
            }
        }
        CHECK(crops[0].lr.x < crops[1].lr.x);
        CHECK(crops[0].lr.y < crops[2].lr.y);
    }

    TEST_CASE(
        "place_crops: a window that leaves the wide frame is moved, one that cannot fit is left "
        "out") {
        // The tele camera looks past the wide frame's left border
        PairGeometry geometry{{600, 400}, {6048, 4024}, 4704, 8};
        CameraMap map(MotionModel::camera, geometry, {0, 0.015});
        const auto moved = place_crops(map, 8, CropMode::multiple, 1);
        REQUIRE(moved.size() == 1);
        CHECK(moved[0].lr.x >= 0);
        CHECK(moved[0].lr.x + moved[0].lr.width <= 600);
        geometry.wide = {300, 200};  // smaller than the window
        map = CameraMap(MotionModel::camera, geometry, {});
        CHECK(place_crops(map, 8, CropMode::multiple, 1).empty());
    }

    TEST_CASE("crop_mode: unknown names are a usage fault") {
        CHECK(crop_mode("keep") == CropMode::keep);
        CHECK_THROWS_AS(crop_mode("half"), Error);
    }
}
