#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "acquisition/capture_check.h"
#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"
#include "tests/acquisition/shots.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

constexpr PixelSize size{320, 240};

/// A series that ought to be fine at x2: 28, 57 and 28 mm again.
struct Series {
    test::TemporaryFolder folder;
    Exif exif(int frame) const {
        return test::zoom_exif(frame == 1 ? 57 : 28, test::noon_s + 20 * frame);
    }
    fs::path path(int frame) const {
        return folder.path() / "pier" / ("f" + std::to_string(frame) + ".jpg");
    }
    Series() {
        for (int frame = 0; frame < 3; ++frame) put(frame, exif(frame));
    }
    void put(int frame, const Exif& tags, const Image& image) const {
        test::put_shot(path(frame), tags, image);
    }
    void put(int frame, const Exif& tags) const {
        put(frame, tags, test::waves(size, frame == 1 ? 2 : 1));
    }
    CheckReport check(std::vector<double> scales = {2}) const {
        CheckOptions options;
        options.folder = folder.path();
        options.scales = std::move(scales);
        Progress progress;
        return check_capture(options, progress);
    }
    /// "code/severity" of all findings, sorted.
    std::vector<std::string> codes(std::vector<double> scales = {2}) const {
        std::vector<std::string> list;
        for (const SceneReport& scene : check(std::move(scales)).scenes) {
            for (const Finding& f : scene.findings) {
                list.push_back(f.code + (f.severity == Severity::problem ? "/problem" : "/remark"));
            }
        }
        std::sort(list.begin(), list.end());
        return list;
    }
};
using Codes = std::vector<std::string>;

/// A vertical edge from 0.2 to 0.6 that is a step blurred by a Gaussian.
cv::Mat blurred_step(double sigma) {
    cv::Mat rgb(128, 128, CV_8UC3);
    for (int y = 0; y < 128; ++y) {
        for (int x = 0; x < 128; ++x) {
            // An edge in the middle of each block of 64: up in the first, down in the second
            const double at = x < 64 ? x - 31.5 : 95.5 - x;
            const double v = 51 + 102 * 0.5 * std::erfc(-at / (sigma * std::sqrt(2.0)));
            for (int c = 0; c < 3; ++c) rgb.ptr(y)[3 * x + c] = static_cast<unsigned char>(v + 0.5);
        }
    }
    return rgb;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("check_capture: a good series has nothing to tell, and its tripod stood still") {
        const Series series;
        const CheckReport report = series.check();
        REQUIRE(report.scenes.size() == 1);
        const SceneReport& scene = report.scenes[0];
        CHECK(series.codes().empty());
        REQUIRE(scene.frames.size() == 3);
        CHECK(scene.frames[0].role == "wide");
        CHECK(scene.frames[1].role == "x2");
        CHECK(scene.frames[1].focal_mm == 57.0);
        REQUIRE(scene.tripod.has_value());
        CHECK(scene.tripod->first == "f0.jpg");
        CHECK(scene.tripod->last == "f2.jpg");
        CHECK(scene.tripod->shift.rms_px < 0.01);
        REQUIRE(scene.frames[1].look.has_value());
        CHECK(scene.frames[1].look->sharp_blocks == 1);
        CHECK(scene.frames[1].look->burnt == 0);
    }

    TEST_CASE("check_capture: each setting against the guide is told, with the files") {
        struct Case {
            void (*change)(Exif&);
            const char* code;
        };
        const Case cases[]{
            {[](Exif& e) { e.exposure_s = 0.01; }, "exposure_differs/remark"},
            {[](Exif& e) { e.f_number = 5.6; }, "f_number_differs/remark"},
            {[](Exif& e) { e.iso = 400; }, "iso_differs/remark"},
            {[](Exif& e) { e.vibration_reduction = "On"; }, "vr_on/remark"},
            {[](Exif& e) { e.auto_distortion_control = "On"; }, "distortion_control_on/remark"},
            {[](Exif& e) { e.vignette_control = "Normal"; }, "vignette_control_on/remark"},
            {[](Exif& e) { e.exposure_mode = 0; }, "exposure_auto/remark"}};
        for (const Case& c : cases) {
            const Series series;
            Exif exif = series.exif(1);
            c.change(exif);
            series.put(1, exif);
            CHECK(series.codes() == Codes{c.code});
            CHECK(series.check().scenes[0].findings[0].text.find("f1.jpg") != std::string::npos);
        }
        const Series series;
        Exif exif = series.exif(1);
        exif.white_balance = 0;
        series.put(1, exif);
        CHECK(series.codes() == Codes{"white_balance_auto/remark", "white_balance_differs/remark"});
    }

    TEST_CASE("check_capture: missing focal lengths say what to set") {
        const Series series;
        CHECK(series.codes({2, 8, 14}) == Codes{"missing_focal/problem", "missing_focal/problem"});
        CHECK(series.check({2, 8}).scenes[0].findings[0].text.find("224 mm") != std::string::npos);
        Exif exif = series.exif(1);
        exif.focal_length_mm.reset();
        series.put(1, exif);
        const auto codes = series.codes();
        CHECK(std::count(codes.begin(), codes.end(), "no_focal/problem") == 1);
        CHECK(std::count(codes.begin(), codes.end(), "missing_focal/problem") == 1);
    }

    TEST_CASE("check_capture: a tripod that moved by more than 0.05 px is told, by less is not") {
        for (const double shift : {0.02, 0.12, 3.0}) {
            const Series series;
            series.put(2, series.exif(2), test::waves(size, 1, shift, 0));
            const CheckReport report = series.check();
            CAPTURE(shift);
            REQUIRE(report.scenes[0].tripod.has_value());
            CHECK(std::abs(report.scenes[0].tripod->shift.rms_px - shift) < 0.02);
            CHECK(series.codes() == (shift < 0.05 ? Codes{} : Codes{"tripod_moved/problem"}));
        }
        const Series series;
        series.put(2, series.exif(2), test::waves(size, 7));
        CHECK(series.codes() == Codes{"moved/problem"});
        fs::remove(series.path(2));
        CHECK(series.codes() == Codes{"no_closing_wide/remark"});
    }

    TEST_CASE("check_capture: blurred, burnt, bright and empty frames") {
        const Series series;
        series.put(1, series.exif(1), test::waves(size, 2, 0, 0, 60));
        CHECK(series.codes() == Codes{"blurred/problem"});
        Image image = test::waves(size, 2);
        for (int y = 0; y < 240; ++y) {
            for (int x = 0; x < 960; ++x) {
                if (y > 115 && y < 125) image.row_(y)[x] = 1;
            }
        }
        series.put(1, series.exif(1), image);
        CHECK(series.codes() == Codes{"burnt/remark"});  // 7 %
        for (int y = 90; y < 150; ++y) std::fill_n(image.row_(y), 960, 1.0F);
        series.put(1, series.exif(1), image);
        CHECK(series.codes() == Codes{"burnt/problem"});  // 50 %
        image = test::waves(size, 2);
        std::fill_n(image.row_(120), 960, 0.9F);
        series.put(1, series.exif(1), image);
        CHECK(series.codes() == Codes{"bright/remark"});
        series.put(1, series.exif(1), Image(size));
        CHECK(series.codes() == Codes{"texture_poor/remark"});
    }

    TEST_CASE("check_capture: of several frames at a focal length one sharp one is enough") {
        const Series series;
        for (int k = 3; k < 6; ++k) {
            const Exif exif = test::zoom_exif(57, test::noon_s + 20 + k);
            // The last two: too soft by itself, and softer than its neighbours
            series.put(k, exif, test::waves(size, 2, 0, 0, k == 3 ? 6 : k == 4 ? 60 : 15));
        }
        CHECK(series.codes() == Codes{"blurred/remark", "blurred/remark"});
        const CheckReport report = series.check();
        CHECK(report.scenes[0].findings[0].text.starts_with("f4.jpg is blurred: 0 %"));
        CHECK(report.scenes[0].findings[1].text.starts_with("f5.jpg is blurred: it holds"));
    }

    TEST_CASE("look_at: noise does not make a frame sharp") {
        // Far out of focus: a slow slope with noise as of ISO 3200
        cv::Mat rgb(256, 256, CV_8UC3);
        Rng rng(1, 0);
        for (int y = 0; y < 256; ++y) {
            for (int x = 0; x < 256; ++x) {
                double n = 0;
                for (int i = 0; i < 4; ++i) n += rng.uniform() - 0.5;
                const double v = 128 + 60 * std::sin(x / 25.0) * std::cos(y / 30.0) + 10 * n;
                for (int c = 0; c < 3; ++c) rgb.ptr(y)[3 * x + c] = static_cast<unsigned char>(v);
            }
        }
        const FrameLook look = look_at(rgb);
        CHECK(look.textured_blocks == 1);
        CHECK(look.sharp_blocks == 0);
    }

    TEST_CASE("check_capture: a broken frame is a finding, other scenes go on") {
        const Series series;
        for (int frame = 0; frame < 3; ++frame) {
            test::put_shot(series.folder.path() / "town" / fmt::format("{}.jpg", frame),
                           series.exif(frame), test::waves(size, frame == 1 ? 2 : 1));
        }
        const std::string whole = read_file(series.path(1));
        write_file(series.path(1), whole.substr(0, whole.size() / 2));
        write_file(series.folder.path() / "pier/cut.jpg", whole.substr(0, 30));
        write_file(series.folder.path() / "pier/notes.doc", "x");
        const CheckReport report = series.check();
        REQUIRE(report.scenes.size() == 2);
        CHECK(series.codes() == Codes{"unreadable/problem", "unreadable/problem"});
        CHECK(report.scenes[0].findings[1].text.starts_with("unreadable: f1.jpg (f1.jpg is a"));
        CHECK_FALSE(report.scenes[0].frames[1].look.has_value());
        CHECK(report.scenes[1].findings.empty());
        CHECK(report.count(Severity::problem) == 2);
        const std::string text = check_text(report);
        CHECK(text.find("pier: 3 frames, not ready") != std::string::npos);
        CHECK(text.find("town: 3 frames, ready") != std::string::npos);
        CHECK(text.find("skipped not_an_image: pier/notes.doc") != std::string::npos);
        CHECK(text.find("1 of 2 scenes ready; 2 problems, 0 remarks") != std::string::npos);
        CHECK(text.find(series.folder.path().string()) == std::string::npos);
        const Json json = check_json(report);
        CHECK(json["problems"] == 2);
        CHECK(json["scenes"][0]["frames"][1]["look"].is_null());
        CHECK(json["scenes"][1]["tripod"]["rms_px"].get<double>() < 0.02);
        CHECK(json["scenes"][0]["findings"][0]["code"] == "unreadable");
    }

    TEST_CASE("check_capture: one picture alone, and none at all") {
        const Series series;
        fs::remove(series.path(1));
        fs::remove(series.path(2));
        CHECK(series.codes() == Codes{"single_image/problem"});
        fs::remove(series.path(0));
        CHECK(test::sentence_of([&] { series.check(); }).find("no picture found") !=
              std::string::npos);
    }

    TEST_CASE("look_at: the sharpness of a blurred step is the closed form") {
        for (const double sigma : {1.5, 3.0, 5.0}) {
            const FrameLook look = look_at(blurred_step(sigma));
            CHECK(look.textured_blocks == 1);
            const double expected =
                std::sqrt(5 + sigma * sigma) * (1 / std::hypot(1, sigma) - 0.1 / sigma);
            CHECK(test::near(look.sharpness, expected, 0.03));
        }
        CHECK(look_at(blurred_step(2.5)).sharp_blocks == 1);
        CHECK(look_at(blurred_step(3.5)).sharp_blocks == 0);
    }
}
