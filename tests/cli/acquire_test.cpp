#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/file.h"
#include "tests/cli/disk.h"
#include "tests/cli/program.h"
#include "tests/cli/register_series.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

bool holds(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("cli") {
    TEST_CASE("ultrasr-acquire plan: the figures of the capture guide") {
        const test::Ended ended =
            test::run_program("ultrasr-acquire", {"plan", "--distance", "30", "--json"});
        REQUIRE(ended.exit == 0);
        const Json plan = parse_json(ended.out, "plan");
        // registration.md 14: x8 224 to 230 mm; at 30 m a depth of 4 m (x8), 7 m (x14)
        bool seen8 = false, seen14 = false;
        for (const Json& frame : plan.at("frames")) {
            if (frame.at("scale") == 8.0) {
                seen8 = true;
                CHECK(frame.at("from_mm") == 224);
                CHECK(frame.at("to_mm") == 230);
                CHECK(frame.at("parallax").at("depth_m").get<double>() ==
                      doctest::Approx(4).epsilon(0.05));
            }
            if (frame.at("scale") == 14.0) {
                seen14 = true;
                CHECK(frame.at("to_mm") == 400);
                CHECK(frame.at("parallax").at("depth_m").get<double>() ==
                      doctest::Approx(7).epsilon(0.05));
            }
        }
        CHECK(seen8);
        CHECK(seen14);
        const test::Ended text = test::run_program("ultrasr-acquire", {"plan", "--distance", "10"});
        CHECK(text.exit == 0);
        CHECK(holds(text.out, "Checklist"));
        CHECK(test::run_program("ultrasr-acquire", {"plan", "--wide", "0"}).exit == 2);
    }

    TEST_CASE(
        "ultrasr-acquire check: a whole capture is ready, a lacking one says what is missing") {
        const test::Ended good = test::run_program(
            "ultrasr-acquire", {"check", test::series().string(), "--scales", "8,14", "--json"});
        REQUIRE(good.exit == 0);
        for (const Json& scene : parse_json(good.out, "check").at("scenes")) {
            for (const Json& finding : scene.at("findings")) {
                CHECK(finding.at("code") != "missing_focal");
            }
        }
        const test::Ended lacking = test::run_program(
            "ultrasr-acquire", {"check", test::series().string(), "--scales", "8,12"});
        CHECK(lacking.exit == 0);
        CHECK(holds(lacking.out, "missing_focal: no frame fits x12; set the ring to 336 mm"));
        CHECK(holds(lacking.out, "0 of 2 scenes ready"));
        const test::Ended none = test::run_program("ultrasr-acquire", {"check", "/nonexistent"});
        CHECK(none.exit == 3);
        CHECK(holds(none.err, "give the folder of the captures"));
    }

    TEST_CASE(
        "ultrasr-acquire simulate: the seed fixes every byte, unknown faults list the known") {
        const test::TemporaryFolder folder;
        const auto simulate = [&](const std::string& name, const std::string& seed,
                                  const std::string& threads) {
            const fs::path out = folder.path() / name;
            REQUIRE(test::run_program("ultrasr-acquire",
                                      {"simulate", out.string(), "--size", "720x480", "--scales",
                                       "8", "--count", "1", "--seed", seed, "--threads", threads})
                        .exit == 0);
            std::string all;
            for (const std::string& file : test::files_in(out)) {
                all += file + " " + sha256_of_file(out / file) + "\n";
            }
            return all;
        };
        const std::string one = simulate("one", "5", "1");
        CHECK(holds(one, "truth.json"));
        CHECK(simulate("two", "5", "2") == one);
        CHECK(simulate("other", "6", "2") != one);
        const test::Ended ended = test::run_program(
            "ultrasr-acquire", {"simulate", (folder.path() / "x").string(), "--fault", "rain"});
        CHECK(ended.exit == 2);
        CHECK(holds(ended.err, "moving, parallax, defocus_tele, defocus_wide, shake, other"));
        CHECK(!fs::exists(folder.path() / "x"));
    }

    TEST_CASE("ultrasr-acquire: options of few words list them, in the help and when refused") {
        const test::TemporaryFolder folder;
        const std::string out = (folder.path() / "x").string();
        const test::Ended help = test::run_program("ultrasr-acquire", {"simulate", "--help"});
        CHECK(holds(help.out, "--tele corrected|mixed|uncorrected"));
        const test::Ended refused =
            test::run_program("ultrasr-acquire", {"simulate", out, "--tele", "bent"});
        CHECK(refused.exit == 2);
        CHECK(holds(refused.err, "--tele: takes corrected|mixed|uncorrected, not bent"));
        CHECK(!fs::exists(out));
    }

    TEST_CASE("ultrasr-acquire: a GPU is exit 4, before any work; --device cpu is what it does") {
        const test::TemporaryFolder folder;
        const std::string out = (folder.path() / "x").string();
        const std::vector<std::vector<std::string>> jobs{
            {"plan"},
            {"check", folder.path().string()},
            {"simulate", out, "--size", "720x480", "--scales", "8", "--count", "1"}};
        for (std::vector<std::string> words : jobs) {
            CAPTURE(words[0]);
            words.insert(words.end(), {"--device", "cuda:1"});
            const test::Ended ended = test::run_program("ultrasr-acquire", words);
            CHECK(ended.exit == 4);
            CHECK(holds(ended.err, "ultrasr-acquire runs on the CPU only; leave --device cuda:1"));
        }
        CHECK(!fs::exists(out));
        CHECK(test::run_program("ultrasr-acquire", {"plan", "--device", "cpu"}).exit == 0);
    }

    TEST_CASE("ultrasr-acquire --help: an example, and every sub-command with its own") {
        for (const std::string sub : {"", "plan", "check", "simulate"}) {
            std::vector<std::string> words;
            if (!sub.empty()) words.push_back(sub);
            words.push_back("--help");
            const test::Ended ended = test::run_program("ultrasr-acquire", words);
            CHECK(ended.exit == 0);
            CHECK_MESSAGE(holds(ended.out, "Example"), sub);
        }
    }
}
