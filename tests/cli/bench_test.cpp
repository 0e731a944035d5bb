// ultrasr-bench as a user meets it: what it prints, how it fails, that it loses nothing.
#include <fmt/format.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <thread>
#include <nlohmann/json.hpp>
#include <opencv2/imgcodecs.hpp>

#include "data/base/json.h"
#include "data/base/random.h"
#include "data/file.h"
#include "data/image_io.h"
#include "tests/cli/program.h"
#include "tests/test.h"

using namespace ultrasr;
using test::Ended;
using test::run_program;
namespace fs = std::filesystem;

namespace {

/// A picture with structure at every size; `item` varies it.
Image picture(int width, int height, std::uint64_t item) {
    Image image(PixelSize{width, height});
    Rng rng(7, item);
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < 3 * width; ++x) {
            const int wave = (5 * x + 3 * y * static_cast<int>(item + 1)) % 97;
            const int noise = static_cast<int>(rng.below(64));
            image.row_(y)[x] = static_cast<float>(wave + noise) / 255.0F;
        }
    }
    return image;
}

/// A set of `n` pairs, HR side x side, LR at 1/4.
void make_set(const fs::path& folder, int n, int side = 96) {
    for (int i = 0; i < n; ++i) {
        const std::string name = "p" + std::to_string(i) + ".png";
        write_png(folder / "HR" / name, picture(side, side, static_cast<std::uint64_t>(i)));
        write_png(folder / "LR" / name, picture(side / 4, side / 4, static_cast<std::uint64_t>(i)));
    }
}

/// ultrasr-bench with quick metrics on `set`; more words may follow.
Ended bench(const fs::path& set, const fs::path& out, std::vector<std::string> more = {},
            const std::string& methods = "bicubic", const std::string& metrics = "psnr-y601") {
    std::vector<std::string> words{"--data",    set.string(), "--method", methods,
                                   "--metrics", metrics,      "--out",    out.string()};
    words.insert(words.end(), more.begin(), more.end());
    return run_program("ultrasr-bench", words);
}

/// The exit code fits and stderr is one error sentence that holds every word of `words`.
void check_refused(const Ended& ended, int exit, const std::vector<std::string>& words) {
    CAPTURE(ended.err);
    CHECK(ended.exit == exit);
    CHECK(ended.err.find("error: ") != std::string::npos);
    CHECK(ended.err.find("terminate called") == std::string::npos);
    for (const std::string& word : words) {
        CAPTURE(word);
        CHECK(ended.err.find(word) != std::string::npos);
    }
}

Json json_of(const std::string& text) { return parse_json(text, "stdout"); }

/// Everything a run leaves that must not depend on how often it was interrupted.
std::string lasting(const fs::path& out) {
    std::string all;
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(out)) {
        const std::string name = entry.path().filename().string();
        if (entry.is_regular_file() && !name.starts_with(".") && !name.starts_with("journal") &&
            name != "timing.json" && name != "options.json") {
            files.push_back(entry.path());
        }
    }
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
        all += fs::relative(file, out).string() + " " + sha256_of_file(file) + "\n";
    }
    return all;
}

std::vector<fs::path> temporary_files(const fs::path& out) {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(out)) {
        if (entry.path().extension() == ".tmp") found.push_back(entry.path());
    }
    return found;
}

/// A small file system of its own; empty where mounting is not allowed.
class SmallDisk {
  public:
    explicit SmallDisk(const std::string& options) {
        mounted_ =
            ::mount("ultrasr-test", folder_.path().c_str(), "tmpfs", 0, options.c_str()) == 0;
        if (!mounted_) MESSAGE("skipped: mounting a small tmpfs needs root");
    }
    ~SmallDisk() {
        if (mounted_) ::umount2(folder_.path().c_str(), MNT_DETACH);
    }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    bool usable() const { return mounted_; }
    const fs::path& path() const { return folder_.path(); }
    bool remount(unsigned long flags) const {
        return ::mount("", path().c_str(), "", MS_REMOUNT | flags, nullptr) == 0;
    }

  private:
    test::TemporaryFolder folder_;
    bool mounted_ = false;
};

}  // namespace

TEST_SUITE("cli") {
    TEST_CASE("ultrasr-bench --help: shows an example and every option with help") {
        const Ended ended = run_program("ultrasr-bench", {"--help"});
        CHECK(ended.exit == 0);
        CHECK(ended.out.find("Examples:") != std::string::npos);
        for (const char* option : {"--data", "--method", "--metrics", "--out", "--json", "--quiet",
                                   "--threads", "--seed", "--device", "--version", "--config",
                                   "--scale-policy", "--shard", "--published"}) {
            CAPTURE(option);
            CHECK(ended.out.find(option) != std::string::npos);
        }
        // An option without help would be a line that holds nothing behind its name and type
        std::istringstream lines(ended.out);
        for (std::string line; std::getline(lines, line);) {
            if (line.find("  --") == std::string::npos || line.size() > 30) continue;
            std::string next;
            std::getline(lines, next);
            CAPTURE(line);
            CHECK(next.find_first_not_of(' ') != std::string::npos);
        }
        for (const char* sub : {"score", "restore", "table", "report", "compare", "figure"}) {
            const Ended help = run_program("ultrasr-bench", {sub, "--help"});
            CAPTURE(sub);
            CHECK(help.exit == 0);
            CHECK(help.out.find("Example:") != std::string::npos);
        }
    }

    TEST_CASE("ultrasr-bench --version: names tool, commit and libraries") {
        const Ended ended = run_program("ultrasr-bench", {"--version"});
        CHECK(ended.exit == 0);
        for (const char* word : {"ultrasr", "commit", "LibTorch 2.11", "OpenCV 4", "CUDA"}) {
            CHECK(ended.out.find(word) != std::string::npos);
        }
    }

    TEST_CASE("ultrasr-bench --list-metrics and --list-methods: every name, as text and as JSON") {
        const Ended metrics = run_program("ultrasr-bench", {"--list-metrics", "--json"});
        CHECK(metrics.exit == 0);
        std::string names;
        for (const Json& m : json_of(metrics.out)) names += m["name"].get<std::string>() + " ";
        CHECK(names.starts_with(
            "psnr-y601 psnr-yiq psnr-rgb ssim-y601 ssim-yiq ms-ssim niqe niqe-y601 "));
        const Ended methods = run_program("ultrasr-bench", {"--list-methods"});
        CHECK(methods.exit == 0);
        for (const char* name : {"bicubic", "lanczos", "realesrgan-x4plus", "realesr-general-x4v3",
                                 "realesr-animevideov3", "folder:"}) {
            CHECK(methods.out.find(name) != std::string::npos);
        }
        const test::TemporaryFolder empty;
        const Ended missing =
            run_program("ultrasr-bench", {"--list-methods", "--weights", empty.path().string()});
        CHECK(missing.out.find("missing") != std::string::npos);
        CHECK(missing.out.find("realesr-animevideov3.safetensors") != std::string::npos);
    }

    TEST_CASE("ultrasr-bench: the whole job writes pictures, scores, tables, a page and JSON") {
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "small", out = folder.path() / "out";
        make_set(set, 2);
        const Ended ended =
            bench(set, out, {"--json", "--published", "paper"},
                  "bicubic,lanczos,realesr-animevideov3", "psnr-y601,ssim-y601,niqe");
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        const Json results = json_of(ended.out);
        CHECK(results["format"] == "ultrasr-results");
        CHECK(results["version"] == 1);
        REQUIRE(results["runs"].size() == 3);
        const Json& run = results["runs"][2];
        CHECK(run["set"]["name"] == "small");
        CHECK(run["set"]["scale"] == 4);
        CHECK(run["method"]["name"] == "realesr-animevideov3");
        CHECK(run["method"]["weights"][0]["verified"] == true);
        CHECK(run["method"]["scale_policy"] == "post");
        REQUIRE(run["metrics"].size() == 3);
        CHECK(run["metrics"][0]["n"] == 2);
        CHECK(run["metrics"][0]["settings"]["profile"] == "cuda");
        for (const char* file :
             {"results.json", "timing.json", "report.html", "tables/results.md",
              "tables/results.tex", "tables/results.csv", "small/x4/bicubic/scores.csv",
              "small/x4/bicubic/images/p0.png", "small/x4/realesr-animevideov3/images/p1.png"}) {
            CAPTURE(file);
            CHECK(fs::exists(out / file));
        }
        CHECK(temporary_files(out).empty());
        CHECK(read_image_size(out / "small/x4/lanczos/images/p0.png") == PixelSize{96, 96});
        // No absolute path and no time of day anywhere in the lasting files
        CHECK(read_file(out / "results.json").find(folder.path().string()) == std::string::npos);

        // table and report read it back
        const Ended table =
            run_program("ultrasr-bench", {"table", out.string(), "--format", "csv"});
        CHECK(table.exit == 0);
        CHECK(std::count(table.out.begin(), table.out.end(), '\n') == 4);
        fs::remove(out / "report.html");
        CHECK(run_program("ultrasr-bench", {"report", out.string(), "--data", set.string()}).exit ==
              0);
        CHECK(read_file(out / "report.html").find("data:image/jpeg;base64,") != std::string::npos);

        // compare two of the runs
        const Ended compared =
            run_program("ultrasr-bench", {"compare", (out / "small/x4/bicubic").string(),
                                          (out / "small/x4/lanczos").string(), "--json"});
        CHECK(compared.exit == 0);
        CHECK(json_of(compared.out)[0]["pictures"] == 2);
    }

    TEST_CASE("ultrasr-bench: the same bytes for 1 and 2 threads and from another place") {
        const test::TemporaryFolder one, two;
        make_set(one.path() / "set", 3);
        make_set(two.path() / "set", 3);
        CHECK(bench(one.path() / "set", one.path() / "out", {"--threads", "1"}, "bicubic",
                    "psnr-y601,niqe")
                  .exit == 0);
        CHECK(bench(two.path() / "set", two.path() / "out", {"--threads", "2"}, "bicubic",
                    "psnr-y601,niqe")
                  .exit == 0);
        CHECK(lasting(one.path() / "out") == lasting(two.path() / "out"));
    }

    TEST_CASE("ultrasr-bench: a second run does nothing again; other settings are refused") {
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 2);
        REQUIRE(bench(set, out).exit == 0);
        const auto image = out / "set/x4/bicubic/images/p0.png";
        const auto written = fs::last_write_time(image);
        REQUIRE(bench(set, out).exit == 0);
        CHECK(fs::last_write_time(image) == written);
        // A further metric scores the pictures that are there
        REQUIRE(bench(set, out, {}, "bicubic", "psnr-y601,psnr-rgb").exit == 0);
        CHECK(fs::last_write_time(image) == written);
        CHECK(
            read_file(out / "set/x4/bicubic/scores.csv").starts_with("image,psnr-y601,psnr-rgb\n"));
        // Another set under the same name
        write_png(set / "LR/p0.png", picture(24, 24, 9));
        check_refused(bench(set, out), 3, {"other settings", "input files", "--restart"});
        CHECK(bench(set, out, {"--restart"}).exit == 0);
        CHECK(fs::last_write_time(image) > written);
    }

    TEST_CASE("ultrasr-bench: shards join to the bytes of one run") {
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "set";
        make_set(set, 5);
        REQUIRE(bench(set, folder.path() / "whole").exit == 0);
        const fs::path out = folder.path() / "parts";
        const Ended first = bench(set, out, {"--shard", "1/2"});
        CHECK(first.exit == 0);
        CHECK(first.out.find("still missing") != std::string::npos);
        CHECK_FALSE(fs::exists(out / "results.json"));
        check_refused(bench(set, out, {"--merge"}), 3, {"not done yet"});
        CHECK(bench(set, out, {"--shard", "2/2"}).exit == 0);
        CHECK(lasting(out) == lasting(folder.path() / "whole"));
        check_refused(bench(set, out, {"--shard", "3/2"}), 2, {"--shard"});
    }

    TEST_CASE("ultrasr-bench: killed at random moments and started again, the result is the same") {
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 8);
        const std::vector<std::string> words{"--data",    set.string(),
                                             "--method",  "bicubic,realesr-animevideov3",
                                             "--metrics", "psnr-y601,niqe",
                                             "--out",     out.string(),
                                             "--threads", "2"};
        auto whole = words;
        whole[7] = (folder.path() / "whole").string();
        REQUIRE(run_program("ultrasr-bench", whole).exit == 0);
        Rng rng(11, 0);
        for (int round = 0; round < 10; ++round) {
            test::Program program("ultrasr-bench", words);
            std::this_thread::sleep_for(std::chrono::milliseconds(300 + rng.below(600)));
            program.send(SIGKILL);
            program.wait();
        }
        const Ended last = run_program("ultrasr-bench", words);
        CAPTURE(last.err);
        REQUIRE(last.exit == 0);
        CHECK(lasting(out) == lasting(folder.path() / "whole"));
    }

    TEST_CASE("ultrasr-bench: Ctrl-C ends with 130, says how to go on and keeps what is done") {
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 40, 128);
        test::Program program("ultrasr-bench",
                              {"--data", set.string(), "--method", "realesr-general-x4v3",
                               "--metrics", "psnr-y601", "--out", out.string()});
        const fs::path images = out / "set/x4/realesr-general-x4v3/images";
        const auto count = [&] {
            return fs::exists(images) ? std::distance(fs::directory_iterator(images), {}) : 0;
        };
        for (int i = 0; i < 20000 && count() == 0; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        program.send(SIGINT);
        const Ended ended = program.wait();
        CHECK(ended.exit == 130);
        CHECK(ended.err.find("interrupted; the same command goes on") != std::string::npos);
        CHECK(count() >= 1);
        CHECK(count() < 40);
        CHECK(temporary_files(out).empty());
    }

    TEST_CASE("ultrasr-bench: two runs into one folder, the second is refused") {
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 1);
        const FolderLock lock(out);
        check_refused(bench(set, out), 5, {"another run", out.string()});
    }

    TEST_CASE("ultrasr-bench: a full disk is exit 5; what was done stays and is used") {
        const SmallDisk disk("size=300k");
        if (!disk.usable()) return;
        const test::TemporaryFolder folder;
        make_set(folder.path() / "set", 12, 128);
        const fs::path out = disk.path() / "out";
        check_refused(bench(folder.path() / "set", out), 5, {"No space left", "free space"});
        const fs::path images = out / "set/x4/bicubic/images";
        const auto kept = std::distance(fs::directory_iterator(images), {});
        CHECK(kept >= 1);
        CHECK(temporary_files(out).empty());
        const auto first = fs::directory_iterator(images)->path();
        const auto written = fs::last_write_time(first);
        REQUIRE(::mount("", disk.path().c_str(), "", MS_REMOUNT, "size=20m") == 0);
        CHECK(bench(folder.path() / "set", out).exit == 0);
        CHECK(fs::last_write_time(first) == written);
    }

    TEST_CASE("ultrasr-bench: no permission to write is exit 5") {
        const test::TemporaryFolder folder;
        make_set(folder.path() / "set", 1);
        if (::geteuid() != 0) {
            const fs::path closed = folder.path() / "closed";
            fs::create_directories(closed);
            fs::permissions(closed, fs::perms::owner_read | fs::perms::owner_exec);
            check_refused(bench(folder.path() / "set", closed / "out"), 5, {"Permission denied"});
            return;
        }
        const SmallDisk disk("size=1m");
        if (!disk.usable()) return;
        REQUIRE(disk.remount(MS_RDONLY));
        check_refused(bench(folder.path() / "set", disk.path() / "out"), 5,
                      {"Read-only file system"});
    }

    TEST_CASE("ultrasr-bench: unknown names and options are exit 2 and list the known ones") {
        const test::TemporaryFolder folder;
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
        const test::TemporaryFolder folder;
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
        const test::TemporaryFolder folder;
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

    TEST_CASE("ultrasr-bench: 16-bit, alpha and grey pictures are used and told about") {
        const test::TemporaryFolder folder;
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
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 1, 92);
        check_refused(bench(set, out, {}, "bicubic", "psnr-y601,niqe"), 3, {"92 x 92", "96"});
        CHECK_FALSE(fs::exists(out));
        CHECK(bench(set, out).exit == 0);  // PSNR alone is content
    }

    TEST_CASE("ultrasr-bench: a flat picture's NIQE is undefined: counted, shown, not averaged") {
        const test::TemporaryFolder folder;
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
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        const fs::path weights = folder.path() / "weights";
        const std::string name = "realesr-animevideov3.safetensors";
        make_set(set, 1);
        fs::create_directories(weights);
        const auto run = [&](std::vector<std::string> more = {}) {
            more.insert(more.end(), {"--weights", weights.string()});
            return bench(set, out, more, "realesr-animevideov3");
        };
        check_refused(run(), 3, {name, "BSD-3-Clause", "github.com/xinntao", weights.string()});
        const std::string whole = read_file(test::source_folder() / "data/weights" / name);
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

    TEST_CASE("ultrasr-bench: no GPU is exit 4, before any work") {
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 1);
        const Ended ended = bench(set, out, {"--device", "cuda:63"}, "realesr-animevideov3");
        check_refused(ended, 4, {"GPU", "--device cpu"});
        CHECK_FALSE(fs::exists(out));
    }

    TEST_CASE("ultrasr-bench folder: finished pictures by name; wrong sizes and gaps are exit 3") {
        const test::TemporaryFolder folder;
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

    TEST_CASE("ultrasr-bench score: any two folders, rows to a file, summary to stdout") {
        const test::TemporaryFolder folder;
        make_set(folder.path(), 2);
        const fs::path csv = folder.path() / "scores.csv";
        const Ended ended =
            run_program("ultrasr-bench", {"score", "--sr", (folder.path() / "HR").string(), "--hr",
                                          (folder.path() / "HR").string(), "--metrics",
                                          "psnr-y601,niqe", "--csv", csv.string(), "--json"});
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        CHECK(json_of(ended.out)["metrics"][0]["mean"] == 80.0);
        CHECK(read_file(csv).starts_with("image,psnr-y601,niqe\np0.png,80,"));
    }

    TEST_CASE("ultrasr-bench score: peak memory does not grow with the number of pictures") {
        const test::TemporaryFolder folder;
        const auto peak = [&](const std::string& name, int n) {
            make_set(folder.path() / name, n, 256);
            const Ended ended = run_program(
                "ultrasr-bench", {"score", "--sr", (folder.path() / name / "HR").string(), "--hr",
                                  (folder.path() / name / "HR").string(), "--metrics",
                                  "psnr-y601,ssim-y601,niqe", "--threads", "2"});
            CHECK(ended.exit == 0);
            return static_cast<double>(ended.peak_kib);
        };
        const double few = peak("few", 6);
        const double many = peak("many", 60);
        // 54 pictures more, kept, would be 40 MiB; 8 MiB is what allocators vary by
        CHECK(many - few < 8 * 1024);
    }

    TEST_CASE("ultrasr-bench restore: a folder or a file, any scale, the same names; resumes") {
        const test::TemporaryFolder folder;
        make_set(folder.path(), 2);
        const fs::path out = folder.path() / "out";
        const std::vector<std::string> words{"restore",
                                             "--method",
                                             "bicubic",
                                             "--scale",
                                             "2.5",
                                             "--in",
                                             (folder.path() / "LR").string(),
                                             "--out",
                                             out.string()};
        REQUIRE(run_program("ultrasr-bench", words).exit == 0);
        CHECK(read_image_size(out / "p1.png") == PixelSize{60, 60});
        const auto written = fs::last_write_time(out / "p1.png");
        REQUIRE(run_program("ultrasr-bench", words).exit == 0);
        CHECK(fs::last_write_time(out / "p1.png") == written);
        CHECK(run_program("ultrasr-bench", {"restore", "--method", "realesr-animevideov3", "--in",
                                            (folder.path() / "LR/p0.png").string(), "--out",
                                            (folder.path() / "one").string()})
                  .exit == 0);
        CHECK(read_image_size(folder.path() / "one/p0.png") == PixelSize{96, 96});
    }

    TEST_CASE("ultrasr-bench figure: crops of all methods side by side") {
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 1);
        REQUIRE(bench(set, out, {}, "bicubic,lanczos").exit == 0);
        const fs::path figure = folder.path() / "figure.png";
        const Ended ended = run_program(
            "ultrasr-bench", {"figure", out.string(), "--image", "p0", "--box", "10,20,32,24",
                              "--data", set.string(), "--png", figure.string()});
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        CHECK(read_image_size(figure).width >= 4 * 32);  // LR, two methods, HR
        check_refused(run_program("ultrasr-bench", {"figure", out.string(), "--image", "nobody",
                                                    "--auto", "--png", figure.string()}),
                      3, {"nobody", "p0"});
        check_refused(
            run_program("ultrasr-bench", {"figure", out.string(), "--image", "p0", "--box",
                                          "90,0,32,24", "--png", figure.string()}),
            3, {"96 x 96"});
    }

    TEST_CASE("ultrasr-bench --config: JSON and TOML give options, the command line wins") {
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "set";
        make_set(set, 1);
        write_file(folder.path() / "a.json",
                   fmt::format(R"({{"data": "{}", "method": ["bicubic", "lanczos"],
                                   "metrics": "psnr-rgb", "seed": 4}})",
                               set.string()));
        const Ended json =
            run_program("ultrasr-bench", {"--config", (folder.path() / "a.json").string(), "--out",
                                          (folder.path() / "o1").string(), "--json"});
        CAPTURE(json.err);
        REQUIRE(json.exit == 0);
        CHECK(json_of(json.out)["runs"].size() == 2);
        write_file(folder.path() / "b.toml",
                   fmt::format("data = \"{}\"\nmethod = \"lanczos\"\nmetrics = \"psnr-rgb\"\n",
                               set.string()));
        const Ended toml = run_program(
            "ultrasr-bench", {"--config", (folder.path() / "b.toml").string(), "--out",
                              (folder.path() / "o2").string(), "--json", "--method", "bicubic"});
        CAPTURE(toml.err);
        REQUIRE(toml.exit == 0);
        CHECK(json_of(toml.out)["runs"][0]["method"]["label"] == "bicubic");
        write_file(folder.path() / "c.json", R"({"metod": "bicubic"})");
        check_refused(
            run_program("ultrasr-bench", {"--config", (folder.path() / "c.json").string()}), 2,
            {"metod", "--method"});
        const Json options = parse_json(read_file(folder.path() / "o1/options.json"), "options");
        CHECK(options["seed"] == "4");
    }
}
