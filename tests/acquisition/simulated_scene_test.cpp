#include "acquisition/simulated_scene.h"

#include <cmath>
#include <numeric>
#include <opencv2/core.hpp>

#include "acquisition/texture_noise.h"
#include "acquisition/world_pictures.h"
#include "data/base/error.h"
#include "data/image_io.h"

#include "tests/test.h"

using namespace ultrasr;

namespace {

/// A picture of one colour; light in [0,1].
LinearPlanes even_planes(int columns, int rows, std::array<double, 3> light) {
    LinearPlanes planes;
    for (std::size_t c = 0; c < 3; ++c) {
        planes[c] = cv::Mat(rows, columns, CV_16U, cv::Scalar(std::round(65535 * light[c])));
    }
    return planes;
}

/// Red rises to the right by 0.01 per LR px, green downwards, blue is even; 0.5 at the origin.
SimulatedWorld sloping_world(double half_side) {
    const int side = static_cast<int>(4 * half_side);  // 2 pixels per LR px
    LinearPlanes planes = even_planes(side, side, {0, 0, 0.3});
    for (int y = 0; y < side; ++y) {
        for (int x = 0; x < side; ++x) {
            const auto light = [&](int at) {
                return static_cast<std::uint16_t>(
                    std::lround(65535 * (0.5 + 0.01 * ((at + 0.5) / 2 - half_side))));
            };
            planes[0].at<std::uint16_t>(y, x) = light(x);
            planes[1].at<std::uint16_t>(y, x) = light(y);
        }
    }
    SimulatedWorld world;
    world.add_tile({-half_side, -half_side, half_side, half_side}, planes, {.strength = 0});
    return world;
}

/// The place in sloping_world whose light is seen at (x, y).
PixelPoint seen_place(const SimulatedScene& scene, double x, double y) {
    std::array<float, 2> light{};
    for (int c = 0; c < 2; ++c) {
        std::vector<double> xs{x}, ys{y};
        scene.sample(c, 0.5, xs, ys, {&light[static_cast<std::size_t>(c)], 1});
    }
    return {(light[0] - 0.5) / 0.01, (light[1] - 0.5) / 0.01};
}

float sample(const SimulatedWorld& world, int channel, double spacing, double x, double y) {
    float light = 0;
    world.sample(channel, spacing, {&x, 1}, {&y, 1}, {&light, 1});
    return light;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("SimulatedWorld: the tile added first is seen, grey beyond all") {
        SimulatedWorld world;
        world.add_tile({-2, -2, 2, 2}, even_planes(16, 16, {0.1, 0.2, 0.3}));
        world.add_tile({-10, -10, 10, 10}, even_planes(40, 40, {0.4, 0.5, 0.6}));
        CHECK(sample(world, 0, 0.5, 1.9, 0) == doctest::Approx(0.1).epsilon(1e-4));
        CHECK(sample(world, 2, 0.5, -1.9, 1.9) == doctest::Approx(0.3).epsilon(1e-4));
        CHECK(sample(world, 1, 0.5, 2.1, 0) == doctest::Approx(0.5).epsilon(1e-4));
        CHECK(sample(world, 1, 0.5, 11, 0) == doctest::Approx(0.18));
        CHECK(world.luminance_quantile({-1, -1, 1, 1}, 0.5) ==
              doctest::Approx(0.2126 * 0.1 + 0.7152 * 0.2 + 0.0722 * 0.3).epsilon(1e-4));
    }

    TEST_CASE("SimulatedWorld: a long row across tiles answers like its single places") {
        SimulatedWorld world;
        world.add_tile({-3, -1, 3, 1.2}, even_planes(24, 8, {0.1, 0.1, 0.1}));
        world.add_tile({3, -5, 7, 5}, even_planes(24, 40, {0.2, 0.2, 0.2}));
        world.add_tile({-9, -9, 9, 9}, even_planes(60, 60, {0.3, 0.3, 0.3}));
        std::vector<double> x, y;
        for (int i = 0; i < 400; ++i) {
            x.push_back(-10 + 0.05 * i);
            y.push_back(0.9 + 0.06 * (-10 + 0.05 * i));  // cuts the corners of the first tile
        }
        std::vector<float> row(x.size());
        world.sample(0, 0.05, x, y, row);
        for (std::size_t i = 0; i < x.size(); ++i) {
            CHECK(row[i] == sample(world, 0, 0.05, x[i], y[i]));
        }
    }

    TEST_CASE("SimulatedWorld: coarse levels lie where the fine one does") {
        const SimulatedWorld world = sloping_world(24);
        for (const double spacing : {0.1, 0.5, 0.9, 2.0, 5.0}) {
            CAPTURE(spacing);
            CHECK(sample(world, 0, spacing, 3.3, -7.1) == doctest::Approx(0.533).epsilon(1e-4));
            CHECK(sample(world, 1, spacing, 3.3, -7.1) == doctest::Approx(0.429).epsilon(1e-4));
        }
    }

    TEST_CASE("SimulatedWorld: texture shows in fine samples and has no mean over an LR px") {
        SimulatedWorld world;
        // Light and dark pixels in turn are as contrasty as can be, so the texture is at its limit
        LinearPlanes planes = even_planes(120, 120, {0.5, 0.5, 0.5});
        const FineTexture texture{.strength = 0, .least = 0.08};
        world.add_tile({-20, -20, 20, 20}, planes, texture);
        double square = 0;
        std::vector<double> means;
        for (int j = 0; j < 20; ++j) {
            for (int i = 0; i < 20; ++i) {
                double mean = 0;
                for (int k = 0; k < 256; ++k) {
                    const double x = -15 + 1.5 * i + (k % 16 + 0.5) / 16;
                    const double y = -15 + 1.5 * j + (k / 16 + 0.5) / 16;
                    const double deviation = sample(world, 1, 1.0 / 14, x, y) / 0.5 - 1;
                    square += deviation * deviation / (400 * 256);
                    mean += deviation / 256;
                }
                means.push_back(mean);
            }
        }
        // Two octaves of 0.08 each, less what bilinear steps lose; over an LR px little is left
        CHECK(std::sqrt(square) ==
              doctest::Approx(0.93 * 0.08 * std::sqrt(2.0)).epsilon(0.1).scale(0));
        double mean_square = 0;
        for (const double m : means) mean_square += m * m / static_cast<double>(means.size());
        CHECK(std::sqrt(mean_square) < 0.006);
        // A wide frame's coarse samples see none
        CHECK(sample(world, 1, 0.5, 3.3, 4.4) == doctest::Approx(0.5).epsilon(1e-4));
    }

    TEST_CASE("linear_planes: the 256 levels of a file keep their light") {
        Image image(PixelSize{256, 1});
        for (int x = 0; x < 256; ++x) {
            for (int c = 0; c < 3; ++c) image.row_(0)[3 * x + c] = static_cast<float>(x) / 255.0F;
        }
        const LinearPlanes planes = linear_planes(image);
        const auto light = [&](int x) { return planes[1].at<std::uint16_t>(0, x) / 65535.0; };
        CHECK(light(0) == 0);
        CHECK(light(255) == 1);
        CHECK(light(10) == doctest::Approx(10 / 255.0 / 12.92).epsilon(0.003).scale(0));
        CHECK(light(128) ==
              doctest::Approx(std::pow((128 / 255.0 + 0.055) / 1.055, 2.4)).epsilon(1e-4));
    }

    TEST_CASE("SimulatedScene: a cutout shows its picture where it has moved to") {
        const SimulatedWorld world = sloping_world(40);
        SimulatedScene scene;
        scene.world = &world;
        Cutout thing;
        thing.x = 5;
        thing.y = -4;
        thing.half_width = 6;
        thing.half_height = 3;
        thing.shift = {1, 2, 1};
        scene.cutouts = {thing};
        // On it the world is 2 px to the right and 1 px down of where it was
        PixelPoint seen = seen_place(scene, 8, -3);
        CHECK(seen.x == doctest::Approx(6).epsilon(0.01));
        CHECK(seen.y == doctest::Approx(-4).epsilon(0.01));
        // Beside it nothing has changed: it reaches from 1 to 13 in x at y = -3
        CHECK(seen_place(scene, 0.8, -3).x == doctest::Approx(0.8).epsilon(0.02));
        CHECK(seen_place(scene, 1.3, -3).x == doctest::Approx(-0.7).epsilon(0.02));
        CHECK(seen_place(scene, 7, 0.2).y == doctest::Approx(0.2).epsilon(0.1).scale(0));
        // With a picture from elsewhere
        scene.cutouts[0].from_dx = 10;
        scene.cutouts[0].from_dy = 20;
        seen = seen_place(scene, 8, -3);
        CHECK(seen.x == doctest::Approx(16).epsilon(0.01));
        CHECK(seen.y == doctest::Approx(16).epsilon(0.01));
        // The first of two hides the second
        scene.cutouts.insert(scene.cutouts.begin(), thing);
        CHECK(seen_place(scene, 8, -3).x == doctest::Approx(6).epsilon(0.01));
    }

    TEST_CASE("SimulatedScene: a nearer plane is larger from a pupil that came closer") {
        const SimulatedWorld world = sloping_world(40);
        SimulatedScene scene;
        scene.world = &world;
        Cutout plane;
        plane.half_width = plane.half_height = 200;  // covers all
        plane.shift = {10.0 / (10 - 0.1), 0, 0};     // 10 m away, the pupil 0.1 m nearer
        scene.cutouts = {plane};
        CHECK(seen_place(scene, 20, -10).x == doctest::Approx(20 * 0.99).epsilon(1e-3));
        CHECK(seen_place(scene, 20, -10).y == doctest::Approx(-10 * 0.99).epsilon(1e-3));
    }

    TEST_CASE("covered_share: the area of an ellipse") {
        Cutout thing;
        thing.half_width = 3;
        thing.half_height = 2;
        thing.angle = 0.4;
        CHECK(covered_share({thing}, {-10, -10, 10, 10}) ==
              doctest::Approx(std::acos(-1.0) * 6 / 400).epsilon(0.04).scale(0));
        CHECK(covered_share({}, {-10, -10, 10, 10}) == 0);
    }

    TEST_CASE("ShiftField: the RMS asked for, alike within its reach, smooth") {
        const WorldRect rect{-400, -300, 400, 300};
        const ShiftField field(11, rect, 21, 0.2);
        const auto shift = [&](double x, double y) {
            std::vector<double> xs{x}, ys{y};
            field.shift(xs, ys);
            return PixelPoint{xs[0] - x, ys[0] - y};
        };
        double square = 0, near = 0, far = 0, greatest = 0, step = 0;
        int n = 0;
        for (double y = -295; y < 295; y += 9) {
            for (double x = -395; x < 295; x += 9) {
                const PixelPoint here = shift(x, y), beside = shift(x + 10, y),
                                 away = shift(x + 90, y), next = shift(x + 0.1, y);
                square += here.x * here.x + here.y * here.y;
                near += here.x * beside.x + here.y * beside.y;
                far += here.x * away.x + here.y * away.y;
                greatest = std::max(greatest, std::hypot(here.x, here.y));
                step = std::max(step, std::hypot(next.x - here.x, next.y - here.y));
                ++n;
            }
        }
        CHECK(std::sqrt(square / n) == doctest::Approx(0.2).epsilon(0.1).scale(0));
        CHECK(near / square > 0.8);
        CHECK(std::abs(far / square) < 0.1);
        CHECK(greatest < 1.15 * field.greatest());
        CHECK(step < 0.01);
    }

    TEST_CASE("TextureOctave: mean 0, deviation 1, its wave, and it goes on across its period") {
        const TextureOctave octave(0.4, 0.3);
        double sum = 0, square = 0, half_wave = 0, jump = 0;
        int n = 0;
        for (double y = -100; y < 100; y += 1.03) {
            for (double x = -100; x < 100; x += 0.97) {
                const double v = octave.at(x, y);
                sum += v;
                square += v * v;
                half_wave += v * octave.at(x + 0.2, y);
                jump = std::max(jump, std::abs(v - octave.at(x + 1e-4, y)));
                ++n;
            }
        }
        CHECK(std::abs(sum / n) < 0.02);
        // Bilinear steps lose a tenth of the deviation
        CHECK(std::sqrt(square / n) == doctest::Approx(0.93).epsilon(0.06).scale(0));
        CHECK(half_wave / square < -0.1);
        CHECK(jump < 0.01);
    }

    TEST_CASE("photo_world: the first photograph in the middle, the others around it") {
        test::TemporaryFolder folder;
        std::vector<std::filesystem::path> files;
        for (int k = 0; k < 9; ++k) {
            Image image(PixelSize{96, 80});
            for (int y = 0; y < 80; ++y) {
                for (int x = 0; x < 96; ++x) {
                    image.row_(y)[3 * x] = static_cast<float>(20 * (k + 1)) / 255.0F;
                    image.row_(y)[3 * x + 1] = 0.5F;
                    image.row_(y)[3 * x + 2] = 0.25F;
                }
            }
            files.push_back(folder.path() / ("photo" + std::to_string(k) + ".png"));
            write_png(files.back(), image);
        }
        WorldExtent extent;
        extent.frame = {-150, -100, 150, 100};
        extent.detail = {-30, -20, 30, 20};
        extent.centre = {-20, -13, 20, 13};
        extent.finest = 8;
        const SimulatedWorld world = photo_world(extent, files);
        const auto shown = [&](double x, double y) {
            const double light = sample(world, 0, 0.5, x, y);
            const double coded =
                light <= 0.0031308 ? 12.92 * light : 1.055 * std::pow(light, 1 / 2.4) - 0.055;
            return static_cast<int>(std::lround(coded * 255 / 20)) - 1;
        };
        CHECK(shown(0, 0) == 0);
        CHECK(shown(19, 12) == 0);
        const std::array<std::array<double, 2>, 8> ring{{{-100, -60},
                                                         {0, -60},
                                                         {100, -60},
                                                         {-100, 0},
                                                         {100, 0},
                                                         {-100, 60},
                                                         {0, 60},
                                                         {100, 60}}};
        for (std::size_t k = 0; k < ring.size(); ++k) {
            CHECK(shown(ring[k][0], ring[k][1]) == static_cast<int>(k) + 1);
        }
        CHECK(shown(25, 0) == 5);  // in the detail, beside the centre: the same photograph
        files.pop_back();
        CHECK_THROWS_WITH_AS(photo_world(extent, files), doctest::Contains("nine"), Error);
    }

    TEST_CASE("dead_leaves_world: the fine and the coarse picture show the same leaves") {
        WorldExtent extent;
        extent.frame = {-90, -60, 90, 60};
        extent.detail = {-30, -20, 30, 20};
        extent.centre = extent.detail;
        extent.finest = 8;
        const SimulatedWorld fine = dead_leaves_world(extent, 5);
        extent.detail = {-2, -2, 2, 2};
        const SimulatedWorld coarse = dead_leaves_world(extent, 5);
        const SimulatedWorld other = dead_leaves_world(extent, 6);
        // Correlation of luminance at 3 LR px, in what only `fine` shows finely
        const auto correlation = [&](const SimulatedWorld& a, const SimulatedWorld& b) {
            std::vector<double> va, vb;
            for (double y = -17; y < 17; y += 1.5) {
                for (double x = 4; x < 27; x += 1.5) {
                    va.push_back(std::sqrt(sample(a, 1, 1.5, x, y)));
                    vb.push_back(std::sqrt(sample(b, 1, 1.5, x, y)));
                }
            }
            const double n = static_cast<double>(va.size());
            const double ma = std::accumulate(va.begin(), va.end(), 0.0) / n;
            const double mb = std::accumulate(vb.begin(), vb.end(), 0.0) / n;
            double ab = 0, aa = 0, bb = 0;
            for (std::size_t i = 0; i < va.size(); ++i) {
                ab += (va[i] - ma) * (vb[i] - mb);
                aa += (va[i] - ma) * (va[i] - ma);
                bb += (vb[i] - mb) * (vb[i] - mb);
            }
            return ab / std::sqrt(aa * bb);
        };
        CHECK(correlation(fine, coarse) > 0.9);
        CHECK(std::abs(correlation(coarse, other)) < 0.5);
    }
}
