// ultrasr-bench as a user meets it: help, lists, the main job and the smaller ones.
#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/file.h"
#include "data/image_io.h"
#include "tests/cli/bench_set.h"
#include "tests/cli/disk.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

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
        for (const char* sub :
             {"score", "restore", "table", "report", "compare", "figure", "fid-stats"}) {
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
            "psnr-y601 psnr-yiq psnr-rgb ssim-y601 ssim-yiq ms-ssim lpips-alex lpips-vgg dists fid "
            "niqe niqe-y601 musiq "));
        for (const char* name :
             {"musiq-spaq", "musiq-paq2piq", "musiq-ava", "clipiqa", "clipiqa+", "maniqa-pipal"}) {
            CHECK(names.find(fmt::format(" {} ", name)) != std::string::npos);
        }
        const Ended methods = run_program("ultrasr-bench", {"--list-methods"});
        CHECK(methods.exit == 0);
        for (const char* name : {"bicubic", "lanczos", "realesrgan-x4plus", "realesr-general-x4v3",
                                 "realesr-animevideov3", "folder:"}) {
            CHECK(methods.out.find(name) != std::string::npos);
        }
        const TemporaryFolder empty;
        const Ended missing =
            run_program("ultrasr-bench", {"--list-methods", "--weights", empty.path().string()});
        CHECK(missing.out.find("missing") != std::string::npos);
        CHECK(missing.out.find("BSRGAN.safetensors") != std::string::npos);
    }

    TEST_CASE("ultrasr-bench: the whole job writes pictures, scores, tables, a page and JSON") {
        const TemporaryFolder folder;
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

    TEST_CASE("ultrasr-bench score: any two folders, rows to a file, summary to stdout") {
        const TemporaryFolder folder;
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
        const TemporaryFolder folder;
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
        const TemporaryFolder folder;
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
        const TemporaryFolder folder;
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
        const TemporaryFolder folder;
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
