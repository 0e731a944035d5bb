// What ultrasr-register says to bad input (registration.md 12): a reason for each file and pair,
// the right exit code, and no broken file ever costs another scene.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "acquisition/truth.h"
#include "data/base/json.h"
#include "data/file.h"
#include "tests/cli/bench_set.h"
#include "tests/cli/disk.h"
#include "tests/cli/register_series.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

namespace {

/// The wide frame's part that scene 1 delivers at x8.
cv::Rect delivered_part() {
    static const std::vector<PairTruth> truths = read_truth(series() / "truth.json");
    const PixelRect r = nominal_crop(truths.front());
    return {r.x, r.y, r.width, r.height};
}

void cut_file(const fs::path& file, std::size_t size) {
    write_file(file, read_file(file).substr(0, size));
}

/// A scene, what becomes of it and what is said about it.
struct Row {
    std::string scene;
    std::string verdict;  ///< at x8, the beginning of "verdict reason"; empty: no pair
    std::string reason;   ///< of the scene
    std::string said;     ///< in its pair.json and on stderr; empty: nothing
};

/// Registers the rows' scenes in one run and checks each of them. Every row must also say its
/// words on stderr, and the run must end well.
void check_rows(const fs::path& raw, const std::vector<Row>& rows,
                const std::vector<std::string>& more = {}) {
    const TemporaryFolder folder;
    const fs::path out = folder.path() / "out";
    const Ended ended = register_run(raw, out, more);
    CAPTURE(ended.err);
    REQUIRE(ended.exit == 0);
    CHECK(manifest_in(out)["scenes"].size() == rows.size());
    for (const Row& row : rows) {
        CAPTURE(row.scene);
        REQUIRE(fs::exists(out / "scenes" / row.scene / "done"));
        Json scene = scene_in(out, row.scene);
        CHECK(scene["reason"] == row.reason);
        if (row.verdict.empty()) {
            CHECK(scene["pairs"].empty());
        } else {
            const std::string verdict = verdict_in(out, row.scene);
            CAPTURE(verdict);
            CHECK(verdict.starts_with(row.verdict));
            const bool accepted = row.verdict.starts_with("ok");
            CHECK(fs::exists(out / "x8/LR" / (row.scene + ".png")) == accepted);
            CHECK(fs::exists(out / "x8/HR" / (row.scene + ".png")) == accepted);
            CHECK(fs::exists(out / "h5" / (row.scene + ".h5")) == accepted);
        }
        CAPTURE(row.said);
        const std::string record = read_file(out / "scenes" / row.scene / "pair.json");
        CHECK(holds(record, row.said));
        CHECK_FALSE(holds(record, raw.string()));  // no machine's folder
        CHECK(holds(ended.err, row.said));
        if (!row.reason.empty()) CHECK(holds(ended.err, row.reason));
    }
    CHECK(temporary_files(out).empty());
}

}  // namespace

TEST_SUITE("cli") {
    TEST_CASE("ultrasr-register: truncated files are dropped, the scene goes on with the others") {
        const TemporaryFolder folder;
        const fs::path& raw = folder.path();
        std::vector<Row> rows{{"good", "ok", "", ""}};
        copy_scene(1, raw / "good");
        const std::size_t whole = fs::file_size(frame_of(1, 8));

        // The tele frame: within the head it is no shot at all, later it breaks while decoding
        copy_scene(1, raw / "start");
        cut_file(raw / "start/tele8.jpg", 2);
        rows.push_back({"start", "", "single_image", "not_an_image: start/tele8.jpg"});
        copy_scene(1, raw / "head");
        cut_file(raw / "head/tele8.jpg", 300);
        rows.push_back({"head", "", "single_image", "unreadable: head/tele8.jpg ("});
        std::size_t n = 0;
        for (const std::size_t size : {whole / 4, whole / 2, whole - 2000, whole - 2, whole - 1}) {
            rows.push_back({fmt::format("tele{}", n++), "error unreadable: tele8.jpg (", "",
                            "unreadable: tele8.jpg ("});
            copy_scene(1, raw / rows.back().scene);
            cut_file(raw / rows.back().scene / "tele8.jpg", size);
        }
        // The wide frame
        const std::size_t wide = fs::file_size(frame_of(1, 1));
        for (const std::size_t size : {wide / 2, wide - 2}) {
            rows.push_back({fmt::format("wide{}", n++), "",
                            "no_wide: the wide frame cannot be read", "unreadable: wide.jpg ("});
            copy_scene(1, raw / rows.back().scene);
            cut_file(raw / rows.back().scene / "wide.jpg", size);
        }
        // Another frame remains
        for (const char* file : {"wide", "tele8"}) {
            rows.push_back({fmt::format("spare_{}", file), "ok", "",
                            fmt::format("unreadable: {0}.jpg (spare_{0}/{0}.jpg is a broken JPEG "
                                        "(Premature end of JPEG file); replace the file)",
                                        file)});
            copy_scene(1, raw / rows.back().scene);
            const fs::path first = raw / rows.back().scene / fmt::format("{}.jpg", file);
            fs::copy_file(first, raw / rows.back().scene / fmt::format("{}_b.jpg", file));
            cut_file(first, whole / 2);
        }
        check_rows(raw, rows);
    }

    TEST_CASE("ultrasr-register: a scale whose frame is broken does not cost the other scale") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw / "a", {8, 14});
        cut_file(raw / "a/tele8.jpg", fs::file_size(raw / "a/tele8.jpg") / 2);
        const Ended ended = register_run(raw, out, {"--scale", "8,10,14"});
        CHECK(ended.exit == 0);
        CHECK(verdict_in(out, "a", 8).starts_with("error unreadable: tele8.jpg ("));
        CHECK(verdict_in(out, "a", 10).starts_with("reject missing_focal: no frame near x10"));
        CHECK(verdict_in(out, "a", 14) == "ok");
        CHECK(holds(ended.out, "not accepted: 1 missing_focal, 1 unreadable"));
        CHECK(holds(ended.out, "1 pairs ok"));
    }

    TEST_CASE("ultrasr-register: what is no picture is noted and skipped") {
        const TemporaryFolder folder;
        const fs::path& raw = folder.path();
        copy_scene(1, raw / "a");
        write_file(raw / "a/text.jpg", "not a picture");
        write_file(raw / "a/empty.jpg", "");
        write_file(raw / "a/noise.nef", std::string(5000, '\xA5'));
        write_file(raw / "a/readme.txt", "beside them");
        write_file(raw / "a/wide.xmp", "a sidecar: passed over");
        fs::create_symlink("nowhere.jpg", raw / "a/link.jpg");
        REQUIRE(::mkfifo((raw / "a/pipe.jpg").c_str(), 0600) == 0);
        fs::create_directories(raw / "a/folder.jpg");
        write_file(raw / "stray.txt", "beside the scenes");
        fs::copy_file(frame_of(1, 1), raw / "stray.jpg");
        const TemporaryFolder results;
        const fs::path out = results.path() / "out";
        const Ended ended = register_run(raw, out);
        CAPTURE(ended.err);
        CHECK(ended.exit == 0);
        CHECK(verdict_in(out, "a") == "ok");
        const std::string skipped = dump_json(scene_in(out, "a")["skipped"]);
        CAPTURE(skipped);
        for (const char* words :
             {"not_an_image: a/text.jpg", "not_an_image: a/empty.jpg", "not_an_image: a/readme.txt",
              "a/noise.nef", "unreadable: a/link.jpg (", "unreadable: a/pipe.jpg ("}) {
            CAPTURE(words);
            CHECK(holds(skipped, words));
            CHECK(holds(ended.err, words));
        }
        CHECK_FALSE(holds(skipped, ".xmp"));
        const std::string beside = dump_json(manifest_in(out)["skipped"]);
        for (const char* words : {"not_an_image: stray.txt", "no_scene: stray.jpg ("}) {
            CHECK(holds(beside, words));
            CHECK(holds(ended.err, words));
        }
        CHECK(holds(ended.out, "8 files skipped"));
    }

    TEST_CASE("ultrasr-register: single frames and scenes without focal lengths; --focal mends") {
        const TemporaryFolder folder;
        const fs::path& raw = folder.path();
        const auto without_focal = [](Exif& exif) {
            exif.focal_length_mm.reset();
            exif.focal_length_35mm.reset();
        };
        const double tele_mm = *read_exif(frame_of(1, 8)).focal_length_mm;
        copy_scene(1, raw / "good");
        copy_scene(1, raw / "alone", {});
        copy_scene(1, raw / "tele_without");
        change_exif(raw / "tele_without/tele8.jpg", without_focal);
        copy_scene(1, raw / "both_without");
        for (const char* file : {"wide", "tele8"}) {
            change_exif(raw / "both_without" / fmt::format("{}.jpg", file), without_focal);
        }
        // The 35 mm equivalent is enough
        copy_scene(1, raw / "equivalent");
        change_exif(raw / "equivalent/tele8.jpg", [](Exif& exif) { exif.focal_length_mm.reset(); });
        check_rows(raw, {{"good", "ok", "", ""},
                         {"alone", "", "single_image", ""},
                         {"tele_without", "reject missing_focal: no frame near x8 (224 mm)", "",
                          "no_focal: tele8.jpg has no focal length; give --focal tele8.jpg=mm"},
                         {"both_without", "", "no_wide",
                          "no_focal: wide.jpg has no focal length; give --focal wide.jpg=mm"},
                         {"equivalent", "ok", "", ""}});
        check_rows(raw,
                   {{"good", "ok", "", ""},
                    {"alone", "", "single_image", ""},
                    {"tele_without", "ok", "", ""},
                    {"both_without", "ok", "", ""},
                    {"equivalent", "ok", "", ""}},
                   {"--focal", fmt::format("tele_without/tele8.jpg={}", tele_mm), "--focal",
                    fmt::format("both_without/tele8.jpg={}", tele_mm), "--focal",
                    "both_without/wide.jpg=28"});
        const auto focal = [&](const std::string& word) {
            return register_run(raw, raw.string() + "_out", {"--focal", word});
        };
        check_refused(focal("nobody.jpg=50"), 3, {"nobody.jpg", "focal length"});
        check_refused(focal("wide.jpg=long"), 2, {"--focal", "wide.jpg=long"});
        check_refused(focal("wide.jpg=-3"), 3, {"wide.jpg", "above 0"});
    }

    TEST_CASE("ultrasr-register: differing orientations and sizes") {
        const TemporaryFolder folder;
        const fs::path& raw = folder.path();
        const fs::path tele = "tele8.jpg";
        // A camera that looks down writes any tag; the pixels are as ever
        copy_scene(1, raw / "tag");
        change_exif(raw / "tag" / tele, [](Exif& exif) { exif.orientation = 8; });
        // A tele frame held upside down; one held upright: its middle, as a smaller sensor sees it
        copy_scene(1, raw / "upside");
        change_exif(raw / "upside" / tele, [](Exif& exif) { exif.orientation = 3; });
        change_pixels(raw / "upside" / tele,
                      [](cv::Mat& rgb) { cv::rotate(rgb, rgb, cv::ROTATE_180); });
        copy_scene(1, raw / "portrait");
        const auto smaller_sensor = [](Exif& exif) {
            exif.focal_length_35mm = 1.5 * *exif.focal_length_mm;
        };
        change_exif(raw / "portrait" / tele, [](Exif& exif) { exif.orientation = 6; });
        change_exif(raw / "portrait" / tele, smaller_sensor);
        change_pixels(raw / "portrait" / tele, [](cv::Mat& rgb) {
            cv::Mat turned;
            cv::rotate(rgb, turned, cv::ROTATE_90_COUNTERCLOCKWISE);
            rgb = turned.rowRange(561, 561 + 894).clone();
        });
        // The same without turning: allowed
        copy_scene(1, raw / "dx");
        change_exif(raw / "dx" / tele, smaller_sensor);
        change_pixels(raw / "dx" / tele,
                      [](cv::Mat& rgb) { rgb = rgb(cv::Rect(336, 224, 1344, 894)).clone(); });
        // A smaller copy is not
        copy_scene(1, raw / "small");
        change_pixels(raw / "small" / tele, [](cv::Mat& rgb) {
            cv::resize(rgb, rgb, {1008, 671}, 0, 0, cv::INTER_AREA);
        });
        const std::vector<Row> rows{{"tag", "ok", "", ""},
                                    {"upside", "ok", "", "orientation_differs"},
                                    {"portrait", "ok", "", "orientation_differs"},
                                    {"dx", "ok", "", ""},
                                    {"small", "reject size_differs: 2016x1342 and 1008x671", "",
                                     "size_differs: 2016x1342 and 1008x671"}};
        const TemporaryFolder results;
        const fs::path out = results.path() / "out";
        const Ended ended = register_run(raw, out);
        CAPTURE(ended.err);
        CHECK(ended.exit == 0);
        for (const Row& row : rows) {
            CAPTURE(row.scene);
            CHECK(verdict_in(out, row.scene).starts_with(row.verdict));
        }
        CHECK(holds(ended.err, "size_differs: 2016x1342 and 1008x671"));
        for (const char* scene : {"tag", "upside", "portrait"}) {
            CHECK(holds(dump_json(scene_in(out, scene)["notes"]), "orientation_differs"));
            CHECK(holds(dump_json(pair_in(out, scene)["notes"]), "orientation_differs"));
        }
        CHECK_FALSE(holds(dump_json(pair_in(out, "dx")["notes"]), "orientation_differs"));
        CHECK_FALSE(pair_in(out, "tag").contains("tele_turned"));
        CHECK(pair_in(out, "upside")["tele_turned"] == 180);
        CHECK(pair_in(out, "portrait")["tele_turned"] == 90);
        CHECK(std::abs(pair_in(out, "dx")["scale_true"].get<double>() -
                       pair_in(out, "tag")["scale_true"].get<double>()) < 0.01);

        // The check points of turned frames lie where those of the plain frame lie, turned
        const PairTruth truth = read_truth(series() / "truth.json").front();
        const auto error = [&](const char* scene, auto&& decoded) {
            Json points = pair_in(out, scene)["check_points"];
            double sum = 0;
            for (std::size_t i = 0; i < 117; ++i) {
                Json &w = points["wide"][i], &t = points["tele"][i];
                const PixelPoint p = decoded(to_tele(truth, {w[0], w[1]}));
                sum +=
                    std::pow(p.x - t[0].get<double>(), 2) + std::pow(p.y - t[1].get<double>(), 2);
            }
            return std::sqrt(sum / 117) / truth.scale_true;
        };
        CHECK(error("tag", [](PixelPoint p) { return p; }) < 0.1);
        CHECK(error("upside", [](PixelPoint p) {
                  return PixelPoint{2015 - p.x, 1341 - p.y};
              }) < 0.1);
        CHECK(error("portrait", [](PixelPoint p) {
                  return PixelPoint{p.y, 2015 - p.x - 561};
              }) < 0.1);
        CHECK(error("dx", [](PixelPoint p) { return PixelPoint{p.x - 336, p.y - 224}; }) < 0.1);
    }

    TEST_CASE("ultrasr-register: pairs that do not fit are refused, each for its reason") {
        const TemporaryFolder folder;
        const fs::path& raw = folder.path();
        const cv::Rect part = delivered_part();
        const auto scene = [&](const char* name, const char* file,
                               const std::function<void(cv::Mat&)>& change) {
            copy_scene(1, raw / name);
            change_pixels(raw / name / file, change);
        };
        copy_scene(1, raw / "good");
        // The tele frame shows another place
        copy_scene(1, raw / "other");
        fs::copy_file(frame_of(2, 8), raw / "other/tele8.jpg",
                      fs::copy_options::overwrite_existing);
        // Nothing to see
        copy_scene(1, raw / "flat");
        for (const char* file : {"wide.jpg", "tele8.jpg"}) {
            change_pixels(raw / "flat" / file,
                          [](cv::Mat& rgb) { rgb = cv::Scalar(120, 130, 90); });
        }
        // A third of the window burnt out
        scene("burnt", "wide.jpg", [&](cv::Mat& rgb) {
            rgb(cv::Rect(part.x, part.y, part.width / 3, part.height)) = cv::Scalar(255, 255, 255);
        });
        // Half of the window moved by two pixels; half of it shows something else
        const cv::Rect right(part.x + part.width / 2, part.y - 20, part.width / 2 + 20,
                             part.height + 40);
        scene("parallax", "wide.jpg", [&](cv::Mat& rgb) {
            const cv::Mat from = rgb(right + cv::Point(2, 0)).clone();
            from.copyTo(rgb(right));
        });
        scene("moved", "wide.jpg", [&](cv::Mat& rgb) {
            const cv::Mat from = rgb(right + cv::Point(600, 300)).clone();
            from.copyTo(rgb(right));
        });
        // Out of focus
        scene("tele_blurred", "tele8.jpg",
              [](cv::Mat& rgb) { cv::GaussianBlur(rgb, rgb, {}, 14); });
        scene("wide_blurred", "wide.jpg",
              [](cv::Mat& rgb) { cv::GaussianBlur(rgb, rgb, {}, 1.2); });
        check_rows(raw, {{"good", "ok", "", ""},
                         {"other", "reject no_match: ", "", "inliers, correlation 0."},
                         {"flat", "reject no_match: 0 inliers", "", "no_match: 0 inliers"},
                         {"burnt", "reject burnt: 3", "", "burnt: 3"},
                         {"parallax", "reject parallax: ", "", "parallax: "},
                         {"moved", "reject moved: ", "", "moved: 0."},
                         {"tele_blurred", "reject tele_blurred: ", "", "tele_blurred: "},
                         {"wide_blurred", "reject wide_blurred: ", "", "wide_blurred: "}});
    }

    TEST_CASE(
        "ultrasr-register: scenes of one name, and names with blanks and letters beyond ASCII") {
        const TemporaryFolder folder;
        const fs::path& raw = folder.path();
        copy_scene(1, raw / "north/pier");
        copy_scene(2, raw / "south/pier");
        copy_scene(1, raw / "Bär am Fluß, 2");
        copy_scene(2, raw / "pier_w1");  // as the first of four windows of pier would be named
        const TemporaryFolder results;
        const fs::path out = results.path() / "out";
        REQUIRE(register_run(raw, out).exit == 0);
        CHECK(verdict_in(out, "pier") == "ok");
        CHECK(verdict_in(out, "pier_2") == "ok");
        CHECK(verdict_in(out, "Bär am Fluß, 2") == "ok");
        CHECK(pair_in(out, "pier")["wide_file"] == "north/pier/wide.jpg");
        CHECK(pair_in(out, "pier_2")["wide_file"] == "south/pier/wide.jpg");
        CHECK(holds(dump_json(scene_in(out, "pier_2")["notes"]), "duplicate_scene_name"));
        // Doing one again leaves the others alone
        change_pixels(raw / "north/pier/wide.jpg",
                      [](cv::Mat& rgb) { rgb += cv::Scalar(1, 1, 1); });
        REQUIRE(register_run(raw, out).exit == 0);
        CHECK(fs::exists(out / "x8/HR/pier_w1.png"));
        CHECK(fs::exists(out / "x8/HR/pier_2.png"));
        CHECK(run_program("ultrasr-register", {"verify", out.string()}).exit == 0);
    }

    TEST_CASE("ultrasr-register: nothing usable at all is exit 3 and says why") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        check_refused(register_run(raw, out), 3, {"raw is not a folder", "photographs"});
        CHECK_FALSE(fs::exists(out));
        write_file(raw, "a file");
        check_refused(register_run(raw, out), 3, {"raw is not a folder"});
        CHECK_FALSE(fs::exists(out));
        fs::remove(raw);
        fs::create_directories(raw);
        check_refused(register_run(raw, out), 3, {"no pair found in", "raw", "one wide"});
        copy_scene(1, raw / "a", {});
        check_refused(register_run(raw, out), 3, {"no pair found in", "a: single_image"});
        copy_scene(1, raw / "b");
        cut_file(raw / "b/tele8.jpg", fs::file_size(raw / "b/tele8.jpg") / 2);
        check_refused(register_run(raw, out), 3, {"no pair found in", "unreadable: tele8.jpg"});
        const Ended json = register_run(raw, out, {"--json"});
        CHECK(json.exit == 3);
        CHECK(json_of(json.out)["exit"] == 3);
        CHECK(holds(json_of(json.out)["error"].get<std::string>(), "no pair found"));
        // A rejected pair is a pair
        copy_scene(1, raw / "c");
        CHECK(register_run(raw, out, {"--limit", "uncertain=0.001"}).exit == 0);
        // Truth and tables that are missing or wrong
        check_refused(register_run(raw, out, {"--truth", (raw / "none.json").string()}), 3,
                      {"none.json"});
        write_file(folder.path() / "truth.json", "{}");
        check_refused(register_run(raw, out, {"--truth", (folder.path() / "truth.json").string()}),
                      3, {"truth.json"});
    }

    TEST_CASE("ultrasr-register: scenes.csv that is broken is exit 3; roles without a wide frame") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw);
        copy_scene(2, folder.path() / "two");
        fs::rename(folder.path() / "two/wide.jpg", raw / "w2.jpg");
        fs::rename(folder.path() / "two/tele8.jpg", raw / "t2.jpg");
        const auto table = [&](const char* text) { write_file(raw / "scenes.csv", text); };
        table("file,szene\nwide.jpg,a\n");
        check_refused(register_run(raw, out), 3, {"scenes.csv line 1", "szene", "known"});
        table("file,scene\nwide.jpg,a\nlost.jpg,a\n");
        check_refused(register_run(raw, out), 3, {"lost.jpg", "not in its folder"});
        table("file,scene,role\nwide.jpg,a,tele\ntele8.jpg,a,tele\nw2.jpg,b,\nt2.jpg,b,\n");
        const Ended ended = register_run(raw, out);
        CHECK(ended.exit == 0);
        CHECK(scene_in(out, "a")["reason"] == "no_wide");
        CHECK(holds(ended.err, "no_wide"));
        CHECK(verdict_in(out, "b") == "ok");
    }

    TEST_CASE("ultrasr-register: unknown options and values are exit 2 and list the known ones") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw / "a");
        check_refused(register_run(raw, out, {"--modell", "affine"}), 2, {"--modell", "--model"});
        const std::vector<std::vector<std::string>> values{
            {"--model", "similarity", "homography+k"},
            {"--norm", "best", "clahe"},
            {"--crop", "half", "keep"},
            {"--refine", "all", "points"},
            {"--photometric", "lut", "curve"},
            {"--warp", "both", "hr"},
            {"--qa", "some", "none"},
            {"--windows", "2", "4"},
            {"--prefer", "png", "jpeg"},
            {"--brightness", "log", "basis"},
            {"--scale", "1", "32"},
            {"--scale", "8,x", "--scale"},
            {"--threads", "many", "--threads"},
            {"--gap", "-1", "--gap"},
            {"--device", "tpu", "cuda"}};
        for (const auto& v : values) {
            CAPTURE(v[0]);
            check_refused(register_plain(raw, out, {v[0], v[1]}), 2, {v[0], v[2]});
        }
        check_refused(run_program("ultrasr-register", {}), 2, {"RAW OUT"});
        check_refused(run_program("ultrasr-register", {raw.string()}), 2, {"RAW OUT"});
        check_refused(run_program("ultrasr-register", {"pack", raw.string()}), 2, {"file"});
        check_refused(run_program("ultrasr-register", {raw.string(), out.string(), "surplus"}), 2,
                      {"surplus"});
        CHECK_FALSE(fs::exists(out));  // nothing was begun
        // A second run would take the results for photographs
        check_refused(register_run(raw, raw / "out"), 2, {"raw/out lies in", "outside"});
        check_refused(register_run(raw, raw), 2, {"lies in"});
        CHECK_FALSE(fs::exists(raw / "out"));
    }

    TEST_CASE("ultrasr-register: a GPU is exit 4, before any work") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw / "a");
        const std::string words = "ultrasr-register runs on the CPU only; leave --device cuda";
        check_refused(register_run(raw, out, {"--device", "cuda"}), 4, {words});
        const std::vector<std::string> pack{"pack", out.string(), (out / "a.h5").string()};
        for (std::vector<std::string> job : {pack, {"verify", out.string()}}) {
            job.insert(job.end(), {"--device", "cuda"});
            check_refused(run_program("ultrasr-register", job), 4, {words});
        }
        CHECK_FALSE(fs::exists(out));
        CHECK(register_run(raw, out, {"--device", "cpu"}).exit == 0);
    }

    TEST_CASE("ultrasr-register: an output that is locked or no folder is exit 5, and untouched") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw / "a");
        write_file(out / "settings.json", "of the other run");
        {
            const FolderLock lock(out);
            check_refused(register_run(raw, out), 5, {"another run", out.string()});
        }
        CHECK(read_file(out / "settings.json") == "of the other run");
        CHECK(files_in(out) == std::vector<std::string>{"settings.json"});
        CHECK(register_run(raw, out).exit == 0);
        write_file(folder.path() / "file", "in the way");
        check_refused(register_run(raw, folder.path() / "file"), 5, {"file", "choose another"});
    }

    TEST_CASE("ultrasr-register: no permission to write is exit 5") {
        const TemporaryFolder folder;
        copy_scene(1, folder.path() / "raw/a");
        if (::geteuid() != 0) {
            const fs::path closed = folder.path() / "closed";
            fs::create_directories(closed);
            fs::permissions(closed, fs::perms::owner_read | fs::perms::owner_exec);
            check_refused(register_run(folder.path() / "raw", closed / "out"), 5,
                          {"Permission denied"});
            fs::permissions(folder.path() / "raw/a", fs::perms::none);
            copy_scene(1, folder.path() / "raw/b");
            const fs::path out = folder.path() / "out";
            CHECK(register_run(folder.path() / "raw", out).exit == 0);
            CHECK(holds(dump_json(manifest_in(out)["skipped"]), "unreadable: a ("));
            fs::permissions(folder.path() / "raw/a", fs::perms::owner_all);
            return;
        }
        const SmallTmpfs disk("size=1m");
        if (!disk.usable()) return;
        disk.remount("", true);
        check_refused(register_run(folder.path() / "raw", disk.path() / "out"), 5,
                      {"Read-only file system"});
    }

    TEST_CASE("ultrasr-register: a full disk is exit 5; finished scenes stay and are used") {
        const SmallTmpfs disk("size=20m");
        if (!disk.usable()) return;
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw";
        for (const char* scene : {"a", "b", "c"}) copy_scene(1, raw / scene);
        const std::vector<std::string> words{"--no-timing", "--scenes-at-once", "1"};
        const fs::path whole = folder.path() / "whole", out = disk.path() / "out";
        REQUIRE(register_run(raw, whole, words).exit == 0);
        std::uintmax_t bytes = 0;
        for (const std::string& file : files_in(whole)) bytes += fs::file_size(whole / file);

        // Room for half of it: the first scene and a part of the second
        disk.remount(fmt::format("size={}k", bytes / 2 / 1024));
        check_refused(register_run(raw, out, words), 5, {"No space left", "free space"});
        CHECK(fs::exists(out / "scenes/a/done"));
        CHECK_FALSE(fs::exists(out / "scenes/c/done"));
        CHECK(temporary_files(out).empty());
        const auto written = fs::last_write_time(out / "x8/LR/a.png");
        disk.remount("size=20m");
        CHECK(register_run(raw, out, words).exit == 0);
        CHECK(fs::last_write_time(out / "x8/LR/a.png") == written);
        CHECK(tree_of(out) == tree_of(whole));
    }
}
