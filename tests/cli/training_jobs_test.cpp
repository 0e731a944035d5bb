// sdd-train: the whole chain, a second call, dry run, lists, JSON.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/file.h"
#include "tests/cli/disk.h"
#include "tests/cli/training_run.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

TEST_SUITE("cli") {
    TEST_CASE("sdd-train: all five stages from nothing; the student restores") {
        const Workplace& w = workplace();
        CAPTURE(w.first.err);
        REQUIRE(w.first.exit == 0);
        for (const char* line :
             {"vae: 3 steps, loss ", "base: 3 steps, loss ", "teacher: 3 steps, loss ",
              "dml: 3 steps, loss ", "rsd: 3 steps, loss "}) {
            CAPTURE(line);
            CHECK(holds(w.first.out, line));
        }

        // The files of the contract
        for (const char* file :
             {"run.json", "log.jsonl", "curves.svg", "samples/vae_00000003.png",
              "samples/teacher_00000002.png", "samples/dml_00000003.png",
              "samples/rsd_00000003.png", "checkpoints/step_rsd_00000003.safetensors",
              "checkpoints/step_rsd_00000003.json", "base/model_index.json",
              "base/unet/diffusion_pytorch_model.safetensors", "teacher/config.json",
              "encoder/vae.safetensors", "student/config.json", "student/sdd.json",
              "student/unet.safetensors", "student/vae.safetensors",
              "student/prompt.safetensors"}) {
            CAPTURE(file);
            CHECK(fs::exists(w.whole / file));
        }
        CHECK(temporary_files(w.whole).empty());
        CHECK(checkpoints(w.whole, "rsd") == std::vector<std::int64_t>{2, 3});
        CHECK(read_file(w.whole / "curves.svg").starts_with("<svg"));
        const std::vector<Json> log = log_of(w.whole);
        REQUIRE(log.size() == 15);
        for (std::size_t i = 0; i < log.size(); ++i) {
            CHECK(log[i].at("step") == 1 + i % 3);
            for (const char* field : {"stage", "losses", "gradient_norm", "learning_rate",
                                      "images_per_second", "wait_share", "memory_mb", "skipped"}) {
                CAPTURE(field);
                CHECK(log[i].contains(field));
            }
        }
        CHECK(log[9].contains("triplet_accuracy"));
        const Json record = parse_json(read_file(w.whole / "student/sdd.json"), "sdd.json");
        CHECK(record.at("settings").at("scales").at("student") == Json::array({8, 12}));
        CHECK(record.at("settings").at("base") == "base");  // no places of this machine

        // The student as a method
        const fs::path restored = w.folder.path() / "restored";
        const Ended sr = run_program(
            "ultrasr-bench",
            {"restore", "--method", "sdd", "--scale", "2", "--in", w.photographs.string(), "--out",
             restored.string(), "--model", (w.whole / "student").string(), "--threads", "1"});
        CAPTURE(sr.err);
        CHECK(sr.exit == 0);
        CHECK(fs::file_size(restored / "p3.png") > 1000);
    }

    TEST_CASE("sdd-train: a second call does nothing; the seed decides every byte") {
        const Workplace& w = workplace();
        const auto written = fs::last_write_time(w.whole / "student/unet.safetensors");
        const Ended again = train(w.words(w.whole));
        CHECK(again.exit == 0);
        CHECK(holds(again.out, "rsd: 3 steps, loss "));
        CHECK(holds(again.out, "(was done)"));
        CHECK(fs::last_write_time(w.whole / "student/unet.safetensors") == written);

        const fs::path same = w.folder.path() / "same" / "run", other = w.folder.path() / "other";
        REQUIRE(train(w.words(same)).exit == 0);
        CHECK(difference(lasting(same), lasting(w.whole)) == "");
        CHECK(difference(log_without_speed(same), log_without_speed(w.whole)) == "");

        // Another seed, on the command line, over the file's
        const Json short_run{{"stage", "vae"}, {"steps", 1}};
        REQUIRE(train(w.words(other / "a", short_run)).exit == 0);
        REQUIRE(train(w.words(other / "b", short_run, {"--seed", "6"})).exit == 0);
        REQUIRE(train(w.words(other / "c", short_run, {"--set", "seed=5"})).exit == 0);
        CHECK(weights_in(other / "a") != weights_in(other / "b"));
        CHECK(difference(weights_in(other / "a"), weights_in(other / "c")) == "");
    }

    TEST_CASE("sdd-train --dry-run: estimates for each stage, and nothing written") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "dry";
        const auto trees = [&] {
            return tree_of(w.base) + tree_of(w.photographs) + tree_of(w.whole);
        };
        const std::string before = trees();
        const Words words = w.words(out, {{"steps", 1000}, {"loss", {{"vsd", 1}}}}, {"--dry-run"});
        const Ended text = train(words);
        CAPTURE(text.err);
        REQUIRE(text.exit == 0);
        for (const char* part : {"vae: 1000 steps, ", "base: ", "teacher: ", "dml: ", "rsd: ",
                                 "parameters learn; peak memory ", " MiB", "all of it: "}) {
            CAPTURE(part);
            CHECK(holds(text.out, part));
        }
        Words json = words;
        json.push_back("--json");
        const Json answer = parse_json(train(json).out, "answer");
        REQUIRE(answer.at("stages").size() == 5);
        double seconds = 0.0;
        for (const Json& stage : answer.at("stages")) {
            CHECK(stage.at("steps") == 1000);
            CHECK(stage.at("parameters").get<int>() > 100);
            CHECK(stage.at("memory_mb").get<int>() > 50);
            CHECK(stage.at("seconds_a_step").get<double>() > 0);
            seconds += stage.at("seconds").get<double>();
        }
        CHECK(answer.at("seconds").get<double>() == doctest::Approx(seconds));
        CHECK_FALSE(fs::exists(out));
        CHECK(trees() == before);
    }

    TEST_CASE("sdd-train --list-settings and --help: all settings; one GPU and four") {
        const Ended list = train({"--list-settings"}), json = train({"--list-settings", "--json"});
        REQUIRE(list.exit == 0);
        const Json defaults = parse_json(json.out, "settings");
        int settings = 0;
        const std::function<void(const Json&, const std::string&)> look =
            [&](const Json& object, const std::string& in) {
                for (const auto& [key, value] : object.items()) {
                    if (value.is_object()) {
                        look(value, in + key + ".");
                        continue;
                    }
                    CAPTURE(in + key);
                    CHECK(holds(list.out, "  " + in + key + " "));
                    ++settings;
                }
            };
        look(defaults, "");
        CHECK(settings > 100);
        CHECK(defaults.at("dml").at("neg2") == "ratio");
        CHECK(holds(list.out, "ratio|as_printed|hinge|off"));
        CHECK(holds(list.out, "threads, device, weights"));

        const Ended help = train({"--help"});
        CHECK(help.exit == 0);
        for (const char* part :
             {"One GPU", "\"gradient_checkpointing\": true", "--device cuda", "Four GPUs",
              "torchrun --nproc-per-node 4", "Slurm", "--set rsd.ni=false", "sdd-train init",
              "--dry-run", "--list-settings", "ultrasr-bench --data"}) {
            CAPTURE(part);
            CHECK(holds(help.out, part));
        }
    }

    TEST_CASE("sdd-train --json: one object for a run, and for an error") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "json" / "run";
        const Ended ended = train(w.words(out, {{"stage", "vae"}, {"steps", 2}}, {"--json"}));
        REQUIRE(ended.exit == 0);
        const Json stage = parse_json(ended.out, "answer").at("stages").at(0);
        CHECK(stage.at("stage") == "vae");
        CHECK(stage.at("steps") == 2);
        CHECK(stage.at("skipped") == 0);
        CHECK(stage.at("loss") == log_of(out).back().at("losses").at("loss"));
        CHECK(stage.at("was_done") == false);
        CHECK(stage.at("result") == "base");
        const Ended bad = train(w.words(out, {{"stage", "vae"}, {"steps", -2}}, {"--json"}));
        CHECK(bad.exit == 2);
        CHECK(parse_json(bad.out, "answer").at("exit") == 2);
    }
}
