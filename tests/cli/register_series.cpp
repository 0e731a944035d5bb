#include "tests/cli/register_series.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "data/file.h"
#include "data/image_io.h"
#include "tests/test.h"

namespace ultrasr::test {
namespace fs = std::filesystem;

const fs::path& series() {
    static const TemporaryFolder folder;
    static const fs::path made = [] {
        const fs::path path = folder.path() / "series";
        const Ended ended = run_program(
            "ultrasr-acquire", {"simulate", path.string(), "--size", "2016x1342", "--scales",
                                "8,14", "--count", "2", "--seed", "5", "--quiet"});
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        return path;
    }();
    return made;
}

fs::path frame_of(int scene, int scale) {
    const int number = 3 * (scene - 1) + (scale == 1 ? 1 : scale == 8 ? 2 : 3);
    return series() / fmt::format("scene_{:04}/DSC_{:04}.jpg", scene, number);
}

void copy_scene(int scene, const fs::path& folder, const std::vector<int>& scales) {
    fs::create_directories(folder);
    fs::copy_file(frame_of(scene, 1), folder / "wide.jpg");
    for (const int scale : scales) {
        fs::copy_file(frame_of(scene, scale), folder / fmt::format("tele{}.jpg", scale));
    }
}

void make_session(const fs::path& folder) {
    for (const char* scene : {"a", "b", "odd", "soft"}) copy_scene(1, folder / scene);
    change_pixels(folder / "b/tele8.jpg", [](cv::Mat& rgb) { rgb += cv::Scalar(1, 1, 1); });
    change_pixels(folder / "odd/tele8.jpg", [](cv::Mat& rgb) {
        const double cx = (rgb.cols - 1) / 2.0, cy = (rgb.rows - 1) / 2.0;
        const double half_diagonal = std::hypot(rgb.cols, rgb.rows) / 2;
        cv::Mat x(rgb.size(), CV_32F), y(rgb.size(), CV_32F);
        for (int i = 0; i < rgb.rows; ++i) {
            for (int j = 0; j < rgb.cols; ++j) {
                const double r = std::hypot(j - cx, i - cy) / half_diagonal;
                const double shrink = 1 - 0.008 * r * r;
                x.at<float>(i, j) = static_cast<float>(cx + shrink * (j - cx));
                y.at<float>(i, j) = static_cast<float>(cy + shrink * (i - cy));
            }
        }
        cv::Mat bent;
        cv::remap(rgb, bent, x, y, cv::INTER_LANCZOS4, cv::BORDER_REFLECT);
        rgb = bent;
    });
    change_pixels(folder / "soft/tele8.jpg",
                  [](cv::Mat& rgb) { cv::GaussianBlur(rgb, rgb, {}, 1.2); });
}

void change_exif(const fs::path& jpeg, const std::function<void(Exif&)>& change) {
    Exif exif = read_exif(jpeg);
    change(exif);
    write_file(jpeg, with_exif(read_file(jpeg), exif));
}

void change_pixels(const fs::path& jpeg, const std::function<void(cv::Mat&)>& change) {
    Exif exif = read_exif(jpeg);
    cv::Mat pixels = pixels_of(jpeg);
    change(pixels);
    exif.pixel_width = pixels.cols;
    exif.pixel_height = pixels.rows;
    write_file(jpeg, with_exif(encode_jpeg(pixels, 95, false), exif));
}

cv::Mat pixels_of(const fs::path& picture) {
    cv::Mat bgr = cv::imread(
        picture.string(), cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION | cv::IMREAD_ANYDEPTH);
    INFO(picture.string());
    REQUIRE_FALSE(bgr.empty());
    cv::Mat rgb;
    cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
    return rgb;
}

Ended register_plain(const fs::path& raw, const fs::path& out,
                     const std::vector<std::string>& words) {
    std::vector<std::string> all{raw.string(), out.string()};
    all.insert(all.end(), words.begin(), words.end());
    return run_program("ultrasr-register", all);
}

Ended register_run(const fs::path& raw, const fs::path& out, const std::vector<std::string>& more) {
    std::vector<std::string> words{"--scale", "8", "--qa", "none"};
    words.insert(words.end(), more.begin(), more.end());
    return register_plain(raw, out, words);
}

Json json_in(const fs::path& file) { return parse_json(read_file(file), file.string()); }

Json manifest_in(const fs::path& out) { return json_in(out / "manifest.json"); }

Json scene_in(const fs::path& out, const std::string& scene) {
    return json_in(out / "scenes" / scene / "pair.json");
}

Json pair_in(const fs::path& out, const std::string& scene, int scale) {
    Json record = scene_in(out, scene);
    for (Json& pair : record["pairs"]) {
        if (pair["scale"] == scale && pair["window"] == 0) return pair;
    }
    FAIL("no pair of " << scene << " at x" << scale);
    return {};
}

std::string verdict_in(const fs::path& out, const std::string& scene, int scale) {
    Json pair = pair_in(out, scene, scale);
    const auto reason = pair["reason"].get<std::string>();
    return pair["verdict"].get<std::string>() + (reason.empty() ? "" : " " + reason);
}

}  // namespace ultrasr::test
