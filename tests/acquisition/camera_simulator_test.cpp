#include "acquisition/camera_simulator.h"

#include <tbb/global_control.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "acquisition/capture_set.h"
#include "acquisition/frame_draw.h"
#include "acquisition/shot.h"
#include "acquisition/simulated_faults.h"
#include "acquisition/truth.h"
#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"

#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

SimulatorOptions small_series(const fs::path& out) {
    SimulatorOptions options;
    options.out = out;
    options.scales = {8, 14};
    options.count = 1;
    options.seed = 5000;
    options.size = {360, 240};
    return options;
}

SimulatorResult simulate(const SimulatorOptions& options) {
    Progress progress;
    return simulate_series(options, progress);
}

Json truth_of(const fs::path& out) {
    return parse_json(read_file(out / "truth.json"), "truth.json");
}

/// All files of a folder by name, with their bytes; the lock apart.
std::map<std::string, std::string> files_of(const fs::path& folder) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        if (!entry.is_regular_file() || entry.path().filename() == ".lock") continue;
        files[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
    }
    return files;
}

std::string usage_error(const SimulatorOptions& options) {
    try {
        simulate(options);
    } catch (const Error& error) {
        return error.fault() == Fault::usage ? error.sentence() : "no usage error";
    }
    return "no error";
}

// ---- Measuring a pair ----

double srgb_decoded(double v) {
    return v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
}

/// Linear luminance of a frame, the tone exponent taken back.
cv::Mat luminance(const fs::path& path, double tone_exponent) {
    std::array<float, 256> linear{};
    for (int k = 0; k < 256; ++k) {
        linear[static_cast<std::size_t>(k)] =
            static_cast<float>(srgb_decoded(std::pow(k / 255.0, 1 / tone_exponent)));
    }
    const cv::Mat rgb = read_rgb8(path);
    cv::Mat result(rgb.rows, rgb.cols, CV_32F);
    for (int y = 0; y < rgb.rows; ++y) {
        for (int x = 0; x < rgb.cols; ++x) {
            const auto& p = rgb.at<cv::Vec3b>(y, x);
            result.at<float>(y, x) =
                0.2126F * linear[p[0]] + 0.7152F * linear[p[1]] + 0.0722F * linear[p[2]];
        }
    }
    return result;
}

double bilinear(const cv::Mat& m, double x, double y) {
    const int ix = static_cast<int>(x), iy = static_cast<int>(y);
    const double fx = x - ix, fy = y - iy;
    const float *upper = m.ptr<float>(iy) + ix, *lower = m.ptr<float>(iy + 1) + ix;
    return (upper[0] * (1 - fx) + upper[1] * fx) * (1 - fy) +
           (lower[0] * (1 - fx) + lower[1] * fx) * fy;
}

/// What the wide frame should show, by the tele frame and the truth.
struct Prediction {
    cv::Mat light;  ///< CV_64F
    cv::Mat burnt;  ///< CV_64F: share of the light that comes from burnt-out tele pixels
};

Prediction predicted(const cv::Mat& tele, const PairTruth& truth, const PixelRect& crop) {
    constexpr int steps = 28;  // over +-1.75 LR px
    std::vector<double> offset, weight;
    double sum = 0;
    for (int k = 0; k < steps; ++k) {
        const double t = (k + 0.5) / 8 - 1.75;
        offset.push_back(t);
        weight.push_back(std::erf((t + 0.5) / 0.78) - std::erf((t - 0.5) / 0.78));  // sigma 0.55
        sum += weight.back();
    }
    Prediction result{cv::Mat::zeros(crop.height, crop.width, CV_64F),
                      cv::Mat::zeros(crop.height, crop.width, CV_64F)};
    for (int y = 0; y < crop.height; ++y) {
        for (int x = 0; x < crop.width; ++x) {
            // The map is straight over a pixel, to 1e-4
            const double wx = crop.x + x, wy = crop.y + y;
            const PixelPoint t = to_tele(truth, {wx, wy});
            const PixelPoint right = to_tele(truth, {wx + 1, wy});
            const PixelPoint down = to_tele(truth, {wx, wy + 1});
            for (std::size_t j = 0; j < offset.size(); ++j) {
                for (std::size_t i = 0; i < offset.size(); ++i) {
                    const double a = offset[i], b = offset[j];
                    const double light =
                        bilinear(tele, t.x + a * (right.x - t.x) + b * (down.x - t.x),
                                 t.y + a * (right.y - t.y) + b * (down.y - t.y));
                    const double share = weight[i] * weight[j] / (sum * sum);
                    result.light.at<double>(y, x) += share * light;
                    if (light > 0.9) result.burnt.at<double>(y, x) += share;
                }
            }
        }
    }
    return result;
}

struct ShiftFit {
    PixelPoint shift;  ///< of the wide frame against the prediction, LR px
    double correlation = 0;
};

/// Explains the wide frame by the prediction: level, gain with the vignettes, sharpness and a
/// shift.
ShiftFit fit_shift(const cv::Mat& wide, const Prediction& tele, const PixelRect& crop) {
    cv::Mat columns, values;
    for (int y = 1; y + 1 < crop.height; ++y) {
        for (int x = 1; x + 1 < crop.width; ++x) {
            const double value = wide.at<float>(crop.y + y, crop.x + x);
            if (tele.burnt.at<double>(y, x) > 1e-3 || value > 0.9) continue;
            const auto at = [&](int dy, int dx) { return tele.light.at<double>(y + dy, x + dx); };
            const double u = static_cast<double>(x) / crop.width;
            const double v = static_cast<double>(y) / crop.height;
            const std::array<double, 10> basis{
                1,
                at(0, 0),
                at(0, 0) * u,
                at(0, 0) * v,
                at(0, 0) * u * u,
                at(0, 0) * u * v,
                at(0, 0) * v * v,
                at(0, 1) + at(0, -1) + at(1, 0) + at(-1, 0) - 4 * at(0, 0),
                0.5 * (at(0, 1) - at(0, -1)),
                0.5 * (at(1, 0) - at(-1, 0))};
            columns.push_back(cv::Mat(1, 10, CV_64F, const_cast<double*>(basis.data())));
            values.push_back(value);
        }
    }
    cv::Mat c;
    cv::solve(columns, values, c, cv::DECOMP_SVD);
    const cv::Mat explained = columns * c;
    cv::Scalar mean, deviation, rest_mean, rest;
    cv::meanStdDev(values, mean, deviation);
    cv::meanStdDev(values - explained, rest_mean, rest);
    const double gain = c.at<double>(1) + 0.5 * (c.at<double>(2) + c.at<double>(3)) +
                        0.25 * (c.at<double>(4) + c.at<double>(5) + c.at<double>(6));
    return {{-c.at<double>(8) / gain, -c.at<double>(9) / gain},
            std::sqrt(std::max(0.0, 1 - std::pow(rest[0] / deviation[0], 2)))};
}

}  // namespace

TEST_SUITE("property") {
    TEST_CASE("simulate_series: the seed fixes every byte, whatever the number of threads") {
        test::TemporaryFolder folder;
        SimulatorOptions options = small_series(folder.path() / "one");
        options.faults = {"moving", "haze", "defocus_tele"};
        options.count = 3;
        options.raw = RawFiles::bayer;
        {
            const tbb::global_control one(tbb::global_control::max_allowed_parallelism, 1);
            simulate(options);
        }
        options.out = folder.path() / "two";
        {
            const tbb::global_control two(tbb::global_control::max_allowed_parallelism, 4);
            simulate(options);
        }
        const auto one = files_of(folder.path() / "one"), two = files_of(folder.path() / "two");
        CHECK(one.size() == 3 * 3 * 2 + 1);
        CHECK(one == two);
        options.out = folder.path() / "three";
        options.seed = 5001;
        simulate(options);
        CHECK(files_of(folder.path() / "three").at("scene_0001/DSC_0001.jpg") !=
              one.at("scene_0001/DSC_0001.jpg"));
    }

    TEST_CASE("simulate_series: the written files agree with the truth to 0.03 LR px") {
        test::TemporaryFolder folder;
        SimulatorOptions options = small_series(folder.path());
        options.size = {1080, 720};
        options.scales = {8, 12};
        options.count = 2;
        options.s_curve = options.sharpening = false;  // else light is not linear in the fit
        simulate(options);
        const Json json = truth_of(folder.path());
        const auto pairs = read_truth(folder.path() / "truth.json");
        REQUIRE(pairs.size() == 4);
        for (std::size_t i = 0; i < pairs.size(); ++i) {
            const PairTruth& truth = pairs[i];
            CAPTURE(truth.tele_file);
            const cv::Mat wide = luminance(folder.path() / truth.wide_file, 1);
            const double exponent = json["pairs"][i]["tele_draw"]["tone_exponent"].get<double>();
            const cv::Mat tele = luminance(folder.path() / truth.tele_file, exponent);
            const PixelRect crop = nominal_crop(truth);
            const ShiftFit fit = fit_shift(wide, predicted(tele, truth, crop), crop);
            MESSAGE(truth.tele_file << ": shift " << fit.shift.x << ", " << fit.shift.y
                                    << " LR px, correlation " << fit.correlation);
            CHECK(fit.correlation > 0.98);
            // The noise of so few pixels; without it 0.0015 was measured
            CHECK(std::hypot(fit.shift.x, fit.shift.y) < 0.03);
            // Half an LR px beside the truth is seen as such
            PairTruth wrong = truth;
            wrong.tele.principal_offset.x += 0.5 * truth.scale;
            const ShiftFit off = fit_shift(wide, predicted(tele, wrong, crop), crop);
            CHECK(std::abs(off.shift.x) > 0.2);
        }
    }

    TEST_CASE("draw_wide, draw_tele: every quantity within its range, and all of it used") {
        SimulatorOptions options;
        options.tele = TeleLens::mixed;
        struct Range {
            double low, high, least = 1e9, most = -1e9;
            void see(double v) { least = std::min(least, v), most = std::max(most, v); }
        };
        std::map<std::string, Range> ranges{{"s", {0.97, 1.03}},
                                            {"pan", {-0.012, 0.012}},
                                            {"tilt", {-0.008, 0.008}},
                                            {"roll", {-2, 2}},
                                            {"k1 wide", {-0.05, -0.02}},
                                            {"k1 tele", {0.003, 0.012}},
                                            {"k1 corrected", {-0.001, 0.001}},
                                            {"principal wide", {-0.002, 0.002}},
                                            {"principal tele", {-0.01, 0.01}},
                                            {"exposure darker", {-1.5, -0.5}},
                                            {"exposure lighter", {0.5, 1.5}},
                                            {"balance", {-0.12, 0.12}},
                                            {"exponent", {0.88, 1.12}},
                                            {"vignette wide", {0.2, 0.5}},
                                            {"vignette tele", {0.1, 0.4}},
                                            {"blur wide", {0.35, 0.75}},
                                            {"blur tele", {0.7, 1.6}},
                                            {"noise wide", {2e-5, 2e-4}},
                                            {"noise tele", {5e-5, 4e-4}}};
        for (int scene = 0; scene < 400; ++scene) {
            const FrameDraw wide = draw_wide(options, scene);
            const FrameDraw tele = draw_tele(options, scene, 10, wide);
            const double width = options.size.width, radians = std::acos(-1.0) / 180;
            ranges["s"].see(tele.camera.f_px / wide.camera.f_px / 10);
            ranges["tilt"].see(tele.rotation[0] * 4704 / width);
            ranges["pan"].see(tele.rotation[1] * 4704 / width);
            ranges["roll"].see(tele.rotation[2] / radians);
            ranges["k1 wide"].see(wide.camera.k1);
            CHECK(wide.camera.k2 == -0.2 * wide.camera.k1);
            ranges[tele.corrected ? "k1 corrected" : "k1 tele"].see(tele.camera.k1);
            ranges["principal wide"].see(wide.camera.principal_offset.x / width);
            ranges["principal tele"].see(tele.camera.principal_offset.y / width);
            ranges[tele.exposure_ev < 0 ? "exposure darker" : "exposure lighter"].see(
                tele.exposure_ev);
            for (std::size_t c = 0; c < 3; ++c) {
                ranges["balance"].see(std::log(tele.look.white_balance[c]));
                ranges["noise wide"].see(wide.exposure.noise_slope[c]);
                ranges["noise tele"].see(tele.exposure.noise_slope[c]);
            }
            ranges["exponent"].see(tele.look.tone_exponent);
            ranges["vignette wide"].see(wide.exposure.vignette);
            ranges["vignette tele"].see(tele.exposure.vignette);
            ranges["blur wide"].see(wide.blur.sigma_px);
            ranges["blur tele"].see(tele.blur.sigma_px);
            CHECK(wide.exposure.noise_floor == 1e-6);
            CHECK(wide.camera.f_px == doctest::Approx(4704));
        }
        for (const auto& [name, range] : ranges) {
            CAPTURE(name);
            const double part = 0.05 * (range.high - range.low), little = 1e-9 * part;
            CHECK(range.least >= range.low - little);
            CHECK(range.most <= range.high + little);
            CHECK(range.least < range.low + part);
            CHECK(range.most > range.high - part);
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("simulate_series: frames and tags of a camera, in scenes and by time") {
        test::TemporaryFolder folder;
        SimulatorOptions options = small_series(folder.path() / "series");
        options.count = 2;
        const SimulatorResult result = simulate(options);
        CHECK(result.pairs == 4);
        CHECK(result.scenes_made == 2);
        const CaptureSet set = find_capture_set(options.out);
        REQUIRE(set.scenes.size() == 2);
        CHECK(set.skipped.empty());
        for (const CaptureScene& scene : set.scenes) {
            REQUIRE(scene.shots.size() == 3);
            CHECK(scene.skipped.empty());
            for (const Shot& shot : scene.shots) {
                CHECK(shot.size == options.size);
                CHECK(shot.exif.make == "NIKON CORPORATION");
                CHECK(shot.exif.f_number == 8.0);
                CHECK(shot.exif.iso == 100);
                CHECK(shot.exif.orientation == 1);
                CHECK(shot.exif.color_space == 1);
                CHECK(shot.exif.pixel_width == 360);
                CHECK(shot.exif.auto_distortion_control == "Off");
            }
            const SceneRoles roles = assign_roles(scene, {8, 14});
            CHECK(roles.wide == std::vector<std::size_t>{0});
            CHECK(roles.tele.at(8) == std::vector<std::size_t>{1});
            CHECK(roles.tele.at(14) == std::vector<std::size_t>{2});
            CHECK(scene.shots[0].exif.focal_length_mm == 28.0);
            CHECK(scene.shots[1].exif.focal_length_mm == 225.0);
            CHECK(scene.shots[2].exif.focal_length_mm == 400.0);
        }
        // The same files in one folder: their times keep the scenes apart
        const fs::path flat = folder.path() / "flat";
        fs::create_directories(flat);
        for (const CaptureScene& scene : set.scenes) {
            for (const Shot& shot : scene.shots) fs::copy(shot.path, flat / shot.name());
        }
        const CaptureSet by_time = find_capture_set(flat);
        REQUIRE(by_time.scenes.size() == 2);
        CHECK(by_time.scenes[0].shots.size() == 3);
        CHECK(by_time.scenes[1].shots.size() == 3);
        // The exposure that the tags tell is the one that was drawn
        const Json pair = truth_of(options.out)["pairs"][0];
        const double ev = pair["tele_draw"]["exposure_ev"].get<double>();
        CHECK(*set.scenes[0].shots[1].exif.exposure_s ==
              doctest::Approx(std::exp2(ev) / 60).epsilon(1e-3).scale(0));
    }

    TEST_CASE("simulate_series: finished scenes are kept, lost ones redone, more may be added") {
        test::TemporaryFolder folder;
        SimulatorOptions options = small_series(folder.path());
        options.count = 2;
        simulate(options);
        const auto first = files_of(folder.path());
        CHECK(truth_of(folder.path())["complete"] == true);
        const fs::path kept = folder.path() / "scene_0001/DSC_0002.jpg";
        const fs::path lost = folder.path() / "scene_0002/DSC_0005.jpg";
        const auto time = fs::last_write_time(kept);

        fs::remove(lost);
        SimulatorResult result = simulate(options);
        CHECK(result.scenes_kept == 1);
        CHECK(result.scenes_made == 1);
        CHECK(files_of(folder.path()) == first);
        CHECK(fs::last_write_time(kept) == time);

        const auto truth_time = fs::last_write_time(folder.path() / "truth.json");
        result = simulate(options);
        CHECK(result.scenes_kept == 2);
        CHECK(fs::last_write_time(folder.path() / "truth.json") == truth_time);

        options.count = 3;
        result = simulate(options);
        CHECK(result.scenes_kept == 2);
        CHECK(result.scenes_made == 1);
        CHECK(result.pairs == 6);
        CHECK(read_file(kept) == first.at("scene_0001/DSC_0002.jpg"));

        // Another seed is another series
        options.seed = 1;
        result = simulate(options);
        CHECK(result.scenes_kept == 0);
        options.restart = true;
        result = simulate(options);
        CHECK(result.scenes_made == 3);
    }

    TEST_CASE("simulate_series: interrupted after a scene it goes on there") {
        test::TemporaryFolder folder;
        SimulatorOptions options = small_series(folder.path() / "cut");
        options.count = 3;
        Progress cut([](const Progress::Step& step) {
            if (step.done == 4) Progress::interrupt();  // one frame into the second scene
        });
        CHECK_THROWS_AS(simulate_series(options, cut), Interrupted);
        Progress::resume();
        CHECK(truth_of(options.out)["complete"] == false);
        CHECK(read_truth(options.out / "truth.json").size() == 2);
        const SimulatorResult result = simulate(options);
        CHECK(result.scenes_kept == 1);
        CHECK(result.scenes_made == 2);
        const auto cut_files = files_of(options.out);
        options.out = folder.path() / "whole";
        simulate(options);
        CHECK(files_of(options.out) == cut_files);
    }

    TEST_CASE("simulate_series: each fault with its size") {
        test::TemporaryFolder folder;
        SimulatorOptions options = small_series(folder.path());
        options.faults = simulator_faults();
        options.faults.erase(options.faults.begin());
        options.count = static_cast<int>(options.faults.size());
        simulate(options);
        const Json json = truth_of(folder.path());
        const auto within = [](const Json& value, double low, double high) {
            return value.get<double>() >= low && value.get<double>() <= high;
        };
        std::map<std::string, int> seen;
        for (const Json& pair : json["pairs"]) {
            const auto fault = pair["fault"].get<std::string>();
            CAPTURE(fault);
            ++seen[fault];
            const Json& details = pair["fault_details"];
            if (fault == "moving") {
                CHECK(within(details["covered_share"], 0.05, 0.45));
                for (const Json& thing : details["things"]) {
                    CHECK(within(std::hypot(thing["dx"].get<double>(), thing["dy"].get<double>()),
                                 5, 60));
                }
            } else if (fault == "parallax") {
                CHECK(within(details["covered_share"], 0.3, 0.5));
                CHECK(within(details["shift_lr_px"], 0.5, 3));
            } else if (fault == "defocus_tele") {
                CHECK(within(details["sigma_lr_px"], 1, 3));
                CHECK(pair["tele_draw"]["blur_sigma_px"].get<double>() > 7);
            } else if (fault == "defocus_wide") {
                CHECK(within(details["sigma_lr_px"], 1, 3));
                CHECK(pair["wide_draw"]["blur_sigma_px"].get<double>() > 1);
            } else if (fault == "shake") {
                CHECK(within(details["length_lr_px"], 1, 4));
            } else if (fault == "haze") {
                CHECK(within(details["haze_rms_lr_px"], 0.1, 0.3));
            } else if (fault == "depth") {
                CHECK(within(details["covered_share"], 0.3, 0.5));
                CHECK(std::abs(details["pupil_shift_m"][2].get<double>()) <= 0.1);
                for (const Json& z : details["distances_m"]) CHECK(within(z, 6, 60));
            } else if (fault == "broken") {
                CHECK(within(details["kept_share"], 0.3, 0.9));
                const Shot shot = read_shot(folder.path() / pair["tele_file"].get<std::string>());
                CHECK_THROWS_AS(decode_shot(shot), Error);
            }
        }
        // Of a broken scene one tele file is cut off, the other is sound
        CHECK(seen == std::map<std::string, int>{{"moving", 2},
                                                 {"parallax", 2},
                                                 {"defocus_tele", 2},
                                                 {"defocus_wide", 2},
                                                 {"shake", 2},
                                                 {"other", 2},
                                                 {"haze", 2},
                                                 {"depth", 2},
                                                 {"broken", 1},
                                                 {"none", 1}});
    }

    TEST_CASE("simulate_series: `other` shows another scene, `none` the same") {
        test::TemporaryFolder folder;
        SimulatorOptions options = small_series(folder.path());
        options.size = {720, 480};
        options.scales = {8};
        options.count = 2;
        options.faults = {"none", "other"};
        simulate(options);
        for (const PairTruth& truth : read_truth(folder.path() / "truth.json")) {
            CAPTURE(truth.fault);
            const PixelRect crop = nominal_crop(truth);
            const cv::Mat wide = luminance(folder.path() / truth.wide_file, 1);
            const cv::Mat tele = luminance(folder.path() / truth.tele_file, 1);
            const ShiftFit fit = fit_shift(wide, predicted(tele, truth, crop), crop);
            if (truth.fault == "none") {
                CHECK(fit.correlation > 0.95);
            } else {
                CHECK(fit.correlation < 0.7);
            }
        }
    }

    TEST_CASE("simulate_series: a raw file holds the light of its JPEG") {
        test::TemporaryFolder folder;
        for (const RawFiles raw : {RawFiles::bayer, RawFiles::linear}) {
            CAPTURE(static_cast<int>(raw));
            SimulatorOptions options = small_series(folder.path() / std::to_string(int(raw)));
            options.scales = {8};
            options.raw = raw;
            options.s_curve = options.sharpening = false;
            simulate(options);
            const PairTruth truth = read_truth(options.out / "truth.json").at(0);
            CHECK(truth.wide_file == "scene_0001/DSC_0001.dng");
            for (const std::string stem : {"scene_0001/DSC_0001", "scene_0001/DSC_0002"}) {
                CAPTURE(stem);
                const Shot shot = read_shot(options.out / (stem + ".dng"));
                CHECK(shot.size == options.size);
                CHECK(shot.exif.focal_length_mm ==
                      read_exif(options.out / (stem + ".jpg")).focal_length_mm);
                const Frame frame = decode_shot(shot);
                const cv::Mat jpeg = read_rgb8(options.out / (stem + ".jpg"));
                const bool wide = stem == "scene_0001/DSC_0001";
                const Json pair = truth_of(options.out)["pairs"][0];
                const double exponent = wide ? 1 : pair["tele_draw"]["tone_exponent"].get<double>();
                const double green = wide ? 1 : pair["tele_draw"]["white_balance"][1].get<double>();
                // Means of light over blocks of 24 x 24, burnt and nearly black ones apart
                double worst = 0;
                int blocks = 0;
                for (int by = 0; by + 24 <= jpeg.rows; by += 24) {
                    for (int bx = 0; bx + 24 <= jpeg.cols; bx += 24) {
                        for (int c = 0; c < 3; ++c) {
                            double a = 0, b = 0;
                            int brightest = 0;
                            for (int y = by; y < by + 24; ++y) {
                                for (int x = bx; x < bx + 24; ++x) {
                                    const int level = jpeg.at<cv::Vec3b>(y, x)[c];
                                    brightest = std::max(brightest, level);
                                    a += srgb_decoded(std::pow(level / 255.0, 1 / exponent)) / 576;
                                    b += frame.rgb.at<cv::Vec3w>(y, x)[c] / 65535.0 / 576;
                                }
                            }
                            if (brightest > 250 || a < 0.02) continue;
                            worst = std::max(worst, std::abs(b * green / a - 1));
                            ++blocks;
                        }
                    }
                }
                CHECK(blocks > 50);
                CHECK(worst < 0.04);  // JPEG halves the colours' resolution, AHD guesses them
            }
        }
    }

    TEST_CASE("simulate_series: rolling tags differ between scenes and frames, pixels do not") {
        test::TemporaryFolder folder;
        SimulatorOptions options = small_series(folder.path() / "upright");
        options.count = 4;
        simulate(options);
        const auto upright = read_rgb8(options.out / "scene_0002/DSC_0005.jpg");
        options.out = folder.path() / "rolling";
        options.orientations = Orientations::rolling;
        simulate(options);
        std::map<int, int> tags;
        int differing = 0;
        for (const CaptureScene& scene : find_capture_set(options.out).scenes) {
            for (const Shot& shot : scene.shots) {
                ++tags[shot.exif.orientation.value()];
                differing += shot.exif.orientation != scene.shots[0].exif.orientation;
                CHECK(shot.size == options.size);
            }
        }
        CHECK(tags.size() >= 2);
        CHECK(differing >= 1);
        const auto rolling = read_rgb8(options.out / "scene_0002/DSC_0005.jpg");
        CHECK(cv::norm(upright, rolling, cv::NORM_INF) == 0);
    }

    TEST_CASE("simulate_series: photographs are looked at; few are repeated, none is an error") {
        test::TemporaryFolder folder;
        const fs::path photos = folder.path() / "photos";
        fs::create_directories(photos);
        SimulatorOptions options = small_series(folder.path() / "series");
        options.photos = photos;
        CHECK_THROWS_WITH_AS(simulate(options), doctest::Contains("no photographs"), Error);
        for (int k = 0; k < 2; ++k) {
            Image image(PixelSize{300, 200});
            for (int y = 0; y < 200; ++y) {
                for (int x = 0; x < 300; ++x) {
                    const double v = 0.5 + 0.4 * std::sin(0.2 * x + k) * std::cos(0.15 * y);
                    for (int c = 0; c < 3; ++c) {
                        image.row_(y)[3 * x + c] = static_cast<float>(c == k ? v : 0.1);
                    }
                }
            }
            write_png(photos / ("p" + std::to_string(k) + ".png"), image);
        }
        options.count = 2;
        simulate(options);
        // Scenes one and two have different centres: one is red there, the other green
        int red = 0;
        for (const std::string file : {"scene_0001/DSC_0001.jpg", "scene_0002/DSC_0004.jpg"}) {
            const cv::Mat rgb = read_rgb8(options.out / file);
            const cv::Scalar mean = cv::mean(rgb(cv::Rect(165, 105, 30, 30)));
            red += mean[0] > mean[1];
            CHECK(std::max(mean[0], mean[1]) > 1.5 * mean[2]);
        }
        CHECK(red == 1);
        CHECK(truth_of(options.out)["settings"]["photographs"].size() == 2);
    }

    TEST_CASE("simulate_series: what it cannot do it says") {
        test::TemporaryFolder folder;
        SimulatorOptions options = small_series(folder.path());
        options.faults = {"fog"};
        CHECK(usage_error(options).find("fog is not known; known are none, moving") !=
              std::string::npos);
        options = small_series(folder.path());
        options.scales = {8, 15};
        CHECK(usage_error(options).find("15: the lens goes from 28 to 400 mm") !=
              std::string::npos);
        options.scales = {8, 8};
        CHECK(usage_error(options).find("8 twice") != std::string::npos);
        options = small_series(folder.path());
        options.count = 0;
        CHECK(usage_error(options).find("--count") != std::string::npos);
        options = small_series(folder.path());
        options.exposure_ev = -1;
        CHECK(usage_error(options).find("--exposure") != std::string::npos);
        options = small_series(folder.path());
        options.haze_lr_px = 6;
        CHECK(usage_error(options).find("--haze") != std::string::npos);
        options = small_series(folder.path());
        options.size = {100, 80};
        CHECK(usage_error(options).find("100x80") != std::string::npos);
        options.size = {361, 241};
        options.raw = RawFiles::bayer;
        CHECK(usage_error(options).find("even sides") != std::string::npos);
    }

    TEST_CASE("tele_focal_mm: the ring stands at or above the scale, at the end for the longest") {
        CHECK(tele_focal_mm(8) == 225);
        CHECK(tele_focal_mm(10) == 280);
        CHECK(tele_focal_mm(12) == 340);
        CHECK(tele_focal_mm(14) == 400);
    }
}
