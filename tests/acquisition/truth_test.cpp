#include "acquisition/truth.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/random.h"
#include "data/file.h"

#include "tests/test.h"

using namespace ultrasr;

namespace {

/// A pair as the simulator draws it, full size.
PairTruth drawn_pair(double scale, std::uint64_t seed) {
    Rng rng(seed, 0);
    const auto around = [&](double range) { return range * (2 * rng.uniform() - 1); };
    PairTruth truth;
    truth.scene = "scene_0001";
    truth.scale = scale;
    truth.wide_file = "scene_0001/DSC_0001.jpg";
    truth.tele_file = "scene_0001/DSC_0002.jpg";
    truth.wide.size = truth.tele.size = {6048, 4024};
    truth.wide.f_px = 4704;
    truth.wide.k1 = -0.035 + around(0.015);
    truth.wide.k2 = -0.2 * truth.wide.k1;
    truth.wide.principal_offset = {around(12), around(12)};
    truth.scale_true = scale * (1 + around(0.03));
    truth.tele.f_px = 4704 * truth.scale_true;
    truth.tele.k1 = 0.0075 + around(0.0045);
    truth.tele.principal_offset = {around(60), around(60)};
    truth.rotation = {around(0.01), around(0.015), around(0.035)};
    truth.fault = "parallax";
    return truth;
}

double distance(PixelPoint a, PixelPoint b) { return std::hypot(a.x - b.x, a.y - b.y); }

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("to_tele: cameras that look the same way scale about the centre of the frame") {
        PairTruth truth;
        truth.scale = 8;
        truth.wide = {.size = {101, 81}, .f_px = 100};
        truth.tele = {.size = {101, 81}, .f_px = 800};
        const PixelPoint tele = to_tele(truth, {52, 41});
        CHECK(tele.x == doctest::Approx(50 + 8 * 2));
        CHECK(tele.y == doctest::Approx(40 + 8 * 1));
    }

    TEST_CASE("pixel_of_ray: an ideal point moves by k1 r^3 + k2 r^5 of the half diagonal") {
        // Half diagonal 50, so the ray (0.3, 0.4) at f = 50 lies at r = 0.5 towards (0.6, 0.8)
        const CameraTruth camera{.size = {60, 80}, .f_px = 50, .k1 = 0.1, .k2 = -0.02};
        const PixelPoint p = pixel_of_ray(camera, {0.3, 0.4});
        const double r = 0.5 + 0.1 * 0.125 - 0.02 * 0.03125;
        CHECK(p.x == doctest::Approx(29.5 + 50 * r * 0.6).epsilon(1e-14));
        CHECK(p.y == doctest::Approx(39.5 + 50 * r * 0.8).epsilon(1e-14));
    }

    TEST_CASE("rotation_matrix: a quarter turn about each axis") {
        const double quarter = std::acos(-1.0) / 2;
        const auto about_z = rotation_matrix({0, 0, quarter});
        CHECK(about_z[3] == doctest::Approx(1));  // x goes to y
        CHECK(about_z[1] == doctest::Approx(-1));
        CHECK(about_z[8] == doctest::Approx(1));
        const auto about_y = rotation_matrix({0, quarter, 0});
        CHECK(about_y[2] == doctest::Approx(1));  // z goes to x
        const auto about_x = rotation_matrix({quarter, 0, 0});
        CHECK(about_x[7] == doctest::Approx(1));  // y goes to z
    }

    TEST_CASE("nominal_crop: the sizes of registration.md 6, about the tele frame's centre") {
        const std::array<std::array<int, 3>, 4> table{
            {{8, 378, 251}, {10, 302, 200}, {12, 252, 167}, {14, 216, 143}}};
        for (const auto& [scale, width, height] : table) {
            const PairTruth truth = drawn_pair(scale, 3);
            const PixelRect crop = nominal_crop(truth);
            CHECK(crop.width == width);
            CHECK(crop.height == height);
            // The crop's middle is within half an LR pixel of the place of the tele centre
            const PixelPoint centre = to_wide(truth, {0.5 * 6047, 0.5 * 4023});
            CHECK(std::abs(crop.x + 0.5 * (width - 1) - centre.x) <= 0.5 + 1e-9);
            CHECK(std::abs(crop.y + 0.5 * (height - 1) - centre.y) <= 0.5 + 1e-9);
            // Its corners are in the tele frame
            for (const PixelPoint& point : check_grid(truth)) {
                const PixelPoint tele = to_tele(truth, point);
                CHECK(tele.x > 0);
                CHECK(tele.y > 0);
                CHECK(tele.x < 6047);
                CHECK(tele.y < 4023);
            }
        }
    }

    TEST_CASE("undistortion: a lens that folds the picture is refused") {
        const CameraTruth camera{.size = {60, 80}, .f_px = 50, .k1 = -1};
        CHECK_THROWS_WITH_AS(undistortion(camera, 1.0), doctest::Contains("folds"), Error);
    }

    TEST_CASE("read_truth: pairs come back; another format or version is refused") {
        test::TemporaryFolder folder;
        const auto path = folder.path() / "truth.json";
        const PairTruth one = drawn_pair(8, 1), two = drawn_pair(14, 2);
        Json file{{"format", truth_format},
                  {"version", truth_version},
                  {"pairs", {truth_to_json(one), truth_to_json(two)}}};
        write_file(path, dump_json(file));
        const auto pairs = read_truth(path);
        REQUIRE(pairs.size() == 2);
        CHECK(pairs[1].scene == two.scene);
        CHECK(pairs[1].scale == 14);
        CHECK(pairs[1].scale_true == two.scale_true);
        CHECK(pairs[1].wide_file == two.wide_file);
        CHECK(pairs[1].tele_file == two.tele_file);
        CHECK(pairs[1].wide.size == two.wide.size);
        CHECK(pairs[1].wide.k2 == two.wide.k2);
        CHECK(pairs[1].tele.principal_offset == two.tele.principal_offset);
        CHECK(pairs[1].rotation == two.rotation);
        CHECK(pairs[1].fault == "parallax");

        file["version"] = truth_version + 1;
        write_file(path, dump_json(file));
        CHECK_THROWS_WITH_AS(read_truth(path), doctest::Contains("version 2"), Error);
        file["version"] = truth_version;
        file["pairs"][0].erase("rotation");
        write_file(path, dump_json(file));
        CHECK_THROWS_WITH_AS(read_truth(path), doctest::Contains("rotation"), Error);
        write_file(path, "{}");
        CHECK_THROWS_WITH_AS(read_truth(path), doctest::Contains("ultrasr-truth"), Error);
    }
}

TEST_SUITE("property") {
    TEST_CASE("to_wide undoes to_tele to 1e-9 px, over the whole tele frame") {
        for (const double scale : {8.0, 14.0}) {
            for (std::uint64_t seed = 0; seed < 8; ++seed) {
                const PairTruth truth = drawn_pair(scale, seed);
                for (double y = 0; y <= 4023; y += 447) {
                    for (double x = 0; x <= 6047; x += 671.9) {
                        const PixelPoint there = to_wide(truth, {x, y});
                        CHECK(distance(to_tele(truth, there), {x, y}) < 1e-9 * scale);
                        CHECK(distance(to_wide(truth, to_tele(truth, there)), there) < 1e-9);
                    }
                }
            }
        }
    }

    TEST_CASE("truth_to_json: 117 check points, each pair of them joined by to_tele") {
        const PairTruth truth = drawn_pair(10, 5);
        const Json json = parse_json(dump_json(truth_to_json(truth)), "truth");
        const Json& wide = json["check_points"]["wide"];
        const Json& tele = json["check_points"]["tele"];
        REQUIRE(wide.size() == 117);
        REQUIRE(tele.size() == 117);
        for (std::size_t i = 0; i < wide.size(); ++i) {
            const PixelPoint p{wide[i][0].get<double>(), wide[i][1].get<double>()};
            const PixelPoint q{tele[i][0].get<double>(), tele[i][1].get<double>()};
            CHECK(distance(to_tele(truth, p), q) < 1e-9);
        }
        // From the first pixel's centre to the last one's, rows first
        const PixelRect crop = nominal_crop(truth);
        CHECK(wide[0][0].get<double>() == crop.x);
        CHECK(wide[12][0].get<double>() == crop.x + crop.width - 1);
        CHECK(wide[12][1].get<double>() == crop.y);
        CHECK(wide[116][1].get<double>() == crop.y + crop.height - 1);
    }
}
