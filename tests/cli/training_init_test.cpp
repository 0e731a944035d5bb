// sdd-train init: help, and random families.
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/file.h"
#include "tests/cli/disk.h"
#include "tests/cli/training_run.h"
#include "tests/test.h"

using namespace ultrasr;
using test::Ended;
using test::holds;
using test::train;
namespace fs = std::filesystem;

TEST_SUITE("cli") {
    TEST_CASE("sdd-train: help with examples; a sub-command is required") {
        CHECK(holds(train({"--help"}).out, "Example:\n  sdd-train"));
        const Ended help = train({"init", "--help"});
        CHECK(help.exit == 0);
        CHECK(holds(help.out, "Example:\n  sdd-train init"));
        CHECK(holds(help.out, "--dtype bf16|f16|f32"));
        CHECK(train({}).exit == 2);
        CHECK(train({"init"}).exit == 2);
    }

    TEST_CASE(
        "sdd-train init: a family by seed, whatever the threads; other settings are refused") {
        const test::TemporaryFolder folder;
        const std::string config = (folder.path() / "tiny.json").string();
        write_file(config, test::tiny_family);
        const auto make = [&](const std::string& out, std::vector<std::string> more) {
            std::vector<std::string> words{"init", "--config", config, "--out",
                                           (folder.path() / out).string()};
            words.insert(words.end(), more.begin(), more.end());
            return train(words);
        };
        const Ended first = make("a", {"--seed", "1", "--threads", "1", "--json"});
        REQUIRE(first.exit == 0);
        const Json unet = parse_json(first.out, "init").at("components").at(0);
        CHECK(unet.at("component") == "unet");
        CHECK(unet.at("tensor_count") == 208);
        CHECK(unet.at("parameters") == 51364);
        CHECK(make("b", {"--seed", "1", "--threads", "2"}).exit == 0);
        const std::string tree = test::tree_of(folder.path() / "a");
        CHECK(holds(tree, "model_index.json"));
        CHECK(test::tree_of(folder.path() / "b") == tree);

        CHECK(make("a", {"--seed", "1"}).exit == 0);
        const Ended other = make("a", {"--seed", "2"});
        CHECK(other.exit == 2);
        CHECK(holds(other.err, "--restart to replace it"));
        CHECK(test::tree_of(folder.path() / "a") == tree);
        CHECK(make("a", {"--seed", "2", "--restart"}).exit == 0);
        CHECK(test::tree_of(folder.path() / "a") != tree);
        CHECK(make("c", {"--dtype", "f8"}).exit == 2);
        CHECK(make("c", {"--device", "cuda"}).exit == 4);
        CHECK_FALSE(fs::exists(folder.path() / "c"));

        write_file(config, R"({"unet": {"block_out_channels": "wide"}})");
        const Ended bad = make("c", {});
        CHECK(bad.exit == 3);
        CHECK(holds(bad.err, "block_out_channels"));
        write_file(config, "{");
        CHECK(make("c", {}).exit == 3);
        CHECK_FALSE(fs::exists(folder.path() / "c"));
    }
}
