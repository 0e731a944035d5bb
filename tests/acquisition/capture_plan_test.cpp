#include <cmath>
#include <nlohmann/json.hpp>

#include "acquisition/capture_plan.h"
#include "data/base/error.h"
#include "tests/acquisition/shots.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

CapturePlan plan_at(double distance_m, std::vector<double> scales = {8, 10, 12, 14}) {
    PlanOptions options;
    options.distance_m = distance_m;
    options.scales = std::move(scales);
    return plan_capture(options);
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("plan_capture: the focal lengths of the capture guide") {
        const CapturePlan plan = plan_at(30);
        REQUIRE(plan.frames.size() == 5);
        const double expected[5][2]{{28, 28}, {224, 230}, {280, 290}, {336, 350}, {392, 400}};
        for (std::size_t i = 0; i < 5; ++i) {
            CHECK(test::near(plan.frames[i].from_mm, expected[i][0], 1e-6));
            CHECK(test::near(plan.frames[i].to_mm, expected[i][1], 1e-6));
            CHECK(plan.frames[i].reachable);
        }
        CHECK(plan.frames[0].scale == 1);
        CHECK(plan.frames[4].scale == 14);
        CHECK_FALSE(plan_at(30, {16}).frames[1].reachable);
        CHECK(plan_at(30, {14, 8, 8}).frames.size() == 3);
    }

    TEST_CASE("plan_capture: the depths that keep parallax under 0.1 LR px (registration.md 14)") {
        const auto depth = [](double z, double s) {
            return plan_at(z, {s}).frames[1].parallax.depth_m();
        };
        CHECK(test::near(depth(10, 8), 0.44, 0.01));   // "0.4 m"
        CHECK(test::near(depth(10, 14), 0.77, 0.01));  // "0.8 m"
        CHECK(test::near(depth(30, 8), 4.0, 0.02));
        CHECK(test::near(depth(30, 14), 7.0, 0.02));
        CHECK(test::near(plan_at(30, {8}).frames[1].anything_from_m, 227, 0.002));
        CHECK(test::near(plan_at(30, {14}).frames[1].anything_from_m, 130, 0.004));
        CHECK(std::isinf(plan_at(460, {8}).frames[1].parallax.far_m));
        // The two ends differ by exactly the limit: r t (1/near - 1/far) = 0.1
        const DepthRange range = plan_at(30, {8}).frames[1].parallax;
        CHECK(test::near(226.87 * 0.1 * (1 / range.near_m - 1 / range.far_m), 0.1, 1e-4));
    }

    TEST_CASE("plan_capture: depth of field with one pixel as the limit") {
        PlanOptions options;
        options.wide_mm = 40;
        options.scales = {10};
        options.distance_m = 50;
        const CapturePlan plan = plan_capture(options);
        const DepthRange sharp = plan.frames[1].sharp;  // 400 mm, f/8, 50 m
        CHECK(test::near(sharp.depth_m(), 1.48, 0.01));
        CHECK(sharp.near_m < 50);
        CHECK(sharp.far_m > 50);
        // 28 mm, f/8: the hyperfocal distance is 16.5 m
        CHECK(std::isinf(plan_at(30).frames[0].sharp.far_m));
        CHECK(test::near(plan_at(30).frames[0].sharp.near_m, 10.7, 0.01));
        CHECK(std::isfinite(plan_at(15).frames[0].sharp.far_m));
    }

    TEST_CASE("plan_capture: what the crop shows") {
        const PlannedFrame frame = plan_at(30, {8}).frames[1];
        CHECK(test::near(frame.crop_width_m, 17.95 / 224 * 30, 0.001));
        CHECK(test::near(frame.crop_height_m / frame.crop_width_m, 2008.0 / 3024, 1e-6));
    }

    TEST_CASE("plan_text and plan_json: all frames, the checklist, scales out of reach") {
        const CapturePlan plan = plan_at(30, {8, 16});
        const std::string text = plan_text(plan);
        for (const char* words : {"224 to 230 mm", "out of reach", "28.1 m to 32.1 m", "227 m",
                                  "Vibration reduction off", "Order: 28 mm, 224-230, 28 mm again",
                                  "x16 needs 448 mm, the lens ends at 400 mm"}) {
            CAPTURE(words);
            CHECK(text.find(words) != std::string::npos);
        }
        const Json json = plan_json(plan);
        CHECK(json["frames"].size() == 3);
        CHECK(test::near(json["frames"][1]["parallax"]["depth_m"].get<double>(), 3.98, 0.01));
        CHECK(json["frames"][0]["sharp"]["far_m"] == "inf");
        CHECK_FALSE(json["frames"][0].contains("parallax"));
        CHECK(json["frames"][2]["reachable"] == false);
        CHECK(json["checklist"].size() == 10);
    }

    TEST_CASE("plan_capture: values without sense are usage faults that name the option") {
        const auto refused = [](auto&& change) {
            PlanOptions options;
            change(options);
            return test::sentence_of([&] { plan_capture(options); }, Fault::usage);
        };
        const auto names = [](const std::string& text, const char* option) {
            return text.starts_with(option);
        };
        CHECK(names(refused([](PlanOptions& o) { o.wide_mm = 0; }), "--wide"));
        CHECK(names(refused([](PlanOptions& o) { o.longest_mm = 20; }), "--longest"));
        CHECK(names(refused([](PlanOptions& o) { o.f_number = -8; }), "--f-number"));
        CHECK(names(refused([](PlanOptions& o) { o.distance_m = NAN; }), "--distance"));
        CHECK(names(refused([](PlanOptions& o) { o.distance_m = 0.3; }), "--distance"));
        CHECK(names(refused([](PlanOptions& o) { o.scales = {8, 1}; }), "--scales"));
        CHECK(names(refused([](PlanOptions& o) { o.scales.clear(); }), "--scales"));
        CHECK(names(refused([](PlanOptions& o) { o.pixel_um = 0; }), "--pixel"));
        CHECK(names(refused([](PlanOptions& o) { o.pupil_shift_m = 0; }), "--pupil-shift"));
    }
}
