// What ultrasr-degrade says to strange and broken input: every row of degradation.md 6.
#include <vector>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>

#include "data/file.h"
#include "data/image_io.h"
#include "data/weights/safetensors.h"
#include "tests/cli/bench_set.h"
#include "tests/cli/degrade_pictures.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

namespace {

/// A folder with one file, its results beside it.
struct OneFile {
    TemporaryFolder folder;
    fs::path in = folder.path() / "in", out = folder.path() / "out";

    OneFile(const std::string& name, const std::string& bytes) { write_file(in / name, bytes); }

    /// Degrades it; the record, which must be there.
    Json record(std::vector<std::string> more = {}) {
        more.push_back("--restart");
        const Ended ended = degrade(in, out, more);
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        const std::vector<Json> records = records_in(out);
        REQUIRE(records.size() == 1);
        return records[0];
    }
    cv::Mat picture(const Json& record, const std::string& name) const {
        return read_rgb8(out / name / (record["id"].get<std::string>() + ".png"));
    }
};

std::string png_of_type(const cv::Mat& mat, const std::vector<int>& how = {}) {
    std::vector<unsigned char> bytes;
    REQUIRE(cv::imencode(".png", mat, bytes, how));
    return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_SUITE("cli") {
    TEST_CASE(
        "ultrasr-degrade: a picture smaller than the patch is skipped, padded, enlarged or "
        "refused") {
        OneFile file("small.png", encode_png(photograph(50, 40, 1)));
        Ended ended = degrade(file.in, file.out);
        check_refused(ended, 3, {"none of the 1 pictures", "skipped.jsonl"});
        CHECK(skipped_in(file.out)[0]["reason"] == "50 x 40 is smaller than the patch of 64");
        CHECK(skipped_in(file.out)[0]["broken"] == false);

        Json record = file.record({"--small", "pad"});
        CHECK(record["source_facts"]["padded"] == true);
        CHECK(file.picture(record, "gt").size() == cv::Size(64, 64));
        record = file.record({"--small", "upscale"});
        CHECK(record["source_facts"]["upscaled"] == true);
        CHECK(file.picture(record, "lr_x4").size() == cv::Size(16, 16));
        check_refused(degrade(file.in, file.out, {"--small", "error", "--restart"}), 3,
                      {"small.png", "50 x 40", "--small skip"});
        check_refused(degrade(file.in, file.out, {"--small", "no"}), 2,
                      {"'no'", "skip, pad, upscale, error"});
    }

    TEST_CASE("ultrasr-degrade: sides below the kernels' radii, down to one pixel") {
        for (const auto& [width, height] : {std::pair{1, 1}, {3, 2}, {9, 25}}) {
            CAPTURE(width);
            OneFile file("tiny.png", encode_png(photograph(width, height, 1)));
            const Json record = file.record({"--patch", "0", "--preset", "seesr", "--scale", "14"});
            CHECK(file.picture(record, "lr_x14").size() ==
                  cv::Size(std::max(1, width / 14), std::max(1, height / 14)));
        }
    }

    TEST_CASE("ultrasr-degrade: odd sizes are floored") {
        OneFile file("odd.png", encode_png(photograph(101, 75, 1)));
        const Json record = file.record({"--patch", "0"});
        CHECK(file.picture(record, "gt").size() == cv::Size(101, 75));
        CHECK(file.picture(record, "lr_x4").size() == cv::Size(25, 18));
        CHECK(record["levels"][0]["scale_effective"][1].get<double>() ==
              doctest::Approx(101 / 25.0));
    }

    TEST_CASE("ultrasr-degrade: grey pictures are copied to three channels and told") {
        cv::Mat grey(80, 80, CV_8UC1);
        cv::extractChannel(photograph(80, 80, 1), grey, 0);
        OneFile file("grey.png", png_of_type(grey));
        Json record = file.record();
        CHECK(record["source_facts"]["was_gray"] == true);
        record =
            file.record({"--gray-lr", "--set", "gray_noise_prob=0", "--set", "gray_noise_prob2=0"});
        const cv::Mat lr = file.picture(record, "lr_x4");
        int coloured = 0;
        for (std::size_t i = 0; i < lr.total(); ++i) {
            const unsigned char* p = lr.data + 3 * i;
            coloured += std::abs(p[0] - p[1]) > 8 || std::abs(p[1] - p[2]) > 8;
        }
        CHECK(coloured == 0);
    }

    TEST_CASE("ultrasr-degrade: alpha is dropped, or blended over a colour") {
        cv::Mat rgba(80, 80, CV_8UC4, cv::Scalar(10, 20, 30, 0));  // wholly transparent
        OneFile file("alpha.png", png_of_type(rgba));
        Json record = file.record();
        CHECK(record["source_facts"]["alpha"] == "dropped");
        CHECK(file.picture(record, "gt").at<cv::Vec3b>(5, 5) == cv::Vec3b(30, 20, 10));
        record = file.record({"--alpha", "white"});
        CHECK(record["source_facts"]["alpha"] == "blended");
        CHECK(file.picture(record, "gt").at<cv::Vec3b>(5, 5) == cv::Vec3b(255, 255, 255));
        record = file.record({"--alpha", "0080ff"});
        CHECK(file.picture(record, "gt").at<cv::Vec3b>(5, 5) == cv::Vec3b(0, 128, 255));
        check_refused(degrade(file.in, file.out, {"--alpha", "pink"}), 2, {"--alpha", "'pink'"});
    }

    TEST_CASE("ultrasr-degrade: 16 bits are kept, or cut to the high byte on request") {
        cv::Mat deep(80, 80, CV_16UC3, cv::Scalar(1000, 30127, 60001));
        OneFile file("deep.png", png_of_type(deep));
        Json record = file.record();
        CHECK(record["source_facts"]["bits"] == 16);
        // 60001 / 65535 * 255 = 233.47 and 30127 / 257 = 117.2; high bytes 234 and 117
        CHECK(file.picture(record, "gt").at<cv::Vec3b>(5, 5) == cv::Vec3b(233, 117, 4));
        record = file.record({"--parity8"});
        CHECK(record["parity8"] == true);
        CHECK(file.picture(record, "gt").at<cv::Vec3b>(5, 5) == cv::Vec3b(234, 117, 3));
    }

    TEST_CASE("ultrasr-degrade: a PNG of one bit a pixel") {
        cv::Mat bits(80, 80, CV_8UC1, cv::Scalar(0));
        bits(cv::Rect(0, 0, 40, 80)).setTo(255);
        OneFile file("bits.png", png_of_type(bits, {cv::IMWRITE_PNG_BILEVEL, 1}));
        const Json record = file.record({"--patch", "0"});
        CHECK(record["source_facts"]["bits"] == 1);
        CHECK(file.picture(record, "gt").at<cv::Vec3b>(5, record["place"]["hflip"] ? 70 : 5) ==
              cv::Vec3b(255, 255, 255));
    }

    TEST_CASE("ultrasr-degrade: CMYK JPEG is converted and told") {
        cv::Mat cmyk(80, 80, CV_8UC4, cv::Scalar(255, 128, 0, 255));  // inverted: no ink = 255
        OneFile file("ink.jpg", cmyk_jpeg(cmyk));
        const Json record = file.record();
        CHECK(record["source_facts"]["cmyk"] == "converted without a profile");
        const auto pixel = file.picture(record, "gt").at<cv::Vec3b>(5, 5);
        CHECK(std::abs(pixel[0] - 255) <= 3);
        CHECK(std::abs(pixel[1] - 128) <= 3);
        CHECK(pixel[2] <= 3);
    }

    TEST_CASE(
        "ultrasr-degrade: EXIF orientation is applied unless told otherwise; ICC profiles "
        "are flagged") {
        const std::string jpeg = encode_jpeg(photograph(120, 80, 1), 95, false);
        OneFile file("turned.jpg",
                     with_segment(with_segment(jpeg, 0xE2, "ICC_PROFILE"), 0xE1, exif_body(6)));
        Json record = file.record({"--patch", "0"});
        CHECK(record["source_facts"]["oriented"] == true);
        CHECK(record["source_facts"]["icc_profile"] == "ignored");
        CHECK(file.picture(record, "gt").size() == cv::Size(80, 120));
        record = file.record({"--patch", "0", "--ignore-exif"});
        CHECK(file.picture(record, "gt").size() == cv::Size(120, 80));
    }

    TEST_CASE(
        "ultrasr-degrade: broken files are listed, cost nothing else, and too many end with "
        "exit 3") {
        const TemporaryFolder folder;
        const fs::path in = folder.path() / "in", out = folder.path() / "out";
        make_photographs(in, 3, 80);
        const std::string jpeg = encode_jpeg(photograph(96, 96, 7), 90, true);
        write_file(in / "cut.jpg", jpeg.substr(0, jpeg.size() / 2));
        write_file(in / "head.jpg", jpeg.substr(0, 40));
        write_file(in / "notes.txt", "no picture");
        fs::create_directories(in / "folder.png/deeper");
        write_file(in / "folder.png/deeper/inside.png", encode_png(photograph(70, 70, 9)));

        const Ended ended = degrade(in, out);
        check_refused(ended, 3, {"2 of 6 pictures are broken", "--max-bad", "the others are done"});
        CHECK(records_in(out).size() == 4);
        const std::vector<Json> skipped = skipped_in(out);
        REQUIRE(skipped.size() == 2);
        CHECK(skipped[0]["source"] == "cut.jpg");
        CHECK(skipped[0]["broken"] == true);
        CHECK(skipped[0]["reason"].get<std::string>().find("broken JPEG") != std::string::npos);
        CHECK(skipped[1]["source"] == "head.jpg");

        const Ended more = degrade(in, out, {"--max-bad", "0.5", "--json"});
        CHECK(more.exit == 0);
        CHECK(json_of(more.out)["broken"] == 2);
        CHECK(json_of(more.out)["made_now"] == 0);
        CHECK(json_of(more.out)["other_files"] == 1);
        // The half that is there can be had
        CHECK(degrade(in, out, {"--max-bad", "0.5", "--allow-truncated", "--restart"}).exit == 0);
        CHECK(records_in(out).size() == 5);
        CHECK(records_in(out)[0]["source_facts"]["truncated"] == true);
    }

    TEST_CASE("ultrasr-degrade: missing and empty inputs, results among the photographs") {
        const TemporaryFolder folder;
        const fs::path in = folder.path() / "in";
        check_refused(degrade(in, folder.path() / "out"), 3, {"is missing", "name a folder"});
        write_file(in / "notes.txt", "no picture");
        check_refused(degrade(in, folder.path() / "out"), 3,
                      {"holds no PNG or JPEG", "1 other files"});
        check_refused(degrade(in, in / "out"), 2, {"lies in", "outside of it"});
        check_refused(run_program("ultrasr-degrade", {}), 2, {"ultrasr-degrade IN OUT"});
        check_refused(degrade(in, folder.path() / "out", {"--device", "cuda"}), 4, {"cuda"});
    }

    TEST_CASE("ultrasr-degrade: options that make no sense name their key") {
        const TemporaryFolder folder;
        const fs::path in = folder.path() / "in", out = folder.path() / "out";
        make_photographs(in, 1, 80);
        const auto refused = [&](std::vector<std::string> words, int exit,
                                 const std::vector<std::string>& said) {
            CAPTURE(words.back());
            check_refused(degrade(in, out, words), exit, said);
        };
        refused({"--set", "noise_range=[9,2]"}, 3, {"noise_range", "9 down to 2"});
        refused({"--set", "jpeg_range=[30,120]"}, 3, {"jpeg_range", "1 to 100"});
        refused({"--set", "second_blur_prob=1.5"}, 3, {"second_blur_prob", "[0,1]"});
        refused({"--set", "nonsense=1"}, 3, {"unknown key 'nonsense'", "jpeg_range"});
        refused({"--set", "kernel_prob=[1,2]"}, 3, {"kernel_prob", "6 weights"});
        refused({"--preset", "realesgran"}, 2, {"'realesgran'", "realesrgan", "ultra-severe"});
        refused({"--preset", "missing.yml"}, 3, {"missing.yml"});
        refused({"--couple", "loose"}, 2, {"'loose'", "stage1, comonotone"});
        refused({"--save", "gt,lr_up"}, 2, {"--resize-back bicubic"});
        refused({"--levels", "4,8", "--preset", "a,b,c"}, 2, {"3 presets for 2 levels"});
        refused({"--levels", "4,8", "--lr-size-rule", "fixed_lr"}, 2, {"fixed_lr", "one --scale"});
        refused({"--shard", "3/2"}, 2, {"--shard", "'3/2'"});
        refused({"--resize-antialias", "prob:2"}, 2, {"prob:P"});
        // Weights that do not sum to 1 are a notice, not an error
        const Ended notice = degrade(in, out, {"--set", "kernel_prob=[2,2,0,0,0,0]"});
        CHECK(notice.exit == 0);
        CHECK(notice.err.find("kernel_prob") != std::string::npos);
        CHECK(notice.err.find("sum to 4") != std::string::npos);
        // Quality 100 does not divide by zero (T5)
        CHECK(degrade(
                  in, out,
                  {"--restart", "--set", "jpeg_range=[100,100]", "--set", "jpeg_range2=[100,100]"})
                  .exit == 0);
    }

    TEST_CASE("ultrasr-degrade: the gate for GT and the limit on pixels") {
        OneFile file("flat.png", encode_png(cv::Mat(400, 400, CV_8UC3, cv::Scalar(90, 90, 90))));
        check_refused(degrade(file.in, file.out, {"--gate", "stablesr"}), 3, {"could be used"});
        CHECK(skipped_in(file.out)[0]["reason"].get<std::string>().find("kB") != std::string::npos);
        check_refused(degrade(file.in, file.out, {"--min-sharpness", "1", "--restart"}), 3,
                      {"could be used"});
        CHECK(skipped_in(file.out)[0]["reason"].get<std::string>().find("blurred") !=
              std::string::npos);
        check_refused(degrade(file.in, file.out, {"--max-megapixels", "0.1", "--restart"}), 3,
                      {"1 of 1 pictures are broken"});
        CHECK(skipped_in(file.out)[0]["reason"].get<std::string>().find("400 x 400") !=
              std::string::npos);
        CHECK(degrade(file.in, file.out, {"--restart"}).exit == 0);
    }

    TEST_CASE(
        "ultrasr-degrade apply-step: tensors that are not finite, missing or of another "
        "shape") {
        const TemporaryFolder folder;
        std::vector<float> values(3 * 20 * 20, 0.5F);
        const auto write = [&](const std::string& name) {
            const std::vector<TensorView> tensors{
                {"image", Dtype::f32, {3, 20, 20}, std::as_bytes(std::span(values))}};
            write_safetensors(folder.path() / name, tensors);
        };
        write("good.safetensors");
        values[7] = std::numeric_limits<float>::quiet_NaN();
        write("nan.safetensors");
        const auto apply = [&](const std::string& in, std::vector<std::string> words) {
            words.insert(words.begin(), {"apply-step", "--in", (folder.path() / in).string(),
                                         "--out", (folder.path() / "out").string()});
            return run_program("ultrasr-degrade", words);
        };
        CHECK(apply("good.safetensors", {"--step", "clamp"}).exit == 0);
        check_refused(apply("nan.safetensors", {"--step", "clamp"}), 3, {"'image'", "not finite"});
        check_refused(apply("good.safetensors", {"--step", "blurr"}), 2, {"'blurr'", "usm, blur"});
        check_refused(apply("good.safetensors", {"--step", "jpeg", "--params", "{}"}), 3,
                      {"'quality' is missing"});
        check_refused(apply("good.safetensors",
                            {"--step", "jpeg", "--params", "{\"quality\": 40, \"qualty\": 1}"}),
                      3, {"unknown key 'qualty'", "backend"});
        check_refused(apply("gone.safetensors", {"--step", "clamp"}), 3, {"gone.safetensors"});
    }
}
