#include "registration/camera_map.h"

#include <cmath>

#include "data/base/error.h"
#include "data/base/random.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

constexpr PairGeometry geometry{{6048, 4024}, {6048, 4024}, 4704, 8};

/// Parameters of the size a real pair has.
Parameters some_theta(MotionModel model, Rng& rng) {
    const auto within = [&](double limit) { return (2 * rng.uniform() - 1) * limit; };
    if (model == MotionModel::camera) {
        return {within(0.01), within(0.01), within(0.03), within(0.03),
                within(0.01), within(0.01), within(0.012)};
    }
    return {within(0.03),  within(0.03),  within(0.1),
            within(0.03),  within(0.03),  within(0.1),
            within(0.003), within(0.003), model == MotionModel::homography_k ? within(0.012) : 0};
}

constexpr std::array models{MotionModel::camera, MotionModel::homography_k, MotionModel::homography,
                            MotionModel::affine};

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("CameraMap: all zero is the nominal map, centre on centre, scale times") {
        for (const MotionModel model : models) {
            const CameraMap map(model, geometry);
            const PixelPoint centre = map({3023.5, 2011.5});
            CHECK(centre.x == doctest::Approx(3023.5));
            CHECK(centre.y == doctest::Approx(2011.5));
            const PixelPoint beside = map({3023.5 + 10, 2011.5 - 5});
            CHECK(beside.x == doctest::Approx(3023.5 + 80).epsilon(1e-4));
            CHECK(beside.y == doctest::Approx(2011.5 - 40).epsilon(1e-4));
        }
    }

    TEST_CASE("CameraMap: roll by hand") {
        // 90 degrees about the axis: x becomes y
        const CameraMap map(MotionModel::camera, geometry, {0, 0, std::acos(0.0)});
        const PixelPoint t = map({3023.5 + 10, 2011.5});
        CHECK(t.x == doctest::Approx(3023.5));
        CHECK(t.y == doctest::Approx(2011.5 + 80).epsilon(1e-4));
    }

    TEST_CASE("motion_model: names there and back, unknown ones are a usage fault") {
        for (const MotionModel model : models) CHECK(motion_model(name_of(model)) == model);
        CHECK_THROWS_AS(motion_model("rigid"), Error);
    }

    TEST_CASE("fit_map: 30 % wild points do not move the map by 0.01 LR px") {
        Rng rng(3, 0);
        const CameraMap truth(MotionModel::camera, geometry, some_theta(MotionModel::camera, rng));
        std::vector<PointPair> points;
        for (int i = 0; i < 300; ++i) {
            const PixelPoint x{2700 + 650 * rng.uniform(), 1800 + 430 * rng.uniform()};
            PixelPoint t = truth(x);
            if (i % 10 < 3) t = {t.x + 400 * rng.uniform(), t.y - 300 * rng.uniform()};
            points.push_back({x, t});
        }
        const CameraMap fitted = fit_map(CameraMap(MotionModel::camera, geometry), points);
        CHECK(rms_between(fitted, truth, {2700, 1800, 650, 430}) < 0.01);
        CHECK(rms_between(CameraMap(MotionModel::camera, geometry), truth, {2700, 1800, 650, 430}) >
              1);
    }

    TEST_CASE("fit_map: too few points are refused") {
        const std::vector<PointPair> two{{{3000, 2000}, {3000, 2000}},
                                         {{3010, 2000}, {3080, 2000}}};
        CHECK_THROWS_AS(fit_map(CameraMap(MotionModel::homography, geometry), two), Error);
    }

    TEST_CASE("check_grid: 13 x 9 places from the first to the last pixel centre") {
        const auto grid = check_grid({100, 50, 25, 17});
        REQUIRE(grid.size() == 117);
        CHECK(grid.front() == PixelPoint{100, 50});
        CHECK(grid.back() == PixelPoint{124, 66});
        CHECK(grid[1] == PixelPoint{102, 50});
    }

    TEST_CASE("a plane cannot follow an uncorrected tele lens, the camera can") {
        // registration.md 2.1: affine and homography stay above 0.14 LR px, camera below 0.02
        Rng rng(4, 0);
        Parameters theta = some_theta(MotionModel::camera, rng);
        theta[6] = 0.008;
        const CameraMap truth(MotionModel::camera, geometry, theta);
        const PixelPoint middle = truth.inverse(geometry.tele_centre());
        const PixelRect footprint{static_cast<int>(middle.x) - 378,
                                  static_cast<int>(middle.y) - 251, 756, 503};
        const PixelRect crop{static_cast<int>(middle.x) - 189, static_cast<int>(middle.y) - 125,
                             378, 251};
        CHECK(rms_between(convert_map(truth, MotionModel::affine, footprint), truth, crop) > 0.14);
        CHECK(rms_between(convert_map(truth, MotionModel::homography, footprint), truth, crop) >
              0.14);
        CHECK(rms_between(convert_map(truth, MotionModel::homography_k, footprint), truth, crop) <
              0.05);
    }
}

TEST_SUITE("property") {
    TEST_CASE("CameraMap: derivatives equal differences, for every model") {
        Rng rng(1, 0);
        for (const MotionModel model : models) {
            for (int trial = 0; trial < 20; ++trial) {
                const Parameters theta = some_theta(model, rng);
                const CameraMap map(model, geometry, theta);
                const PixelPoint x{2650 + 750 * rng.uniform(), 1760 + 500 * rng.uniform()};
                MapDerivatives d;
                const PixelPoint t = map.with_derivatives(x, d);
                CHECK(t.x == doctest::Approx(map(x).x).epsilon(1e-12));
                for (int p = 0; p < map.parameters(); ++p) {
                    const auto k = static_cast<std::size_t>(p);
                    const double h = 1e-6;  // differences of order h^2 times the third derivative
                    Parameters low = theta, high = theta;
                    low[k] -= h;
                    high[k] += h;
                    const PixelPoint a = CameraMap(model, geometry, low)(x);
                    const PixelPoint b = CameraMap(model, geometry, high)(x);
                    CHECK(d.by_parameter[k].x ==
                          doctest::Approx((b.x - a.x) / (2 * h)).epsilon(1e-5).scale(100));
                    CHECK(d.by_parameter[k].y ==
                          doctest::Approx((b.y - a.y) / (2 * h)).epsilon(1e-5).scale(100));
                }
                const PixelPoint left = map({x.x - 0.01, x.y}), right = map({x.x + 0.01, x.y});
                const PixelPoint up = map({x.x, x.y - 0.01}), down = map({x.x, x.y + 0.01});
                CHECK(d.by_x.x == doctest::Approx((right.x - left.x) / 0.02).epsilon(1e-6));
                CHECK(d.by_x.y ==
                      doctest::Approx((right.y - left.y) / 0.02).epsilon(1e-6).scale(1));
                CHECK(d.by_y.x == doctest::Approx((down.x - up.x) / 0.02).epsilon(1e-6).scale(1));
                CHECK(d.by_y.y == doctest::Approx((down.y - up.y) / 0.02).epsilon(1e-6));
            }
        }
    }

    TEST_CASE("CameraMap: inverse is the inverse, a row equals its points") {
        Rng rng(2, 0);
        for (const MotionModel model : models) {
            const CameraMap map(model, geometry, some_theta(model, rng));
            std::array<double, 50> tx{}, ty{};
            map.row(2700, 0.125, 1900.5, 50, tx.data(), ty.data());
            for (int i = 0; i < 50; ++i) {
                const PixelPoint x{2700 + 0.125 * i, 1900.5};
                const auto k = static_cast<std::size_t>(i);
                CHECK(map(x).x == tx[k]);
                CHECK(map(x).y == ty[k]);
                const PixelPoint back = map.inverse({tx[k], ty[k]});
                CHECK(back.x == doctest::Approx(x.x).epsilon(1e-12));
                CHECK(back.y == doctest::Approx(x.y).epsilon(1e-12));
            }
        }
    }
}
