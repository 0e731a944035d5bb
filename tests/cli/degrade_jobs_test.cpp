// What ultrasr-degrade makes: the same bytes however it is run, records that replay, sheets,
// statistics, presets.
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "data/file.h"
#include "data/image_io.h"
#include "data/weights/safetensors.h"
#include "tests/cli/bench_set.h"
#include "tests/cli/degrade_pictures.h"
#include "tests/cli/disk.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

namespace {

Ended tool(std::vector<std::string> words) { return run_program("ultrasr-degrade", words); }

struct Photographs {
    TemporaryFolder folder;
    fs::path in = folder.path() / "in";
    explicit Photographs(int n, int side = 80) { make_photographs(in, n, side); }
    fs::path operator/(const char* name) const { return folder.path() / name; }
};

/// Everything but records and options, which name what differs on purpose.
std::string pictures_of(const fs::path& out) {
    std::string all;
    const std::string tree = tree_of(out);
    for (std::size_t at = 0; at < tree.size();) {
        const std::size_t end = tree.find('\n', at) + 1;
        const std::string line = tree.substr(at, end - at);
        if (line.find(".json") == std::string::npos) all += line;
        at = end;
    }
    return all;
}

}  // namespace

TEST_SUITE("cli") {
    TEST_CASE(
        "ultrasr-degrade: the same bytes for 1, 2 and 8 threads, 1 and 3 shards, in every "
        "format") {
        const Photographs p(4);
        for (const char* format : {"folder", "hdf5", "tar"}) {
            CAPTURE(format);
            const std::vector<std::string> words{"--levels", "4,8,14", "--per-image",  "2",
                                                 "--format", format,   "--shard-size", "3"};
            const auto run = [&](const std::string& name, std::vector<std::string> more) {
                more.insert(more.begin(), words.begin(), words.end());
                const Ended ended = degrade(p.in, p.folder.path() / (format + name), more);
                CAPTURE(ended.err);
                CHECK(ended.exit == 0);
            };
            run("1", {"--threads", "1"});
            const std::string expected = tree_of(p.folder.path() / (format + std::string("1")));
            CHECK(expected.find("records.jsonl") != std::string::npos);
            for (const char* threads : {"2", "8"}) {
                run(threads, {"--threads", threads});
                CHECK(tree_of(p.folder.path() / (format + std::string(threads))) == expected);
            }
            for (const char* shard : {"2/3", "1/3", "3/3"}) run("s", {"--shard", shard});
            CHECK(tree_of(p.folder.path() / (format + std::string("s"))) == expected);
        }
    }

    TEST_CASE("ultrasr-degrade: an output depends on its own picture alone") {
        const Photographs p(3);
        REQUIRE(degrade(p.in, p / "all").exit == 0);
        // Without its neighbours and in a folder of another name
        fs::create_directories(p / "other");
        fs::copy_file(p.in / "p1.png", (p / "other") / "p1.png");
        REQUIRE(degrade(p / "other", p / "one").exit == 0);
        const Json one = records_in(p / "one")[0];
        bool found = false;
        for (const Json& record : records_in(p / "all")) {
            if (record["id"] == one["id"]) {
                found = true;
                CHECK(record == one);
            }
        }
        CHECK(found);
        // Another seed and another patch of the same picture are something else
        REQUIRE(degrade(p / "other", p / "seed", {"--seed", "1"}).exit == 0);
        CHECK(records_in(p / "seed")[0]["sha256"] != one["sha256"]);
    }

    TEST_CASE("ultrasr-degrade: x8 of three levels is x8 alone, under couple stage1") {
        const Photographs p(2, 112);
        REQUIRE(degrade(p.in, p / "three", {"--levels", "4,8,14", "--patch", "112"}).exit == 0);
        REQUIRE(degrade(p.in, p / "one",
                        {"--scale", "8", "--patch", "112", "--set", "poisson_vals=content"})
                    .exit == 0);
        REQUIRE(degrade(p.in, p / "three2",
                        {"--levels", "4,8,14", "--patch", "112", "--set", "poisson_vals=content"})
                    .exit == 0);
        for (std::size_t i = 0; i < 2; ++i) {
            CHECK(records_in(p / "one")[i]["sha256"]["lr_x8"] ==
                  records_in(p / "three2")[i]["sha256"]["lr_x8"]);
            CHECK(records_in(p / "one")[i]["levels"][0]["steps"] ==
                  records_in(p / "three2")[i]["levels"][1]["steps"]);
        }
    }

    TEST_CASE("ultrasr-degrade replay: the same bytes from every preset; other ones by override") {
        const Photographs p(2, 120);
        for (const char* preset :
             {"realesrgan", "osediff", "seesr", "seesr-mild", "pisasr", "adcsr", "stablesr",
              "stablesr-768", "bsrgan", "bsrgan-plus", "femasr", "face-codeformer", "ultra-mild",
              "ultra-moderate", "ultra-severe"}) {
            CAPTURE(preset);
            const fs::path out = p.folder.path() / preset;
            REQUIRE(degrade(p.in, out, {"--preset", preset, "--patch", "112", "--per-image", "4"})
                        .exit == 0);
            const Ended again = tool({"replay", (out / "records.jsonl").string(), "--in",
                                      p.in.string(), "--out", (p / "again").string()});
            CAPTURE(again.err);
            CHECK(again.exit == 0);
            CHECK(again.out == "8 replayed, all equal to their records\n");
            CHECK(pictures_of(p / "again") == pictures_of(out));
            fs::remove_all(p / "again");
        }
        const fs::path out = p.folder.path() / "osediff";
        const std::string records = (out / "records.jsonl").string();
        REQUIRE(tool({"replay", records, "--in", p.in.string(), "--out", (p / "q").string(),
                      "--override", "jpeg2_q=12", "--dump-steps", (p / "steps").string()})
                    .exit == 0);
        CHECK(pictures_of(p / "q") != pictures_of(out));
        for (const Json& record : records_in(p / "q")) {
            for (const Json& step : record["levels"][0]["steps"]) {
                if (step["name"] == "final.jpeg") CHECK(step["params"]["quality"] == 12);
            }
        }
        // The overridden records replay too
        CHECK(tool({"replay", (p / "q/records.jsonl").string(), "--in", p.in.string(), "--out",
                    (p / "q2").string()})
                  .out == "8 replayed, all equal to their records\n");
        CHECK(fs::exists((p / "steps") /
                         (records_in(out)[0]["id"].get<std::string>() + ".safetensors")));
        check_refused(tool({"replay", records, "--in", p.in.string(), "--out", (p / "q").string(),
                            "--override", "jpeg3_q=12"}),
                      2, {"'jpeg3_q'", "final.jpeg.quality"});
        // Another file under the name
        write_file(p.in / "p0.png", encode_png(photograph(120, 120, 9)));
        check_refused(tool({"replay", records, "--in", p.in.string(), "--out", (p / "q").string()}),
                      3, {"p0.png", "SHA-256 differs"});
    }

    TEST_CASE(
        "ultrasr-degrade replay: HDF5 shards carry their records; --explain tells the "
        "chain") {
        const Photographs p(2);
        REQUIRE(degrade(p.in, p / "h", {"--format", "hdf5"}).exit == 0);
        const std::string shard = (p / "h/shard_0000.h5").string();
        CHECK(tool({"replay", shard, "--in", p.in.string(), "--out", (p / "again").string()}).out ==
              "2 replayed, all equal to their records\n");
        const Ended told = tool({"replay", shard, "--explain"});
        CHECK(told.exit == 0);
        for (const char* word : {"stage1.blur", "final.jpeg", "quality", "x4:", "p0.png"}) {
            CAPTURE(word);
            CHECK(told.out.find(word) != std::string::npos);
        }
    }

    TEST_CASE("ultrasr-degrade: sizes by rule, layouts, names, levels up") {
        const Photographs p(1, 520);
        const auto size = [&](const fs::path& out, const std::string& picture) {
            const std::string id = records_in(out)[0]["id"].get<std::string>();
            return read_rgb8(out / picture / (id + ".png")).size();
        };
        // degradation.md 3.2
        REQUIRE(degrade(p.in, p / "f", {"--levels", "10,12,14", "--patch", "512"}).exit == 0);
        CHECK(size(p / "f", "lr_x10") == cv::Size(51, 51));
        CHECK(size(p / "f", "lr_x12") == cv::Size(42, 42));
        CHECK(size(p / "f", "lr_x14") == cv::Size(36, 36));
        CHECK(size(p / "f", "gt") == cv::Size(512, 512));
        REQUIRE(degrade(p.in, p / "e",
                        {"--scale", "14", "--patch", "512", "--lr-size-rule", "exact_crop"})
                    .exit == 0);
        CHECK(size(p / "e", "gt") == cv::Size(504, 504));
        CHECK(size(p / "e", "lr_x14") == cv::Size(36, 36));
        REQUIRE(degrade(p.in, p / "l",
                        {"--scale", "8", "--lr-size-rule", "fixed_lr", "--lr-size", "60"})
                    .exit == 0);
        CHECK(size(p / "l", "gt") == cv::Size(480, 480));
        CHECK(size(p / "l", "lr_x8") == cv::Size(60, 60));
        REQUIRE(degrade(p.in, p / "s",
                        {"--preset", "seesr", "--patch", "512", "--save", "gt,lr,lr_up", "--layout",
                         "seesr", "--names", "path"})
                    .exit == 0);
        CHECK(read_rgb8(p / "s/sr_bicubic/p0.png").size() == cv::Size(512, 512));
        CHECK(read_rgb8(p / "s/lr/p0.png").size() == cv::Size(128, 128));
        // Real-ESRGAN's second crop
        REQUIRE(degrade(p.in, p / "r", {"--preset", "realesrgan", "--patch", "400"}).exit == 0);
        CHECK(size(p / "r", "gt") == cv::Size(256, 256));
        CHECK(size(p / "r", "lr_x4") == cv::Size(64, 64));
    }

    TEST_CASE("ultrasr-degrade: couplings") {
        const Photographs p(3, 112);
        const auto run = [&](const std::string& couple, std::vector<std::string> more) {
            more.insert(more.end(), {"--couple", couple, "--patch", "112"});
            const fs::path out = p.folder.path() / couple;
            REQUIRE(degrade(p.in, out, more).exit == 0);
            return records_in(out);
        };
        const auto step = [](const Json& record, std::size_t level, const char* name) {
            for (const Json& s : record["levels"][level]["steps"]) {
                if (s["name"] == name) return s["params"];
            }
            return Json();
        };
        const std::vector<std::string> levels{"--levels", "4,8"};
        for (const Json& r : run("stage1", levels)) {
            CHECK(r["shared"].size() >= 4);
            CHECK(step(r, 0, "final.jpeg")["quality"] == step(r, 1, "final.jpeg")["quality"]);
            CHECK(step(r, 0, "stage2.noise")["level"] == 4);
            CHECK(step(r, 1, "stage2.noise")["level"] == 8);
        }
        for (const Json& r : run("params", levels)) {
            CHECK(r["shared"].empty());
            CHECK(step(r, 0, "stage1.jpeg") == step(r, 1, "stage1.jpeg"));
            CHECK(step(r, 0, "stage1.noise")["level"] != step(r, 1, "stage1.noise")["level"]);
        }
        for (const Json& r : run("independent", levels)) {
            CHECK(step(r, 0, "stage1.jpeg") != step(r, 1, "stage1.jpeg"));
        }
        for (const Json& r : run("cascade", levels)) {
            CHECK(r["levels"][1]["input"] == 0);
            CHECK(r["levels"][1]["lr"] == Json({14, 14}));
        }
        // The same scale, three severities: every parameter is worse from level to level
        for (const Json& r : run("comonotone", {"--levels", "8,8,8", "--preset",
                                                "ultra-mild,ultra-moderate,ultra-severe"})) {
            CHECK(r["levels"][1]["name"] == "x8b");
            for (std::size_t level = 0; level < 2; ++level) {
                CHECK(step(r, level, "stage1.jpeg")["quality"].get<double>() >=
                      step(r, level + 1, "stage1.jpeg")["quality"].get<double>());
                CHECK(step(r, level, "final.jpeg")["quality"].get<double>() >=
                      step(r, level + 1, "final.jpeg")["quality"].get<double>());
                const Json mild = step(r, level, "stage1.noise"),
                           worse = step(r, level + 1, "stage1.noise");
                const char* strength = mild.contains("sigma") ? "sigma" : "scale";
                CHECK(mild[strength].get<double>() <= worse[strength].get<double>());
            }
        }
    }

    TEST_CASE("ultrasr-degrade: --triplet-filter order redraws until PSNR falls") {
        const Photographs p(4, 112);
        REQUIRE(degrade(p.in, p / "o",
                        {"--levels", "4,8,14", "--patch", "112", "--couple", "independent",
                         "--triplet-filter", "order"})
                    .exit == 0);
        int redrawn = 0;
        for (const Json& r : records_in(p / "o")) {
            redrawn += r["order"]["tries"].get<int>() > 1;
            if (!r["order"]["kept"].get<bool>()) continue;
            CHECK(r["levels"][0]["psnr"].get<double>() > r["levels"][1]["psnr"].get<double>());
            CHECK(r["levels"][1]["psnr"].get<double>() > r["levels"][2]["psnr"].get<double>());
        }
        CHECK(redrawn >= 1);  // of four independent triplets about half are out of order
    }

    TEST_CASE("ultrasr-degrade sheet and stats: pictures and tables from the records") {
        const Photographs p(3, 112);
        for (const char* preset : {"ultra-mild", "ultra-severe"}) {
            REQUIRE(degrade(p.in, p.folder.path() / preset,
                            {"--levels", "4,14", "--patch", "112", "--preset", preset})
                        .exit == 0);
        }
        const std::string mild = (p / "ultra-mild").string(),
                          severe = (p / "ultra-severe").string();
        const Ended sheet = tool({"sheet", mild, severe, "--out", (p / "sheet.png").string(),
                                  "--count", "2", "--side", "100", "--json"});
        CAPTURE(sheet.err);
        REQUIRE(sheet.exit == 0);
        const cv::Mat picture = read_rgb8(p / "sheet.png");
        CHECK(picture.cols == 10 + 3 * 110);
        CHECK(json_of(sheet.out)["pictures"] == 2);
        CHECK(picture.rows > 4 * 120);  // two pictures in two folders

        const Ended stats =
            tool({"stats", severe, "--against", mild, "--svg", (p / "draws.svg").string(), "--csv",
                  (p / "draws.csv").string(), "--json"});
        CAPTURE(stats.err);
        REQUIRE(stats.exit == 0);
        const Json quantities = json_of(stats.out)["quantities"];
        CHECK(quantities["stage1.quality"]["source"]["count"] == 3);
        CHECK(quantities["x14.lr_noise"]["against"]["count"] == 3);
        CHECK(quantities["x4.psnr"]["source"]["mean"].get<double>() <
              quantities["x4.psnr"]["against"]["mean"].get<double>());
        CHECK(read_file(p / "draws.svg").find("stage1.quality") != std::string::npos);
        CHECK(read_file(p / "draws.csv").starts_with("quantity,of,count,mean"));
        // Against a folder of real pictures
        const Ended real = tool({"stats", severe, "--against", p.in.string(), "--json"});
        CHECK(json_of(real.out)["quantities"]["x4.lr_noise"]["against"]["count"] == 3);
        check_refused(tool({"stats", p.in.string()}), 3, {"records.jsonl"});
        check_refused(tool({"sheet", p.in.string(), "--out", (p / "x.png").string()}), 3,
                      {"records.jsonl"});
    }

    TEST_CASE("ultrasr-degrade presets: what is shown can be given back, as JSON and as yml") {
        const TemporaryFolder folder;
        for (const char* as : {"json", "yml"}) {
            const std::string file = (folder.path() / (std::string("mine.") + as)).string();
            const Ended shown = tool({"presets", "--show", "ultra-severe", "--as", as});
            REQUIRE(shown.exit == 0);
            write_file(file, shown.out);
            const Ended back = tool({"presets", "--show", file, "--json"});
            CAPTURE(back.err);
            REQUIRE(back.exit == 0);
            Json again = json_of(back.out);
            Json first = json_of(tool({"presets", "--show", "ultra-severe", "--json"}).out);
            again.erase("name");
            first.erase("name");
            CHECK(again == first);
        }
        // A Real-ESRGAN file, its inert keys named
        write_file(folder.path() / "re.yml",
                   "name: x\nresize_range: [0.3, 1.5]\nblur_kernel_size: 21\ndatasets:\n  train:\n"
                   "    blur_sigma: [0.2, 1.5]\n    use_rot: False\n");
        const Ended imported =
            tool({"presets", "--show", (folder.path() / "re.yml").string(), "--json"});
        REQUIRE(imported.exit == 0);
        CHECK(json_of(imported.out)["blur_sigma"] == Json({0.2, 1.5}));
        CHECK(json_of(imported.out)["resize_range"] == Json({0.3, 1.5}));
        CHECK(imported.err.find("blur_kernel_size") != std::string::npos);
    }

    TEST_CASE("ultrasr-degrade: memory does not grow with the number of outputs") {
        const Photographs p(2, 96);
        const Ended few = degrade(p.in, p / "few", {"--per-image", "2", "--levels", "4,8"});
        const Ended many = degrade(p.in, p / "many", {"--per-image", "150", "--levels", "4,8"});
        REQUIRE(few.exit == 0);
        REQUIRE(many.exit == 0);
        CAPTURE(few.peak_kib);
        CAPTURE(many.peak_kib);
        // Holding the 296 further records would take 20 MiB and more
        CHECK(many.peak_kib - few.peak_kib < 8 * 1024);
        const Ended again = degrade(p.in, p / "many", {"--per-image", "150", "--levels", "4,8"});
        CHECK(again.peak_kib - few.peak_kib < 8 * 1024);
    }

    TEST_CASE(
        "ultrasr-degrade apply-step: BasicSR's golden cases in one batch through the program") {
        const TemporaryFolder folder;
        const Json golden_cases = json_of(read_file(golden("degradation_steps.json"))).at("cases");
        Json batch = Json::array();
        for (const Json& c : golden_cases) {
            Json entry{{"name", c["name"]}, {"step", c["step"]}, {"params", c["params"]}};
            if (c.contains("tensors")) entry["tensors"] = c["tensors"];
            batch.push_back(std::move(entry));
        }
        write_file(folder.path() / "cases.json", dump_json(batch));
        const fs::path in = golden("degradation_steps.safetensors"),
                       out = folder.path() / "out.safetensors";
        const Ended ended = tool({"apply-step", "--step", "batch", "--params",
                                  (folder.path() / "cases.json").string(), "--in", in.string(),
                                  "--out", out.string()});
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        const SafetensorsFile expected(in), made(out);
        int compared = 0;
        for (const Json& c : golden_cases) {
            const auto name = c["name"].get<std::string>();
            CAPTURE(name);
            const TensorView* mine = made.find(name + ".out");
            const TensorView* theirs = expected.find(c["expected"].get<std::string>());
            REQUIRE(mine != nullptr);
            REQUIRE(theirs != nullptr);
            // Kernels come in their own size, the golden ones padded to 21; blocks at ties are
            // test_degradation's business
            if (mine->shape != theirs->shape || c.contains("exclude_blocks")) continue;
            double most = 0;
            for (std::size_t i = 0; i < mine->bytes.size(); i += sizeof(float)) {
                float a = 0, b = 0;
                std::memcpy(&a, mine->bytes.data() + i, sizeof a);
                std::memcpy(&b, theirs->bytes.data() + i, sizeof b);
                most = std::max(most, std::abs(static_cast<double>(a - b)));
            }
            CHECK(most <= c["tolerance"].get<double>());
            ++compared;
        }
        CHECK(compared > 120);
        // One primitive by itself
        const Ended kernel = tool({"apply-step", "--step", "kernel", "--params",
                                   R"({"type": "aniso", "size": 13, "sigma_x": 2, "sigma_y": 1})",
                                   "--out", (folder.path() / "kernel.safetensors").string()});
        CHECK(kernel.exit == 0);
        CHECK(SafetensorsFile(folder.path() / "kernel.safetensors").find("out")->shape ==
              std::vector<std::int64_t>{13, 13});
    }

    TEST_CASE("ultrasr-degrade --dry-run: tells speed and space, writes nothing") {
        const Photographs p(2);
        const Ended ended = degrade(p.in, p / "out", {"--dry-run", "--json"});
        CHECK(ended.exit == 0);
        CHECK(json_of(ended.out)["outputs"] == 2);
        CHECK(json_of(ended.out)["bytes"].get<long>() > 1000);
        CHECK_FALSE(fs::exists(p / "out"));
    }
}
