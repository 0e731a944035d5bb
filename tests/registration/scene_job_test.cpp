#include "registration/scene_job.h"

#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "registration/pair_record.h"
#include "registration/qa.h"
#include "registration/true_error.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

TEST_SUITE("unit") {
    TEST_CASE("oriented: the eight EXIF orientations by hand") {
        // As stored:  1 2 3
        //             4 5 6
        const cv::Mat stored = (cv::Mat_<int>(2, 3) << 1, 2, 3, 4, 5, 6);
        const auto seen = [&](int tag) {
            const cv::Mat m = oriented(stored, tag);
            std::string text;
            for (int y = 0; y < m.rows; ++y) {
                for (int x = 0; x < m.cols; ++x) text += std::to_string(m.at<int>(y, x));
                text += " ";
            }
            return text;
        };
        // EXIF 2.3, table of tag 274: where row 0 and column 0 of the file are seen
        CHECK(seen(1) == "123 456 ");
        CHECK(seen(2) == "321 654 ");   // top, right
        CHECK(seen(3) == "654 321 ");   // bottom, right
        CHECK(seen(4) == "456 123 ");   // bottom, left
        CHECK(seen(5) == "14 25 36 ");  // left, top
        CHECK(seen(6) == "41 52 63 ");  // right, top
        CHECK(seen(7) == "63 52 41 ");  // right, bottom
        CHECK(seen(8) == "36 25 14 ");  // left, bottom
        CHECK(seen(0) == "123 456 ");
    }

    TEST_CASE("as_decoded: undoes a turn") {
        // A 4 x 3 frame turned clockwise by 90 degrees: decoded (x, y) is seen at (3 - 1 - y, x)
        CHECK(as_decoded({2 - 1, 3}, {4, 3}, 90) == PixelPoint{3, 1});
        CHECK(as_decoded({0, 0}, {4, 3}, 180) == PixelPoint{3, 2});
        CHECK(as_decoded({1, 0}, {4, 3}, 270) == PixelPoint{3, 1});
        CHECK(as_decoded({1, 2}, {4, 3}, 0) == PixelPoint{1, 2});
    }

    TEST_CASE("remove_scene_outputs: takes the scene's files and no other's") {
        const test::TemporaryFolder folder;
        const std::vector<std::string> own{
            "x8/LR/a.png",         "x14/HR16/a_w3.png",     "h5/a.h5",
            "qa/a_x8_checker.png", "qa/a_w1_x14_error.png", "rejected/a_x8.json",
            "scenes/a/pair.json",  "scenes/a/done"};
        const std::vector<std::string> others{
            "x8/LR/a_2.png",       "x8/LR/b.png",   "h5/a_x8.h5",   "qa/a_2_x8_checker.png",
            "rejected/ab_x8.json", "scenes/b/done", "manifest.json"};
        for (const auto& name : own) write_file(folder.path() / name, "1");
        for (const auto& name : others) write_file(folder.path() / name, "1");
        remove_scene_outputs(folder.path(), "a");
        for (const auto& name : own) CHECK_MESSAGE(!fs::exists(folder.path() / name), name);
        for (const auto& name : others) CHECK_MESSAGE(fs::exists(folder.path() / name), name);
    }

    TEST_CASE("FileSums: a file is read once, whatever becomes of it; a missing one is told") {
        const test::TemporaryFolder folder;
        const fs::path a = folder.path() / "a";
        write_file(a, "one");
        FileSums sums;
        CHECK(sums.of(a) == sha256("one"));
        write_file(a, "two");
        CHECK(FileSums().of(a) == sha256("two"));
        fs::remove(a);
        CHECK(sums.of(a) == sha256("one"));
        CHECK_THROWS_AS(FileSums().of(a), Error);
    }

    TEST_CASE("short_number and sorted: six digits, keys in order, all levels") {
        CHECK(dump_json_line(short_number(0.123456789)) == "0.123457");
        CHECK(dump_json_line(short_number(std::nan(""))) == "\"nan\"");
        const Json mixed{{"b", {{"z", 1}, {"a", 2}}}, {"a", {Json{{"d", 1}, {"c", 2}}}}};
        CHECK(dump_json_line(sorted(mixed)) == R"({"a":[{"c":2,"d":1}],"b":{"a":2,"z":1}})");
    }

    TEST_CASE("window_stem: a number only where there are four") {
        CHECK(window_stem("pier", 0, 1) == "pier");
        CHECK(window_stem("pier", 2, 4) == "pier_w3");
    }

    TEST_CASE("encode_flicker: an animated PNG whose first picture any reader shows") {
        const cv::Mat a(4, 6, CV_8UC3, cv::Scalar(10, 20, 30)),
            b(4, 6, CV_8UC3, cv::Scalar(40, 50, 60));
        const std::string png = encode_flicker(a, b);
        CHECK(png.starts_with("\x89PNG"));
        CHECK(png.find("acTL") < png.find("fcTL"));
        CHECK(png.find("fcTL") < png.find("IDAT"));
        CHECK(png.find("IDAT") < png.find("fdAT"));
        CHECK(png.find("IEND") == png.size() - 8);
        // CRC-32 of "IEND", the same in every PNG
        CHECK(png.substr(png.size() - 4) == "\xAE\x42\x60\x82");
    }
}
