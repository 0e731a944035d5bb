// What ultrasr-bench says to bad input: one sentence, the right exit code, nothing lost.
#include <opencv2/imgcodecs.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/file.h"
#include "data/image_io.h"
#include "data/pair_store.h"
#include "tests/cli/bench_set.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

TEST_SUITE("cli") {
    TEST_CASE("ultrasr-bench: unknown names and options are exit 2 and list the known ones") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 1);
        check_refused(bench(set, out, {}, "bicubic", "psnr"), 2, {"psnr-y601", "niqe"});
        check_refused(bench(set, out, {}, "esrgan"), 2, {"esrgan", "bicubic", "folder"});
        check_refused(bench(set, out, {"--scale-polcy", "pre"}), 2,
                      {"--scale-polcy", "--scale-policy"});
        check_refused(bench(set, out, {"--scale-policy", "best"}), 2, {"cascade", "best"});
        check_refused(bench(set, out, {"--device", "tpu"}), 2, {"cuda", "tpu"});
        check_refused(bench(set, out, {"--threads", "many"}), 2, {"--threads"});
        check_refused(bench(set, out, {}, "bicubic,bicubic"), 2, {"two methods"});
        check_refused(bench(set, out, {}, "bicubic", "niqe,niqe"), 2, {"twice"});
        check_refused(run_program("ultrasr-bench", {"--method", "bicubic"}), 2, {"--data"});
        check_refused(run_program("ultrasr-bench", {"score", "--sr", (set / "HR").string(),
                                                    "--metrics", "psnr-y601"}),
                      2, {"--hr"});
        CHECK_FALSE(fs::exists(out));  // nothing was begun
    }

    TEST_CASE("ultrasr-bench: sets that are missing, empty or contradictory are exit 3") {
        const TemporaryFolder folder;
        const fs::path out = folder.path() / "out";
        check_refused(bench(folder.path() / "none", out), 3, {"no such set", "none"});
        fs::create_directories(folder.path() / "empty");
        check_refused(bench(folder.path() / "empty", out), 3, {"neither LR and HR", "nothing"});
        const fs::path set = folder.path() / "set";
        make_set(set, 2);
        fs::remove(set / "LR/p1.png");
        check_refused(bench(set, out), 3, {"p1"});  // no partner
        write_png(set / "LR/p1_x4.png", picture(24, 24, 1));
        write_png(set / "LR/p1_SR.png", picture(24, 24, 1));
        check_refused(bench(set, out), 3, {"p1_SR.png", "p1_x4.png", "remove"});  // two partners
        fs::remove(set / "LR/p1_x4.png");
        CHECK(bench(set, out).exit == 0);
        write_png(set / "LR/p0.png", picture(30, 24, 1));
        check_refused(bench(set, out), 3, {"p0", "30 x 24", "96 x 96"});  // sizes differ
    }

    TEST_CASE("ultrasr-bench: broken PNG and JPEG are exit 3 and cost nothing already done") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 4);
        const std::string whole = read_file(set / "LR/p3.png");
        write_file(set / "LR/p3.png", whole.substr(0, whole.size() - 40));
        check_refused(bench(set, out, {"--threads", "1"}), 3, {"p3.png", "broken PNG", "replace"});
        const fs::path done = out / "set/x4/bicubic/images/p0.png";
        REQUIRE(fs::exists(done));
        // The mended picture is another input: the program says so instead of guessing
        write_file(set / "LR/p3.png", whole);
        check_refused(bench(set, out), 3, {"--restart"});
        fs::remove(set / "LR/p3.png");
        const std::string jpeg = encode_jpeg(picture(24, 24, 3), 90);
        write_file(set / "LR/p3.jpg", jpeg.substr(0, jpeg.size() / 2));
        check_refused(bench(set, folder.path() / "out2"), 3, {"p3.jpg", "broken JPEG"});
    }

    TEST_CASE("ultrasr-bench: a pair store scores as the same pictures in folders do") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 2);
        std::vector<StoredPair> pairs;
        for (const char* stem : {"p0", "p1"}) {
            StoredPair pair;
            pair.scene = stem;
            pair.scale.ratio = 4;
            pair.lr = read_rgb8(set / "LR" / fmt::format("{}.png", stem));
            pair.hr = read_rgb8(set / "HR" / fmt::format("{}.png", stem));
            pairs.push_back(pair);
        }
        const fs::path store = folder.path() / "set.h5";
        write_pair_store(store, pairs, StoreLayout::packed);
        REQUIRE(bench(set, out).exit == 0);
        REQUIRE(bench(store, folder.path() / "out2").exit == 0);
        CHECK(read_file(folder.path() / "out2/set/x4/bicubic/scores.csv") ==
              read_file(out / "set/x4/bicubic/scores.csv"));
        CHECK(run_program("ultrasr-bench",
                          {"report", (folder.path() / "out2").string(), "--data", store.string()})
                  .exit == 0);
        const std::string page = read_file(folder.path() / "out2/report.html");
        CHECK(page.find("24 \u00D7 24 pixels, enlarged") != std::string::npos);
        write_file(store, "text");
        check_refused(bench(store, folder.path() / "out3"), 3, {"set.h5", "no HDF5 file"});
    }

    TEST_CASE("ultrasr-bench: 16-bit, alpha and grey pictures are used and told about") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 3);
        const auto convert = [&](const char* name, int type, double scale) {
            cv::Mat mat(96, 96, type);
            for (int y = 0; y < 96; ++y) {
                for (int x = 0; x < 96 * mat.channels(); ++x) {
                    const int v = (7 * x + 13 * y) % 256;
                    if (mat.depth() == CV_16U) {
                        mat.ptr<unsigned short>(y)[x] = static_cast<unsigned short>(scale * v);
                    } else {
                        mat.ptr(y)[x] = static_cast<unsigned char>(v);
                    }
                }
            }
            cv::imwrite((set / "HR" / name).string(), mat);
        };
        convert("p0.png", CV_16UC3, 256);
        convert("p1.png", CV_8UC4, 1);
        convert("p2.png", CV_8UC1, 1);
        const Ended ended = bench(set, out);
        CAPTURE(ended.err);
        CHECK(ended.exit == 0);
        CHECK(ended.err.find("warning: 1 picture of the HR pictures of set x4 hold 16 bits") !=
              std::string::npos);
        CHECK(ended.err.find("alpha channel") != std::string::npos);
    }

    TEST_CASE("ultrasr-bench: a side under 96 pixels is refused for NIQE before any work") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 1, 92);
        check_refused(bench(set, out, {}, "bicubic", "psnr-y601,niqe"), 3, {"92 x 92", "96"});
        CHECK_FALSE(fs::exists(out));
        CHECK(bench(set, out).exit == 0);  // PSNR alone is content
    }

    TEST_CASE("ultrasr-bench: a flat picture's NIQE is undefined: counted, shown, not averaged") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 3);
        write_png(set / "LR/p1.png", Image(PixelSize{24, 24}));
        const Ended ended = bench(set, out, {"--json"}, "bicubic", "niqe");
        REQUIRE(ended.exit == 0);
        const Json metric = json_of(ended.out)["runs"][0]["metrics"][0];
        CHECK(metric["nan"] == 1);
        CHECK(metric["n"] == 3);
        CHECK(metric["mean"].is_number());
        CHECK(ended.err.find("niqe is undefined on 1 of 3 pictures") != std::string::npos);
        CHECK(read_file(out / "tables/results.md").find("1 undefined") != std::string::npos);
        CHECK(read_file(out / "set/x4/bicubic/scores.csv").find("p1.png,nan") != std::string::npos);
    }

    TEST_CASE("ultrasr-bench: weights that are missing, truncated or altered are exit 3") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        const fs::path weights = folder.path() / "weights";
        const std::string name = "realesr-animevideov3.safetensors";
        make_set(set, 1);
        fs::create_directories(weights);
        const auto run = [&](std::vector<std::string> more = {}) {
            more.insert(more.end(), {"--weights", weights.string()});
            return bench(set, out, more, "realesr-animevideov3");
        };
        check_refused(bench(set, out, {"--weights", weights.string()}, "bsrgan"), 3,
                      {"BSRGAN.safetensors", "Apache-2.0", "github.com/cszn", weights.string()});
        const std::string whole = read_file(source_folder() / "data/weights" / name);
        write_file(weights / name, whole.substr(0, whole.size() / 2));
        check_refused(run(), 3, {name, "SHA-256"});
        check_refused(run({"--unverified-weights"}), 3, {name});  // still no safetensors file
        std::string altered = whole;
        altered[altered.size() - 3] ^= 1;
        write_file(weights / name, altered);
        check_refused(run(), 3, {name, "--unverified-weights"});
        const Ended accepted = run({"--unverified-weights", "--json"});
        CHECK(accepted.exit == 0);
        CHECK(json_of(accepted.out)["runs"][0]["method"]["weights"][0]["verified"] == false);
        CHECK(read_file(out / "tables/results.md").find("unverified") != std::string::npos);
    }

    TEST_CASE("ultrasr-bench: metrics made of networks say what they lack, before any work") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        const fs::path weights = folder.path() / "weights";
        fs::create_directories(weights);
        make_set(set, 2);
        const auto run = [&](const std::string& metrics, std::vector<std::string> more = {}) {
            more.insert(more.end(), {"--weights", weights.string()});
            return bench(set, out, more, "bicubic", metrics);
        };
        check_refused(run("paper"), 3,
                      {"metric lpips-alex", "alexnet-owt-7be5be79.pth", "244.4 MB", "BSD-3-Clause",
                       "download.pytorch.org", weights.string()});
        check_refused(run("fid"), 3, {"metric fid", "pt_inception-2015-12-05-6726825d.pth"});
        check_refused(run("paper,fid"), 2, {"fid twice"});
        check_refused(run("lpips"), 2, {"'lpips'", "lpips-alex", "lpips-vgg"});
        check_refused(run("musiq", {"--maniqa-crops", "centre"}), 2, {"uniform", "random123"});
        CHECK_FALSE(fs::exists(out / "set"));

        // A web page, a pickle of nothing, a file of another network under the name
        const fs::path net = weights / "alexnet-owt-7be5be79.pth";
        write_file(net, "<!DOCTYPE html><html></html>");
        check_refused(run("lpips-alex"), 3, {"7be5be79", "--unverified-weights"});
        check_refused(run("lpips-alex", {"--unverified-weights"}), 3,
                      {"metric lpips-alex", net.string()});
        fs::copy_file(source_folder() / "data/weights/LPIPS_v0.1_vgg-a78928a0.pth", net,
                      fs::copy_options::overwrite_existing);
        check_refused(run("lpips-alex", {"--unverified-weights"}), 3,
                      {"lpips-alex", "alexnet-owt-7be5be79.pth", "10 missing (features.0.weight",
                       "5 surplus (lin0.model.1.weight"});
        check_refused(run_program("ultrasr-bench", {"fid-stats", (set / "HR").string(), "--out",
                                                    (folder.path() / "s.safetensors").string(),
                                                    "--weights", weights.string()}),
                      3, {"metric fid", "pt_inception"});
        check_refused(run_program("ultrasr-bench", {"score", "--sr", (set / "HR").string(),
                                                    "--metrics", "lpips-alex", "--weights",
                                                    weights.string(), "--unverified-weights"}),
                      3, {"lpips-alex"});
    }

    TEST_CASE("ultrasr-bench: no GPU is exit 4, before any work") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 1);
        const Ended ended = bench(set, out, {"--device", "cuda:63"}, "realesr-animevideov3");
        check_refused(ended, 4, {"--device cpu"});  // no GPU, or a LibTorch without its part
        CHECK_FALSE(fs::exists(out));
    }

    TEST_CASE("ultrasr-bench folder: finished pictures by name; wrong sizes and gaps are exit 3") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", sr = folder.path() / "sr";
        make_set(set, 2);
        write_png(sr / "p0_SR.png", picture(96, 96, 5));
        const std::string method = "folder:" + sr.string() + "@mine";
        check_refused(bench(set, folder.path() / "o1", {}, method), 3, {"p1"});
        write_png(sr / "p1.png", picture(90, 96, 6));
        check_refused(bench(set, folder.path() / "o2", {}, method), 3, {"90 x 96", "96 x 96"});
        write_png(sr / "p1.png", picture(96, 96, 6));
        const Ended ended = bench(set, folder.path() / "o3", {"--json"}, method);
        CHECK(ended.exit == 0);
        CHECK(json_of(ended.out)["runs"][0]["method"]["label"] == "mine");
        check_refused(bench(set, folder.path() / "o4", {}, "folder:" + sr.string() + "/none"), 3,
                      {"none"});
    }

    TEST_CASE(
        "ultrasr-bench command: a program of the user's, commas and all; its failure is told") {
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set";
        make_set(set, 2);
        const auto run = [&](const std::string& out, const std::string& command) {
            return run_program(
                "ultrasr-bench",
                {"--data", set.string(), "--method", "bicubic,lanczos", "--method", command,
                 "--metrics", "psnr-y601", "--out", (folder.path() / out).string(), "--json"});
        };
        // The "method" answers every LR picture with the first HR picture
        write_file(folder.path() / "a,b.sh",
                   fmt::format("test -s $1 && cp {}/HR/p0.png $2\n", set.string()));
        const std::string call = "command:sh " + (folder.path() / "a,b.sh").string();
        const Ended ended = run("o1", call + " {in} {out}@mine");
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        CHECK(json_of(ended.out)["runs"][2]["method"]["label"] == "mine");
        check_refused(run("o2", "command:false {in} {out}@mine"), 3, {"mine", "p0"});
        check_refused(run("o3", "command:no-such-program {in} {out}@mine"), 3, {"no-such-program"});
    }
}
