// ultrasr-register as a user meets it: help, the main job, its options, pack and verify.
#include <algorithm>
#include <cmath>
#include <sstream>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "acquisition/truth.h"
#include "data/base/json.h"
#include "data/file.h"
#include "data/image_io.h"
#include "data/pair_store.h"
#include "tests/cli/bench_set.h"
#include "tests/cli/disk.h"
#include "tests/cli/register_series.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

namespace {

/// The main call on the whole series with its truth, once a process.
struct WholeRun {
    TemporaryFolder folder;
    fs::path out = folder.path() / "out";
    Ended ended;
};

const WholeRun& whole_run() {
    static const WholeRun run;
    static const bool done = [] {
        const_cast<Ended&>(run.ended) =
            register_plain(series(), run.out,
                           {"--scale", "8,14", "--truth", (series() / "truth.json").string(),
                            "--json", "--no-timing"});
        CAPTURE(run.ended.err);
        REQUIRE(run.ended.exit == 0);
        return true;
    }();
    (void)done;
    return run;
}

bool same_pixels(const cv::Mat& a, const cv::Mat& b) {
    return a.size() == b.size() && a.type() == b.type() && cv::norm(a, b, cv::NORM_INF) == 0;
}

cv::Rect rect_of(const Json& r) { return {r[0], r[1], r[2], r[3]}; }

/// The wide frame's pixels of the pair's LR window.
cv::Mat wide_window(const fs::path& wide, const Json& pair) {
    return pixels_of(wide)(rect_of(pair["crop"]["lr"])).clone();
}

/// A stored pixel's place as EXIF 2.3 wants it to be seen: by where row 0 and column 0 lie.
template <class Pixel>
cv::Mat seen(const cv::Mat& stored, int orientation) {
    const int rows = stored.rows, columns = stored.cols;
    const bool lying = orientation >= 5;
    cv::Mat result(lying ? columns : rows, lying ? rows : columns, stored.type());
    for (int i = 0; i < rows; ++i) {
        for (int j = 0; j < columns; ++j) {
            int y = i, x = j;
            if (orientation == 2) x = columns - 1 - j;                    // top, right
            if (orientation == 3) y = rows - 1 - i, x = columns - 1 - j;  // bottom, right
            if (orientation == 4) y = rows - 1 - i;                       // bottom, left
            if (orientation == 5) y = j, x = i;                           // left, top
            if (orientation == 6) y = j, x = rows - 1 - i;                // right, top
            if (orientation == 7) y = columns - 1 - j, x = rows - 1 - i;  // right, bottom
            if (orientation == 8) y = columns - 1 - j, x = i;             // left, bottom
            result.at<Pixel>(y, x) = stored.at<Pixel>(i, j);
        }
    }
    return result;
}

/// Mean of all samples.
double mean_of(const cv::Mat& picture) {
    const cv::Scalar m = cv::mean(picture);
    return (m[0] + m[1] + m[2]) / 3;
}

Ended verify(const fs::path& out) {
    return run_program("ultrasr-register", {"verify", out.string()});
}

/// Puts a delivered picture in place of another, with its sum in the manifest.
void replace_delivered(const fs::path& out, const std::string& file, const cv::Mat& rgb) {
    const std::string bytes = encode_png(rgb);
    write_file(out / file, bytes);
    Json manifest = manifest_in(out);
    for (Json& pair : manifest["pairs"]) {
        if (pair["files"].contains(file)) pair["files"][file] = sha256(bytes);
    }
    write_file(out / "manifest.json", dump_json(manifest));
}

StoredPair stored_pair(const fs::path& file, int scale) {
    const PairStore store(file);
    for (const PairStore::Entry& entry : store.entries()) {
        if (entry.scale.ratio == scale) return store.read(entry);
    }
    FAIL(file.string() << " holds no x" << scale);
    return {};
}

}  // namespace

TEST_SUITE("cli") {
    TEST_CASE("ultrasr-register --help: shows an example and every option with help") {
        const Ended ended = run_program("ultrasr-register", {"--help"});
        CHECK(ended.exit == 0);
        CHECK(holds(ended.out, "Examples:"));
        for (const char* option :
             {"--scale", "--crop",    "--norm",    "--model",  "--refine",        "--photometric",
              "--warp",  "--focal",   "--windows", "--strict", "--keep-rejected", "--qa",
              "--truth", "--limit",   "--shard",   "--merge",  "--restart",       "--json",
              "--quiet", "--threads", "--seed",    "--device", "--version",       "--config"}) {
            CAPTURE(option);
            CHECK(holds(ended.out, option));
        }
        // The help of an option begins in column 30, or on the next line behind a long name
        std::istringstream text(ended.out);
        std::vector<std::string> lines;
        for (std::string line; std::getline(text, line);) lines.push_back(line);
        for (std::size_t i = 0; i + 1 < lines.size(); ++i) {
            if (!lines[i].starts_with("  -")) continue;
            CAPTURE(lines[i]);
            const bool beside = lines[i].size() > 30 && lines[i][29] == ' ';
            const bool below = lines[i + 1].starts_with(std::string(30, ' ')) &&
                               lines[i + 1].find_first_not_of(' ') != std::string::npos;
            CHECK((beside || below));
        }
        for (const char* sub : {"pack", "verify"}) {
            const Ended help = run_program("ultrasr-register", {sub, "--help"});
            CAPTURE(sub);
            CHECK(help.exit == 0);
            CHECK(holds(help.out, "Example:"));
        }
        const Ended version = run_program("ultrasr-register", {"--version"});
        CHECK(version.exit == 0);
        for (const char* word : {"ultrasr", "commit", "OpenCV 4"}) CHECK(holds(version.out, word));
    }

    TEST_CASE("ultrasr-register: the main call makes the tree of the contract, nothing else") {
        const WholeRun& run = whole_run();
        std::vector<std::string> wanted{"manifest.json", "settings.json"};
        for (const char* scene : {"scene_0001", "scene_0002"}) {
            wanted.push_back(fmt::format("h5/{}.h5", scene));
            wanted.push_back(fmt::format("scenes/{}/done", scene));
            wanted.push_back(fmt::format("scenes/{}/pair.json", scene));
            for (const char* x : {"x8", "x14"}) {
                wanted.push_back(fmt::format("{}/LR/{}.png", x, scene));
                wanted.push_back(fmt::format("{}/HR/{}.png", x, scene));
                for (const char* tail : {"checker", "flicker", "error", "shifts"}) {
                    wanted.push_back(fmt::format("qa/{}_{}_{}.png", scene, x, tail));
                }
            }
        }
        std::sort(wanted.begin(), wanted.end());
        CHECK(files_in(run.out) == wanted);
        CHECK(fs::file_size(run.out / "scenes/scene_0001/done") == 0);

        // --json prints one object: the manifest
        Json manifest = json_of(run.ended.out);
        CHECK(manifest == manifest_in(run.out));
        CHECK(manifest["format"] == "ultrasr-registration");
        CHECK(manifest["version"] == 1);
        CHECK(manifest["counts"]["ok"] == 4);
        CHECK(manifest["pairs"].size() == 4);
        CHECK(manifest["settings"]["crop"] == "multiple");
        CHECK(manifest["settings"]["limits"]["differs"] == 0.93);
        // No machine's folder in what lasts
        for (const char* file : {"manifest.json", "scenes/scene_0001/pair.json"}) {
            CHECK_FALSE(holds(read_file(run.out / file), series().string()));
            CHECK_FALSE(holds(read_file(run.out / file), run.out.string()));
        }
        Json settings = json_in(run.out / "settings.json");
        CHECK(settings["scale"] == Json{"8", "14"});
        CHECK(settings["crop"] == "multiple");
        CHECK(settings["no-timing"] == "true");
    }

    TEST_CASE("ultrasr-register: a second run says it in words, with the true errors below 0.1") {
        const WholeRun& run = whole_run();
        const auto written = fs::last_write_time(run.out / "x8/LR/scene_0001.png");
        const Ended again = register_plain(
            series(), run.out,
            {"--scale", "8,14", "--truth", (series() / "truth.json").string(), "--no-timing"});
        CHECK(again.exit == 0);
        CHECK(fs::last_write_time(run.out / "x8/LR/scene_0001.png") == written);
        for (const char* words :
             {"x8     2 of   2 pairs accepted", "x14    2 of   2 pairs accepted",
              "estimated error 0.0", "true error 0.0", "(worst)",
              "2 scenes (0 without a pair), 4 pairs ok, 0 ok with a mask, 0 rejected, 0 errors, "
              "0 files skipped"}) {
            CAPTURE(words);
            CHECK(holds(again.out, words));
        }
        Json manifest = manifest_in(run.out);
        for (const char* scale : {"x08", "x14"}) {
            CHECK(manifest["scales"][scale]["accepted"] == 2);
            CHECK(manifest["scales"][scale]["worst_true_error_lr_px"] < 0.1);
        }
        for (Json& pair : manifest["pairs"]) CHECK(pair["true_error_lr_px"] < 0.1);
    }

    TEST_CASE("ultrasr-register: pair.json holds the fields of the contract, sorted") {
        const WholeRun& run = whole_run();
        Json scene = scene_in(run.out, "scene_0002");
        CHECK(scene["scene"] == "scene_0002");
        CHECK(scene["settings_hash"].get<std::string>().size() == 64);
        Json& source = scene["sources"]["scene_0002/DSC_0004.jpg"];
        CHECK(source["sha256"] == sha256_of_file(frame_of(2, 1)));
        CHECK(source["size"] == fs::file_size(frame_of(2, 1)));
        CHECK(source["exif"]["focal_length_mm"] == 28.0);
        CHECK(source["exif"].contains("vibration_reduction"));
        REQUIRE(scene["pairs"].size() == 2);
        for (Json& pair : scene["pairs"]) {
            CHECK(pair["scene"] == "scene_0002");
            CHECK((pair["scale"] == 8 || pair["scale"] == 14));
            CHECK(pair["verdict"] == "ok");
            CHECK(pair["reason"] == "");
            CHECK(pair["sigma_est"] < 0.1);
            CHECK(pair["sigma_est"] > 0.006);
            CHECK(std::abs(pair["scale_true"].get<double>() / pair["scale"].get<double>() - 1) <
                  0.04);
            CHECK(pair["model"] == "camera");
            REQUIRE(pair["theta"].size() == 7);
            CHECK(pair["theta"][6].is_number());
            CHECK(pair["covariance"].size() == 7);
            CHECK(pair["covariance"][6].size() == 7);
            CHECK(pair["seconds"].is_object());
            CHECK(pair["coarse"]["way"] == "sift");
            CHECK(pair["coarse"]["inliers"] >= 15);
            CHECK(pair["prior"]["wide_size"] == Json{2016, 1342});
            CHECK(pair["refine"]["kept"] <= 1.0);
            for (const char* gate : {"burnt", "texture_poor", "tele_blurred", "wide_blurred",
                                     "moved", "parallax", "differs", "uncertain"}) {
                CAPTURE(gate);
                REQUIRE(pair["gates"].contains(gate));
                CHECK(pair["gates"][gate]["value"].is_number());
                CHECK(pair["gates"][gate]["limit"].is_number());
                CHECK(pair["gates"][gate]["pass"] == true);
            }
            for (const auto& [file, sum] : pair["files"].items()) {
                CHECK(sum == sha256_of_file(run.out / file));
            }
            CHECK(pair["files"].size() == 6);
            std::string before;
            for (const auto& [key, value] : pair.items()) {
                CHECK(before < key);
                before = key;
            }
        }
    }

    TEST_CASE("ultrasr-register: check_points and the truth give the pair's true error") {
        const WholeRun& run = whole_run();
        const auto truths = read_truth(series() / "truth.json");
        for (const char* scene : {"scene_0001", "scene_0002"}) {
            for (const int scale : {8, 14}) {
                Json pair = pair_in(run.out, scene, scale);
                const auto truth =
                    std::find_if(truths.begin(), truths.end(), [&](const PairTruth& t) {
                        return t.tele_file == pair["tele_file"].get<std::string>();
                    });
                REQUIRE(truth != truths.end());
                Json &wide = pair["check_points"]["wide"], &tele = pair["check_points"]["tele"];
                REQUIRE(wide.size() == 117);
                REQUIRE(tele.size() == 117);
                // The grid spans the crop
                const cv::Rect lr = rect_of(pair["crop"]["lr"]);
                CHECK(wide[0] == Json{double(lr.x), double(lr.y)});
                CHECK(wide[116] == Json{lr.x + lr.width - 1.0, lr.y + lr.height - 1.0});
                CHECK(wide[1][1] == wide[0][1]);  // row by row
                double sum = 0;
                for (std::size_t i = 0; i < 117; ++i) {
                    const PixelPoint t = to_tele(*truth, {wide[i][0], wide[i][1]});
                    sum += std::pow(t.x - tele[i][0].get<double>(), 2) +
                           std::pow(t.y - tele[i][1].get<double>(), 2);
                }
                // 6 digits are written
                CHECK(std::sqrt(sum / 117) / truth->scale_true ==
                      doctest::Approx(pair["true_error_lr_px"].get<double>()).epsilon(1e-4));
            }
        }
    }

    TEST_CASE("ultrasr-register: LR is the wide frame's own pixels, HR is LR x s, HDF5 the same") {
        const WholeRun& run = whole_run();
        for (const int scale : {8, 14}) {
            Json pair = pair_in(run.out, "scene_0001", scale);
            const std::string x = fmt::format("x{}", scale);
            const cv::Mat lr = pixels_of(run.out / x / "LR/scene_0001.png");
            const cv::Mat hr = pixels_of(run.out / x / "HR/scene_0001.png");
            CHECK(same_pixels(lr, wide_window(frame_of(1, 1), pair)));
            CHECK(hr.size() == cv::Size(lr.cols * scale, lr.rows * scale));
            CHECK(pair["crop"]["hr_size"] == Json{hr.cols, hr.rows});
            // The largest multiple inside half of the tele frame, 1008 x 664
            CHECK(lr.size() == cv::Size(1008 / scale, 664 / scale));

            const StoredPair stored = stored_pair(run.out / "h5/scene_0001.h5", scale);
            CHECK(stored.scene == "scene_0001");
            CHECK(same_pixels(stored.lr, lr));
            CHECK(same_pixels(stored.hr, hr));
            CHECK(stored.weight.size() == lr.size());
            double least = 0, most = 0;
            cv::minMaxLoc(stored.weight, &least, &most);
            CHECK(least >= 0);
            CHECK(most > 0.9);
            CHECK(most <= 1);
            CHECK(stored.shift.size() == cv::Size(lr.cols / 24, lr.rows / 24));
            CHECK(stored.attributes["lr_window"] == pair["crop"]["lr"]);
            CHECK(stored.attributes["theta"].size() == 7);
            CHECK(stored.attributes["model"] == "camera");
            CHECK(stored.attributes["sigma_est"] == pair["sigma_est"]);
            CHECK(stored.attributes["tele_file"] == pair["tele_file"]);
            CHECK(stored.attributes["settings_hash"].get<std::string>().size() == 64);

            // Pictures to look at: sizes, and two frames in the flicker
            const auto qa = [&](const char* tail) {
                return run.out / "qa" / fmt::format("scene_0001_{}_{}.png", x, tail);
            };
            CHECK(pixels_of(qa("checker")).size() == cv::Size(hr.cols / 3, hr.rows / 3));
            for (const char* tail : {"flicker", "error", "shifts"}) {
                CHECK(pixels_of(qa(tail)).size() == cv::Size(4 * lr.cols, 4 * lr.rows));
            }
            CHECK(holds(read_file(qa("flicker")), "acTL"));
        }
    }

    TEST_CASE("ultrasr-register verify and pack: whole results pass, bench takes both forms") {
        const WholeRun& run = whole_run();
        const TemporaryFolder folder;
        const Ended verified =
            run_program("ultrasr-register", {"verify", run.out.string(), "--json"});
        CAPTURE(verified.err);
        REQUIRE(verified.exit == 0);
        Json report = json_of(verified.out);
        REQUIRE(report["pairs"].size() == 4);
        CHECK(report["faults"].empty());
        for (Json& pair : report["pairs"]) CHECK(pair["error_lr_px"] < 0.1);
        CHECK(holds(verify(run.out).out, "4 pairs whole and in place"));

        const fs::path packed = folder.path() / "set.h5";
        const Ended pack =
            run_program("ultrasr-register", {"pack", run.out.string(), packed.string(), "--json"});
        CAPTURE(pack.err);
        REQUIRE(pack.exit == 0);
        CHECK(json_of(pack.out)["pairs"] == 4);
        CHECK(PairStore(packed).entries().size() == 4);
        CHECK(files_in(folder.path()) == std::vector<std::string>{"set.h5"});

        // The pictures and the packed file score alike
        CHECK(bench(run.out, folder.path() / "b1").exit == 0);
        CHECK(bench(packed, folder.path() / "b2").exit == 0);
        for (const char* x : {"x8", "x14"}) {
            const std::string scores =
                read_file(folder.path() / "b1/out" / x / "bicubic/scores.csv");
            CHECK(std::count(scores.begin(), scores.end(), '\n') == 3);
            CHECK(scores == read_file(folder.path() / "b2/set" / x / "bicubic/scores.csv"));
        }
        check_refused(
            run_program("ultrasr-register", {"pack", folder.path().string(), packed.string()}), 3,
            {"manifest.json"});
    }

    TEST_CASE("ultrasr-register verify: finds changed, missing, shifted and wrong pictures") {
        const TemporaryFolder folder;
        const fs::path out = folder.path() / "out";
        fs::copy(whole_run().out, out, fs::copy_options::recursive);
        check_refused(verify(folder.path()), 3, {"manifest.json", "ultrasr-register"});

        // A changed byte, a missing file, and LR from one pixel further right in all three places
        std::string bytes = read_file(out / "x8/LR/scene_0001.png");
        bytes[bytes.size() / 2] ^= 1;
        write_file(out / "x8/LR/scene_0001.png", bytes);
        fs::remove(out / "x14/HR/scene_0001.png");
        Json window = pair_in(out, "scene_0002")["crop"]["lr"];
        window[0] = window[0].get<int>() + 1;
        const cv::Mat shifted = pixels_of(frame_of(2, 1))(rect_of(window)).clone();
        replace_delivered(out, "x8/LR/scene_0002.png", shifted);
        StoredPair at8 = stored_pair(out / "h5/scene_0002.h5", 8);
        at8.lr = shifted;
        write_pair_store(out / "h5/scene_0002.h5",
                         {at8, stored_pair(out / "h5/scene_0002.h5", 14)});
        const Ended first = verify(out);
        check_refused(first, 3,
                      {"scene_0001 x8: x8/LR/scene_0001.png has other bytes",
                       "scene_0001 x14: x14/HR/scene_0001.png is missing",
                       "scene_0002 x8: LR and HR are 1.0", "LR px apart"});
        CHECK_FALSE(holds(first.err, "scene_0002 x14"));
        CHECK_FALSE(holds(first.err, "does not hold"));

        // HDF5 that does not agree, a size that is no multiple
        at8.lr.at<cv::Vec3b>(5, 5)[1] ^= 1;
        write_pair_store(out / "h5/scene_0002.h5",
                         {at8, stored_pair(out / "h5/scene_0002.h5", 14)});
        const cv::Mat hr = pixels_of(out / "x14/HR/scene_0002.png");
        replace_delivered(out, "x14/HR/scene_0002.png", hr.rowRange(0, hr.rows - 1).clone());
        check_refused(verify(out), 3,
                      {"h5/scene_0002.h5 does not hold the pair", "scene_0002 x14: LR",
                       "times 14 is not HR"});
    }

    TEST_CASE("ultrasr-register --crop keep: HR is half the tele frame at every scale") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw / "a", {8, 14});
        REQUIRE(register_run(raw, out, {"--scale", "8,14", "--crop", "keep"}).exit == 0);
        for (const int scale : {8, 14}) {
            Json pair = pair_in(out, "a", scale);
            CHECK(pair["verdict"] == "ok");
            const cv::Mat lr = pixels_of(out / fmt::format("x{}/LR/a.png", scale));
            CHECK(pixels_of(out / fmt::format("x{}/HR/a.png", scale)).size() ==
                  cv::Size(1008, 664));
            CHECK(lr.size() == cv::Size((1008 + scale - 1) / scale, (664 + scale - 1) / scale));
            CHECK(same_pixels(lr, wide_window(raw / "a/wide.jpg", pair)));
        }
        CHECK(pair_in(out, "a", 14)["crop"]["hr_size_other_mode"] == Json{1008, 658});
        CHECK(verify(out).exit == 0);  // LR's left upper corner is HR's
        CHECK(bench(out, folder.path() / "bench").exit == 0);
    }

    TEST_CASE("ultrasr-register --windows 4: the four quadrants, each a pair of its own") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(2, raw / "a");
        const Ended ended = register_run(raw, out, {"--windows", "4", "--json"});
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        Json scene = scene_in(out, "a");
        REQUIRE(scene["pairs"].size() == 4);
        std::vector<cv::Rect> windows;
        for (int w = 0; w < 4; ++w) {
            Json& pair = scene["pairs"][static_cast<std::size_t>(w)];
            CHECK(pair["window"] == w);
            windows.push_back(rect_of(pair["crop"]["lr"]));
            if (pair["verdict"] != "ok") continue;  // a quadrant may be poor in texture
            const std::string name = fmt::format("a_w{}", w + 1);
            const cv::Mat lr = pixels_of(out / "x8/LR" / (name + ".png"));
            CHECK(same_pixels(lr, pixels_of(raw / "a/wide.jpg")(windows.back()).clone()));
            CHECK(same_pixels(stored_pair(out / "h5" / (name + ".h5"), 8).lr, lr));
        }
        CHECK(manifest_in(out)["counts"]["ok"] >= 3);
        // Left of, above: about side by side, where the tele frame leaves room for it
        CHECK(windows[0].x + windows[0].width <= windows[1].x + 10);
        CHECK(windows[0].y + windows[0].height <= windows[2].y + 10);
        CHECK(windows[1].x == doctest::Approx(windows[3].x).epsilon(0.01));
        CHECK(verify(out).exit == 0);
    }

    TEST_CASE("ultrasr-register: the paper's way runs and is worse than the default") {
        const TemporaryFolder folder;
        const std::vector<std::string> truth{"--truth", (series() / "truth.json").string()};
        const auto errors = [&](const std::string& name, std::vector<std::string> words) {
            words.insert(words.end(), truth.begin(), truth.end());
            const Ended ended = register_run(series(), folder.path() / name, words);
            CAPTURE(ended.err);
            REQUIRE(ended.exit == 0);
            std::vector<double> values;
            Json manifest = manifest_in(folder.path() / name);
            for (Json& pair : manifest["pairs"]) {
                values.push_back(pair["true_error_lr_px"]);
            }
            REQUIRE(values.size() == 2);
            return values;
        };
        const auto best = errors("best", {});
        const auto paper = errors("paper", {"--model", "homography", "--refine", "points"});
        for (std::size_t i = 0; i < 2; ++i) {
            CHECK(best[i] < 0.1);
            CHECK(paper[i] > 2 * best[i]);
        }
        // A plane cannot follow an uncorrected lens (registration.md 2.1)
        CHECK(std::max(paper[0], paper[1]) > 0.1);
        Json pair = pair_in(folder.path() / "paper", "scene_0001");
        CHECK(pair["model"] == "homography");
        CHECK(pair["theta"].size() == 8);
        CHECK(pair["check_points"]["wide"].size() == 117);  // of rejected pairs too
    }

    TEST_CASE("ultrasr-register: every model, normalisation and brightness can be chosen") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw";
        copy_scene(1, raw / "a");
        const auto pair_with = [&](const std::vector<std::string>& words) {
            const fs::path out = folder.path() / words[1];
            const Ended ended = register_run(raw, out, words);
            CAPTURE(ended.err);
            REQUIRE(ended.exit == 0);
            return pair_in(out, "a");
        };
        Json plain = pair_with({"--norm", "local"});
        for (const char* norm : {"none", "meanstd", "hist", "clahe"}) {
            CAPTURE(norm);
            Json pair = pair_with({"--norm", norm});
            CHECK(pair["verdict"] == "ok");
            CHECK(pair["coarse"]["wide_keypoints"] != plain["coarse"]["wide_keypoints"]);
            CHECK(manifest_in(folder.path() / norm)["settings"]["norm"] == norm);
        }
        CHECK(pair_with({"--model", "affine"})["theta"].size() == 6);
        Json full = pair_with({"--model", "homography+k"});
        CHECK(full["theta"].size() == 9);
        CHECK(full["verdict"] == "ok");
        CHECK(pair_with({"--brightness", "gain"})["refine"]["brightness"] !=
              plain["refine"]["brightness"]);
        CHECK(pair_with({"--refine", "points"})["refine"]["rounds"] != plain["refine"]["rounds"]);
    }

    TEST_CASE("ultrasr-register --photometric: HR comes to LR's brightness, or stays as it is") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw";
        copy_scene(1, raw / "a");
        std::map<std::string, double> off;
        std::map<std::string, cv::Mat> lr;
        for (const std::string kind : {"none", "gain", "curve"}) {
            const fs::path out = folder.path() / kind;
            REQUIRE(register_run(raw, out, {"--photometric", kind}).exit == 0);
            CHECK(pair_in(out, "a")["photometric"]["kind"] == kind);
            lr[kind] = pixels_of(out / "x8/LR/a.png");
            off[kind] = std::abs(mean_of(pixels_of(out / "x8/HR/a.png")) - mean_of(lr[kind]));
        }
        CHECK(same_pixels(lr["none"], lr["curve"]));  // LR is never touched
        CHECK(off["none"] > 5);                       // the simulated exposures differ
        CHECK(off["gain"] < off["none"] / 2);
        CHECK(off["curve"] < 1.5);
    }

    TEST_CASE("ultrasr-register --warp lr: HR is the tele frame's own pixels, LR is resampled") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw / "a");
        REQUIRE(register_run(raw, out, {"--warp", "lr", "--photometric", "none"}).exit == 0);
        Json pair = pair_in(out, "a");
        CHECK(pair["verdict"] == "ok");
        const cv::Mat lr = pixels_of(out / "x8/LR/a.png"), hr = pixels_of(out / "x8/HR/a.png");
        CHECK(hr.size() == cv::Size(8 * lr.cols, 8 * lr.rows));
        CHECK_FALSE(same_pixels(lr, wide_window(raw / "a/wide.jpg", pair)));
        // HR lies in the tele frame somewhere near its middle, pixel for pixel
        const cv::Mat tele = pixels_of(raw / "a/tele8.jpg");
        bool found = false;
        for (int y = 0; y + hr.rows <= tele.rows && !found; ++y) {
            for (int x = 0; x + hr.cols <= tele.cols && !found; ++x) {
                const cv::Rect head(x, y, 16, 4);
                if (cv::norm(tele(head), hr(cv::Rect(0, 0, 16, 4)), cv::NORM_INF) == 0) {
                    found = same_pixels(tele(cv::Rect(x, y, hr.cols, hr.rows)).clone(), hr);
                }
            }
        }
        CHECK(found);
        CHECK(verify(out).exit == 0);
    }

    TEST_CASE("ultrasr-register: a small part that moved is masked; --strict refuses it") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw / "a");
        cv::Rect lr, patch;
        REQUIRE(register_run(raw, out).exit == 0);
        lr = rect_of(pair_in(out, "a")["crop"]["lr"]);
        // One block of 24 x 24 LR pixels shows what lies elsewhere
        patch = {lr.x + 49, lr.y + 25, 22, 22};
        change_pixels(raw / "a/wide.jpg", [&](cv::Mat& wide) {
            cv::Mat other;
            cv::flip(wide(cv::Rect(lr.x + 2, lr.y + 2, 22, 22)), other, 0);
            other.copyTo(wide(patch));
        });
        const Ended masked = register_run(raw, out);
        CHECK(masked.exit == 0);
        CHECK(holds(masked.out, "1 ok with a mask"));
        CHECK(verdict_in(out, "a") == "ok_masked");
        Json pair = pair_in(out, "a");
        CHECK(pair["gates"]["moved"]["pass"] == false);
        CHECK(holds(dump_json(pair["notes"]), "moved: 0.0"));
        CHECK(fs::exists(out / "x8/HR/a.png"));
        // The weights show where
        const StoredPair stored = stored_pair(out / "h5/a.h5", 8);
        const double inside = cv::mean(stored.weight(patch - lr.tl()))[0];
        CHECK(inside < 0.4);
        CHECK(cv::mean(stored.weight)[0] > inside + 0.2);

        const Ended strict = register_run(raw, out, {"--strict"});
        CHECK(strict.exit == 0);
        CHECK(holds(strict.out, "not accepted: 1 moved"));
        CHECK(holds(verdict_in(out, "a"), "reject moved: 0.0"));
        CHECK(files_in(out) == std::vector<std::string>{"manifest.json", "rejected/a_x8.json",
                                                        "scenes/a/done", "scenes/a/pair.json",
                                                        "settings.json"});
        CHECK(json_in(out / "rejected/a_x8.json")["verdict"] == "reject");

        REQUIRE(register_run(raw, out, {"--strict", "--keep-rejected"}).exit == 0);
        CHECK(same_pixels(pixels_of(out / "rejected/a_x8_lr.png"),
                          wide_window(raw / "a/wide.jpg", pair)));
        CHECK(pixels_of(out / "rejected/a_x8_hr.png").size() == cv::Size(1008, 664));
        CHECK_FALSE(fs::exists(out / "x8/LR/a.png"));
        CHECK(verify(out).exit == 0);
    }

    TEST_CASE("ultrasr-register --limit: a gate's limit can be set; unknown gates are listed") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw / "a");
        REQUIRE(register_run(raw, out, {"--limit", "uncertain=0.001"}).exit == 0);
        CHECK(holds(verdict_in(out, "a"), "reject uncertain: 0.0"));
        CHECK(holds(verdict_in(out, "a"), "limit 0.001"));
        CHECK(pair_in(out, "a")["gates"]["uncertain"]["limit"] == 0.001);
        CHECK(pair_in(out, "a")["gates"]["differs"]["limit"] == 0.93);
        CHECK(manifest_in(out)["settings"]["limits"]["uncertain"] == 0.001);
        check_refused(register_run(raw, out, {"--limit", "mooved=1"}), 2,
                      {"mooved", "moved", "parallax"});
        check_refused(register_run(raw, out, {"--limit", "moved"}), 2, {"NAME=NUMBER"});
        check_refused(register_run(raw, out, {"--limit", "moved=a lot"}), 2, {"NAME=NUMBER"});
    }

    TEST_CASE("ultrasr-register --seed: another seed draws other samples and does all again") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw / "a");
        std::map<std::string, Json> affine;
        for (const char* seed : {"0", "7", "4294967296", "7"}) {
            CAPTURE(seed);
            REQUIRE(register_run(raw, out, {"--seed", seed, "--no-timing"}).exit == 0);
            CHECK(manifest_in(out)["settings"]["seed"] == std::stoull(seed));
            CHECK(verdict_in(out, "a") == "ok");
            Json pair = pair_in(out, "a");
            const auto [at, first] = affine.emplace(seed, pair["coarse"]["affine"]);
            CHECK((first || at->second == pair["coarse"]["affine"]));
        }
        REQUIRE(affine.size() == 3);
        CHECK(affine["0"] != affine["7"]);
        CHECK(affine["0"] != affine["4294967296"]);  // all 64 bits count
        // No seed is seed 0
        REQUIRE(register_run(raw, out, {"--no-timing"}).exit == 0);
        CHECK(pair_in(out, "a")["coarse"]["affine"] == affine["0"]);
    }

    TEST_CASE("ultrasr-register --config: JSON and TOML; the settings of a run make it again") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw";
        copy_scene(1, raw / "a", {8, 14});
        write_file(folder.path() / "a.json",
                   R"({"scale": [8, 14], "crop": "keep", "qa": "none", "no-timing": true,
                       "limit": ["moved=0.04"], "strict": true})");
        const auto config = [&](const std::string& out, const fs::path& file,
                                std::vector<std::string> more = {}) {
            more.insert(more.end(), {"--config", file.string()});
            return register_plain(raw, folder.path() / out, more);
        };
        const Ended ended = config("o1", folder.path() / "a.json");
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        Json settings = manifest_in(folder.path() / "o1")["settings"];
        CHECK(settings["scales"] == Json{8, 14});
        CHECK(settings["crop"] == "keep");
        CHECK(settings["strict"] == true);
        CHECK(settings["limits"]["moved"] == 0.04);
        CHECK(pair_in(folder.path() / "o1", "a", 14)["seconds"].empty());
        // The options in force, as they were written beside the results
        const Ended again = config("o2", folder.path() / "o1/settings.json");
        CAPTURE(again.err);
        REQUIRE(again.exit == 0);
        CHECK(tree_of(folder.path() / "o1") == tree_of(folder.path() / "o2"));
        // The command line wins
        write_file(folder.path() / "b.toml", "scale = [8]\ncrop = \"keep\"\nqa = \"none\"\n");
        REQUIRE(config("o3", folder.path() / "b.toml", {"--crop", "multiple"}).exit == 0);
        CHECK(manifest_in(folder.path() / "o3")["settings"]["crop"] == "multiple");
        CHECK(manifest_in(folder.path() / "o3")["settings"]["scales"] == Json{8});
        write_file(folder.path() / "c.json", R"({"scales": 8})");
        check_refused(config("o4", folder.path() / "c.json"), 2, {"scales", "--scale"});
    }

    TEST_CASE("ultrasr-register: pictures and HDF5 are turned as the wide frame's tag says") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        for (int tag = 1; tag <= 8; ++tag) {
            const fs::path scene = raw / fmt::format("tag{}", tag);
            copy_scene(1, scene);
            for (const char* file : {"wide.jpg", "tele8.jpg"}) {
                change_exif(scene / file, [&](Exif& exif) { exif.orientation = tag; });
            }
        }
        REQUIRE(register_run(raw, out).exit == 0);
        Json upright = pair_in(out, "tag1");
        const cv::Mat lr = pixels_of(out / "x8/LR/tag1.png");
        const cv::Mat hr = pixels_of(out / "x8/HR/tag1.png");
        const StoredPair stored = stored_pair(out / "h5/tag1.h5", 8);
        CHECK(same_pixels(lr, wide_window(raw / "tag1/wide.jpg", upright)));
        for (int tag = 2; tag <= 8; ++tag) {
            CAPTURE(tag);
            const std::string name = fmt::format("tag{}", tag);
            Json pair = pair_in(out, name);
            CHECK(pair["verdict"] == "ok");
            CHECK(pair["notes"] == upright["notes"]);                // the same tag in all frames
            CHECK(pair["crop"] == upright["crop"]);                  // sensor order
            CHECK(pair["check_points"] == upright["check_points"]);  // sensor order
            CHECK(
                same_pixels(pixels_of(out / "x8/LR" / (name + ".png")), seen<cv::Vec3b>(lr, tag)));
            CHECK(
                same_pixels(pixels_of(out / "x8/HR" / (name + ".png")), seen<cv::Vec3b>(hr, tag)));
            const StoredPair turned = stored_pair(out / "h5" / (name + ".h5"), 8);
            CHECK(same_pixels(turned.lr, seen<cv::Vec3b>(stored.lr, tag)));
            CHECK(same_pixels(turned.hr, seen<cv::Vec3b>(stored.hr, tag)));
            CHECK(same_pixels(turned.weight, seen<float>(stored.weight, tag)));
            // Vectors turn too: at tag 6 right becomes down and down becomes left
            if (tag != 6) continue;
            cv::Mat vectors = seen<cv::Vec2f>(stored.shift, tag);
            for (auto& v : cv::Mat_<cv::Vec2f>(vectors)) v = {-v[1], v[0]};
            CHECK(same_pixels(turned.shift, vectors));
        }
        CHECK(verify(out).exit == 0);
    }

    TEST_CASE("ultrasr-register: RAW files give 16 bits beside 8; --prefer jpeg leaves them out") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        const Ended made = run_program(
            "ultrasr-acquire", {"simulate", raw.string(), "--size", "1512x1006", "--scales", "8",
                                "--count", "1", "--seed", "3", "--raw", "dng", "--quiet"});
        CAPTURE(made.err);
        REQUIRE(made.exit == 0);
        const std::vector<std::string> truth{"--truth", (raw / "truth.json").string()};
        const Ended ended = register_run(raw, out, truth);
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        Json pair = pair_in(out, "scene_0001");
        CHECK(pair["verdict"] == "ok");
        CHECK(pair["true_error_lr_px"] < 0.1);
        CHECK(pair["wide_file"] == "scene_0001/DSC_0001.dng");
        CHECK(holds(dump_json(scene_in(out, "scene_0001")["skipped"]),
                    "superseded: scene_0001/DSC_0001.jpg (by DSC_0001.dng)"));
        const cv::Mat lr16 = pixels_of(out / "x8/LR16/scene_0001.png");
        const cv::Mat hr16 = pixels_of(out / "x8/HR16/scene_0001.png");
        REQUIRE(lr16.type() == CV_16UC3);
        REQUIRE(hr16.type() == CV_16UC3);
        cv::Mat rounded;
        lr16.convertTo(rounded, CV_8U, 1 / 257.0);
        CHECK(cv::norm(rounded, pixels_of(out / "x8/LR/scene_0001.png"), cv::NORM_INF) <= 1);
        hr16.convertTo(rounded, CV_8U, 1 / 257.0);
        CHECK(cv::norm(rounded, pixels_of(out / "x8/HR/scene_0001.png"), cv::NORM_INF) <= 1);
        const StoredPair stored = stored_pair(out / "h5/scene_0001.h5", 8);
        CHECK(same_pixels(stored.lr, lr16));
        CHECK(same_pixels(stored.hr, hr16));
        CHECK(verify(out).exit == 0);

        REQUIRE(register_run(raw, out, {"--prefer", "jpeg"}).exit == 0);
        CHECK(pair_in(out, "scene_0001")["wide_file"] == "scene_0001/DSC_0001.jpg");
        CHECK_FALSE(fs::exists(out / "x8/LR16/scene_0001.png"));
        CHECK(stored_pair(out / "h5/scene_0001.h5", 8).lr.type() == CV_8UC3);
    }

    TEST_CASE("ultrasr-register: of several frames at one focal length the sharpest is taken") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw / "a");
        for (const char* file : {"wide", "tele8"}) {
            const fs::path blurred = raw / "a" / fmt::format("{}_again.jpg", file);
            fs::copy_file(raw / "a" / fmt::format("{}.jpg", file), blurred);
            change_pixels(blurred, [](cv::Mat& rgb) { cv::GaussianBlur(rgb, rgb, {}, 0.8); });
        }
        REQUIRE(register_run(raw, out).exit == 0);
        CHECK(pair_in(out, "a")["wide_file"] == "a/wide.jpg");
        CHECK(pair_in(out, "a")["tele_file"] == "a/tele8.jpg");
        CHECK(verdict_in(out, "a") == "ok");
    }

    TEST_CASE("ultrasr-register: one folder is grouped by time, or as scenes.csv says") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw";
        for (const int scene : {1, 2}) {
            const fs::path apart = folder.path() / fmt::format("{}", scene);
            copy_scene(scene, apart);
            fs::create_directories(raw);
            int second = 0;
            for (const char* file : {"wide", "tele8"}) {
                change_exif(apart / fmt::format("{}.jpg", file), [&](Exif& exif) {
                    exif.taken_s = 1717236000.0 + 600 * scene + 5 * second++;
                });
                fs::rename(apart / fmt::format("{}.jpg", file),
                           raw / fmt::format("{}{}.jpg", scene == 1 ? "pier" : "wall", file));
            }
        }
        REQUIRE(register_run(raw, folder.path() / "o1").exit == 0);
        CHECK(verdict_in(folder.path() / "o1", "pierwide") == "ok");
        CHECK(verdict_in(folder.path() / "o1", "wallwide") == "ok");
        CHECK(fs::exists(folder.path() / "o1/x8/HR/wallwide.png"));
        // Five seconds between the frames are a pause, if --gap says so
        check_refused(register_run(raw, folder.path() / "o2", {"--gap", "3"}), 3,
                      {"no pair found", "single_image"});
        write_file(raw / "scenes.csv",
                   "file,scene,role\npierwide.jpg,pier,wide\npiertele8.jpg,pier,tele\n"
                   "wallwide.jpg,wall,\nwalltele8.jpg,,skip\n");
        REQUIRE(register_run(raw, folder.path() / "o3").exit == 0);
        CHECK(verdict_in(folder.path() / "o3", "pier") == "ok");
        CHECK(scene_in(folder.path() / "o3", "wall")["reason"] == "single_image");
    }

    TEST_CASE("ultrasr-register: the scenes of a session judge each other") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        make_session(raw);
        const std::vector<std::string> limit{"--limit", "session_sharpness=0.7"};
        REQUIRE(register_run(raw, out, limit).exit == 0);
        CHECK(verdict_in(out, "a") == "ok");
        CHECK(verdict_in(out, "b") == "ok");
        CHECK(holds(verdict_in(out, "soft"), "reject tele_blurred: sharpness"));
        CHECK_FALSE(fs::exists(out / "x8/LR/soft.png"));
        CHECK_FALSE(fs::exists(out / "h5/soft.h5"));
        CHECK(fs::exists(out / "rejected/soft_x8.json"));
        const auto odd = [&] {
            Json manifest = manifest_in(out);
            for (Json& pair : manifest["pairs"]) {
                if (pair["scene"] == "odd") return pair;
            }
            return Json();
        };
        CHECK(odd()["verdict"] == "ok");
        CHECK(holds(dump_json(odd()["notes"]), "k_odd: "));
        const double k = pair_in(out, "a")["theta"][6], own = pair_in(out, "odd")["theta"][6];
        CHECK(own > k + 0.004);
        // --session-k: with the session's median
        REQUIRE(register_run(raw, out, {"--limit", "session_sharpness=0.7", "--session-k"}).exit ==
                0);
        Json refitted = pair_in(out, "odd");
        CHECK(refitted["theta"][6].get<double>() < k + 0.002);
        CHECK(refitted["own_figures"]["k"] == doctest::Approx(own).epsilon(1e-4));
    }

    TEST_CASE("ultrasr-register: shards, one after another or at once, join to one run's bytes") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw";
        make_session(raw);
        const std::vector<std::string> words{"--no-timing", "--limit", "session_sharpness=0.7"};
        const auto with = [&](std::initializer_list<const char*> more) {
            std::vector<std::string> all{words};
            all.insert(all.end(), more.begin(), more.end());
            return all;
        };
        REQUIRE(register_run(raw, folder.path() / "whole", words).exit == 0);
        const fs::path parts = folder.path() / "parts";
        CHECK(register_run(raw, parts, with({"--shard", "1/2"})).exit == 0);
        const auto scenes = std::distance(fs::directory_iterator(parts / "scenes"), {});
        CHECK(scenes >= 1);
        CHECK(scenes <= 3);
        const Ended early = register_run(raw, parts, with({"--merge"}));
        CHECK(holds(early.err, "--merge again"));
        CHECK(register_run(raw, parts, with({"--shard", "2/2"})).exit == 0);
        CHECK(register_run(raw, parts, with({"--merge"})).exit == 0);
        CHECK(tree_of(parts) == tree_of(folder.path() / "whole"));

        // Two machines at once on one folder
        const fs::path both = folder.path() / "both";
        std::vector<std::string> first{raw.string(), both.string(), "--scale", "8",
                                       "--qa",       "none",        "--shard", "1/2"};
        first.insert(first.end(), words.begin(), words.end());
        std::vector<std::string> second{first};
        second[7] = "2/2";
        Program one("ultrasr-register", first), two("ultrasr-register", second);
        const Ended a = one.wait(), b = two.wait();
        CAPTURE(a.err);
        CAPTURE(b.err);
        CHECK(a.exit == 0);
        CHECK(b.exit == 0);
        CHECK(register_run(raw, both, with({"--merge"})).exit == 0);
        CHECK(tree_of(both) == tree_of(folder.path() / "whole"));
        check_refused(register_run(raw, parts, {"--shard", "3/2"}), 2, {"--shard", "3/2"});
        check_refused(register_run(raw, parts, {"--shard", "1"}), 2, {"--shard"});
    }
}
