#include "acquisition/lens_render.h"

#include <cmath>
#include <vector>
#include <opencv2/core.hpp>

#include "acquisition/truth.h"
#include "data/base/random.h"

#include "tests/test.h"

using namespace ultrasr;

namespace {

constexpr double blob_sigma = 0.8;  // LR px
constexpr float ground = 0.1F, blob_light = 0.8F;

/// Blobs of light at known places on an even ground, as a picture of 10 pixels an LR px.
struct BlobWorld {
    SimulatedWorld world;
    std::vector<PixelPoint> places;

    explicit BlobWorld(const WorldRect& rect, double pitch = 16) {
        constexpr double density = 10;
        Rng rng(7, 0);
        for (double y = rect.y0 + pitch; y < rect.y1 - pitch / 2; y += pitch) {
            for (double x = rect.x0 + pitch; x < rect.x1 - pitch / 2; x += pitch) {
                places.push_back({x + 3 * (rng.uniform() - 0.5), y + 3 * (rng.uniform() - 0.5)});
            }
        }
        cv::Mat light(static_cast<int>(rect.height() * density),
                      static_cast<int>(rect.width() * density), CV_32F, cv::Scalar(ground));
        for (const PixelPoint& p : places) {
            const int reach = static_cast<int>(6 * blob_sigma * density);
            const int cx = static_cast<int>((p.x - rect.x0) * density);
            const int cy = static_cast<int>((p.y - rect.y0) * density);
            for (int row = std::max(0, cy - reach); row < std::min(light.rows, cy + reach); ++row) {
                for (int column = std::max(0, cx - reach);
                     column < std::min(light.cols, cx + reach); ++column) {
                    const double dx = rect.x0 + (column + 0.5) / density - p.x;
                    const double dy = rect.y0 + (row + 0.5) / density - p.y;
                    light.at<float>(row, column) +=
                        static_cast<float>(blob_light * std::exp(-0.5 * (dx * dx + dy * dy) /
                                                                 (blob_sigma * blob_sigma)));
                }
            }
        }
        LinearPlanes planes;
        for (cv::Mat& plane : planes) light.convertTo(plane, CV_16U, 65535);
        world.add_tile(rect, planes, {.strength = 0});
    }
};

/// Centre of the light above the ground within `radius` pixels.
PixelPoint centroid(const cv::Mat& light, PixelPoint near, double radius) {
    double sum = 0, x_sum = 0, y_sum = 0;
    for (int y = 0; y < light.rows; ++y) {
        if (std::abs(y - near.y) > radius) continue;
        for (int x = 0; x < light.cols; ++x) {
            if (std::hypot(x - near.x, y - near.y) > radius) continue;
            const double v = light.at<float>(y, x) - ground;
            sum += v;
            x_sum += v * x;
            y_sum += v * y;
        }
    }
    return {x_sum / sum, y_sum / sum};
}

PairTruth small_pair() {
    PairTruth truth;
    truth.scale = 8;
    truth.wide = {.size = {1512, 1006},
                  .f_px = 1176,
                  .k1 = -0.04,
                  .k2 = 0.008,
                  .principal_offset = {2.2, -1.7}};
    truth.tele = {.size = {1512, 1006},
                  .f_px = 1176 * 8.2,
                  .k1 = 0.009,
                  .k2 = 0,
                  .principal_offset = {11, -9}};
    truth.rotation = {0.008, -0.011, 0.03};
    return truth;
}

double distance(PixelPoint a, PixelPoint b) { return std::hypot(a.x - b.x, a.y - b.y); }

/// Variances of the light above the ground about its centre, along x and y, and its sum.
struct Spread {
    double xx = 0, yy = 0, xy = 0, sum = 0;
    PixelPoint centre;
};

Spread spread_of(const cv::Mat& light, PixelPoint near, double radius) {
    Spread s;
    s.centre = centroid(light, near, radius);
    for (int y = 0; y < light.rows; ++y) {
        for (int x = 0; x < light.cols; ++x) {
            if (std::hypot(x - near.x, y - near.y) > radius) continue;
            const double v = light.at<float>(y, x) - ground;
            const double dx = x - s.centre.x, dy = y - s.centre.y;
            s.sum += v;
            s.xx += v * dx * dx;
            s.yy += v * dy * dy;
            s.xy += v * dx * dy;
        }
    }
    s.xx /= s.sum, s.yy /= s.sum, s.xy /= s.sum;
    return s;
}

/// A plain camera that sees the world as it is, in the middle of a frame of 1001 x 1001, `ratio`
/// pixels per LR px.
LensView plain_view(double ratio) {
    LensView view;
    view.camera = {.size = {1001, 1001}, .f_px = 1000 * ratio};
    view.wide_f_px = 1000;
    return view;
}

/// One blob in the middle of a small world.
const BlobWorld& one_blob() {
    static const BlobWorld blobs({-40, -40, 40, 40}, 40);
    return blobs;
}

bool inside(PixelSize size, PixelPoint p, double border) {
    return p.x > border && p.y > border && p.x < size.width - 1 - border &&
           p.y < size.height - 1 - border;
}

}  // namespace

TEST_SUITE("property") {
    TEST_CASE("render_window: light lands where the truth says, to 0.001 LR px, wide and tele") {
        const PairTruth truth = small_pair();
        const BlobWorld blobs({-140, -110, 140, 110});
        SimulatedScene scene;
        scene.world = &blobs.world;
        LensView wide_view{.camera = truth.wide, .wide_f_px = truth.wide.f_px};
        LensView tele_view{.camera = truth.tele,
                           .wide_f_px = truth.wide.f_px,
                           .world_from_camera = transposed(rotation_matrix(truth.rotation))};

        // Every second blob serves; both frames are rendered as the simulator does
        const PixelRect window{600, 370, 320, 260};
        const cv::Mat wide =
            render_window(scene, RowPlaces(wide_view), window, 6, {.sigma_px = 0.5})[1];
        const PixelRect whole{0, 0, truth.tele.size.width, truth.tele.size.height};
        const cv::Mat tele =
            render_window(scene, RowPlaces(tele_view), whole, 1, {.sigma_px = 1.1})[1];
        int wide_count = 0, tele_count = 0;
        double wide_worst = 0, tele_worst = 0, pair_worst = 0;
        for (const PixelPoint& place : blobs.places) {
            const PixelPoint ray{place.x / truth.wide.f_px, place.y / truth.wide.f_px};
            const PixelPoint in_wide = pixel_of_ray(truth.wide, ray);
            const PixelPoint in_window{in_wide.x - window.x, in_wide.y - window.y};
            if (!inside({window.width, window.height}, in_window, 7)) continue;
            const PixelPoint seen_wide = centroid(wide, in_window, 6);
            wide_worst = std::max(wide_worst, distance(seen_wide, in_window));
            ++wide_count;
            const PixelPoint in_tele = to_tele(truth, in_wide);
            if (!inside(truth.tele.size, in_tele, 8 * 6)) continue;
            const PixelPoint seen_tele = centroid(tele, in_tele, 8 * 5.5);
            tele_worst = std::max(tele_worst, distance(seen_tele, in_tele) / truth.scale);
            const PixelPoint back = to_wide(truth, seen_tele);
            pair_worst =
                std::max(pair_worst, distance({back.x - window.x, back.y - window.y}, seen_wide));
            ++tele_count;
        }
        MESSAGE("blobs " << wide_count << ", " << tele_count << "; worst, LR px: wide "
                         << wide_worst << ", tele " << tele_worst << ", pair " << pair_worst);
        CHECK(wide_count >= 150);
        CHECK(tele_count >= 40);
        CHECK(wide_worst < 0.001);
        CHECK(tele_worst < 0.001);
        CHECK(pair_worst < 0.0015);
    }

    TEST_CASE("render_window: blur and pixel square have the width asked for") {
        const BlobWorld& blobs = one_blob();
        REQUIRE(blobs.places.size() == 1);
        SimulatedScene scene;
        scene.world = &blobs.world;
        struct Case {
            double ratio;
            int samples;
            double sigma;
        };
        for (const Case& c : {Case{1, 6, 0.35}, Case{1, 6, 0.75}, Case{1, 2, 0.6}, Case{1, 6, 2.5},
                              Case{8, 1, 0.7}, Case{8, 1, 1.6}}) {
            CAPTURE(c.ratio);
            CAPTURE(c.samples);
            CAPTURE(c.sigma);
            const PixelPoint at{500 + c.ratio * blobs.places[0].x,
                                500 + c.ratio * blobs.places[0].y};
            const double radius = 5 * std::hypot(c.ratio * blob_sigma, c.sigma);
            const int half = static_cast<int>(radius) + 3;
            const PixelRect window{static_cast<int>(at.x) - half, static_cast<int>(at.y) - half,
                                   2 * half + 1, 2 * half + 1};
            const LightPlanes light = render_window(scene, RowPlaces(plain_view(c.ratio)), window,
                                                    c.samples, {.sigma_px = c.sigma});
            const Spread s = spread_of(light[1], {at.x - window.x, at.y - window.y}, radius);
            // The blob, the Gaussian, the square; the world's pixels add 0.0017 LR px^2 at most
            const double expected =
                std::pow(c.ratio * blob_sigma, 2) + c.sigma * c.sigma + 1.0 / 12;
            const double pixels = 0.005 * c.ratio * c.ratio;
            CHECK(std::abs(s.xx - expected) < 0.01 * expected + pixels);
            CHECK(std::abs(s.yy - expected) < 0.01 * expected + pixels);
            CHECK(std::abs(s.xy) < 0.002 * expected);
            // No light is lost: 2 pi sigma^2 of the blob
            const double sum = 2 * std::acos(-1.0) * std::pow(c.ratio * blob_sigma, 2) * blob_light;
            CHECK(s.sum == doctest::Approx(sum).epsilon(0.003));
        }
    }

    TEST_CASE("render_window: a shake spreads light along its line and does not move it") {
        const BlobWorld& blobs = one_blob();
        SimulatedScene scene;
        scene.world = &blobs.world;
        const double dx = 21, dy = -13;
        const PixelPoint at{500 + 8 * blobs.places[0].x, 500 + 8 * blobs.places[0].y};
        const PixelRect window{static_cast<int>(at.x) - 60, static_cast<int>(at.y) - 60, 121, 121};
        const PixelPoint middle{at.x - window.x, at.y - window.y};
        const RowPlaces places(plain_view(8));
        const Spread still =
            spread_of(render_window(scene, places, window, 1, {.sigma_px = 1})[1], middle, 55);
        const Spread shaken =
            spread_of(render_window(scene, places, window, 1,
                                    {.sigma_px = 1, .line_dx_px = dx, .line_dy_px = dy})[1],
                      middle, 55);
        CHECK(distance(still.centre, shaken.centre) < 0.005);
        CHECK(shaken.sum == doctest::Approx(still.sum).epsilon(1e-4));
        // A line of length L has the variance L^2 / 12; bilinear shares add up to a quarter
        CHECK(std::abs(shaken.xx - still.xx - dx * dx / 12) < 0.35);
        CHECK(std::abs(shaken.yy - still.yy - dy * dy / 12) < 0.35);
        CHECK(shaken.xy - still.xy == doctest::Approx(dx * dy / 12).epsilon(0.02));
    }

    TEST_CASE("BlurredFrame: as wide as asked, and nothing moves") {
        const BlobWorld& blobs = one_blob();
        SimulatedScene scene;
        scene.world = &blobs.world;
        const RowPlaces places(plain_view(8));
        const PixelPoint at{500 + 8 * blobs.places[0].x, 500 + 8 * blobs.places[0].y};
        for (const double sigma : {8.5, 17.0, 26.0}) {
            CAPTURE(sigma);
            REQUIRE(BlurredFrame::serves({.sigma_px = sigma}));
            const BlurredFrame frame(scene, places, {1001, 1001}, {.sigma_px = sigma});
            const LightPlanes light = frame.window({0, 0, 1001, 1001});
            const Spread s = spread_of(light[1], at, 4.5 * std::hypot(sigma, 6.4));
            CHECK(distance(s.centre, at) < 0.002 * sigma);
            CHECK(s.xx == doctest::Approx(sigma * sigma + 6.4 * 6.4).epsilon(0.02));
            CHECK(s.yy == doctest::Approx(sigma * sigma + 6.4 * 6.4).epsilon(0.02));
        }
    }

    TEST_CASE("render_window: a colour thrown too large lies further out by its share") {
        const BlobWorld blobs({-60, -60, 60, 60});
        SimulatedScene scene;
        scene.world = &blobs.world;
        LensView view = plain_view(1);
        const double h = view.camera.half_diagonal();
        view.magnification = {1 + 3 / h, 1, 1 - 3 / h};  // 3 px in the corner
        const PixelRect window{420, 420, 161, 161};
        const LightPlanes light =
            render_window(scene, RowPlaces(view), window, 6, {.sigma_px = 0.5});
        int seen = 0;
        for (const PixelPoint& place : blobs.places) {
            const PixelPoint at{80 + place.x, 80 + place.y};
            const PixelPoint red = centroid(light[0], at, 5), green = centroid(light[1], at, 5),
                             blue = centroid(light[2], at, 5);
            CHECK(red.x - green.x == doctest::Approx(3 / h * place.x).epsilon(0.02).scale(0.01));
            CHECK(red.y - green.y == doctest::Approx(3 / h * place.y).epsilon(0.02).scale(0.01));
            CHECK(blue.x - green.x == doctest::Approx(-3 / h * place.x).epsilon(0.02).scale(0.01));
            ++seen;
        }
        CHECK(seen >= 25);
    }

    TEST_CASE("RowPlaces: the straight lines between traced rays miss by less than 1e-4 px") {
        const PairTruth truth = small_pair();
        for (const bool tele : {false, true}) {
            LensView view;
            view.camera = tele ? truth.tele : truth.wide;
            view.wide_f_px = truth.wide.f_px;
            if (tele) view.world_from_camera = transposed(rotation_matrix(truth.rotation));
            const RowPlaces places(view);
            std::vector<double> x(1512), y(1512);
            double worst = 0;
            for (const double row : {0.0, 333.25, 1005.0}) {
                places.trace(1, 0, 1, row, x, y);
                for (std::size_t i = 0; i < x.size(); ++i) {
                    const PixelPoint ray =
                        rotate_ray(view.world_from_camera,
                                   ray_of_pixel(view.camera, {static_cast<double>(i), row}));
                    const PixelPoint exact{ray.x * view.wide_f_px, ray.y * view.wide_f_px};
                    worst = std::max(worst, distance(exact, {x[i], y[i]}));
                }
            }
            CHECK(worst / places.world_per_pixel() < 1e-4);
        }
    }
}
