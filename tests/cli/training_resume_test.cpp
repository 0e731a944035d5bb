// sdd-train: runs that are killed, interrupted, out of disk, damaged, not finite.
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <set>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/base/random.h"
#include "data/file.h"
#include "tests/cli/disk.h"
#include "tests/cli/training_run.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

TEST_SUITE("cli") {
    TEST_CASE("sdd-train: killed at random moments and started again, the bytes are the same") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "killed" / "run";
        const Words words = w.words(out);
        Rng rng(17, 0);
        int killed = 0, torn = 0;
        const auto kill_when = [&](const std::function<void()>& moment) {
            Program program("sdd-train", words);
            moment();
            program.send(SIGKILL);
            killed += program.wait().exit == 128 + SIGKILL ? 1 : 0;
            if (!fs::exists(out / "checkpoints")) return;
            // A file half written, or the first of a pair alone
            std::set<std::string> tensors, states;
            for (const auto& entry : fs::directory_iterator(out / "checkpoints")) {
                const fs::path name = entry.path().filename();
                (name.extension() == ".json" ? states : tensors).insert(name.stem().string());
            }
            torn += tensors != states ? 1 : 0;
        };

        const auto kill_at = [&](std::initializer_list<std::size_t> lines_seen) {
            for (const std::size_t lines : lines_seen) {
                kill_when([&] {
                    CHECK(wait_for([&] { return fs::exists(out) && lines_in(out) >= lines; }));
                    std::this_thread::sleep_for(std::chrono::microseconds(rng.below(20000)));
                });
            }
        };
        // Anywhere, from the first file on
        kill_at({0, 1, 4});
        // While a checkpoint is written, and between its two files; again where the signal was late
        for (int i = 0; i < 4 || (torn == 0 && i < 8); ++i) {
            kill_when([&] {
                const int watch = ::inotify_init1(IN_CLOEXEC);
                REQUIRE(::inotify_add_watch(watch, (out / "checkpoints").c_str(),
                                            i % 2 ? IN_MOVED_TO : IN_CREATE) >= 0);
                pollfd happens{.fd = watch, .events = POLLIN, .revents = 0};
                CHECK(::poll(&happens, 1, 30000) == 1);
                ::close(watch);
            });
        }
        kill_at({10, 12});
        CHECK(killed >= 8);  // of 9: the last may have come to its end
        WARN(torn >= 1);     // a signal can be late eight times; the checkpoint's own test is exact
        MESSAGE("killed " << killed << " times, " << torn << " times inside a checkpoint");

        const Ended last = train(words);
        CAPTURE(last.err);
        REQUIRE(last.exit == 0);
        CHECK(difference(lasting(out), lasting(w.whole)) == "");
        CHECK(difference(log_without_speed(out), log_without_speed(w.whole)) == "");
        CHECK(temporary_files(out).empty());
    }

    TEST_CASE("sdd-train: what a killed run left half written goes, wherever it lies") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "early";
        // Before its first file was whole
        write_file(out / ".lock", "");
        write_file(out / ".run.json.999999999.0.tmp", "{");  // no process has such a number
        CHECK(train(w.words(out, {{"stage", "vae"}, {"steps", 1}})).exit == 0);
        CHECK(temporary_files(out).empty());
        for (const char* part : {"", "base/vae", "base/text_encoder", "base/tokenizer",
                                 "base/scheduler", "samples", "checkpoints"}) {
            write_file(out / part / ".x.json.999999999.7.tmp", "{");
        }
        CHECK(train(w.words(out, {{"stage", "vae"}, {"steps", 1}})).exit == 0);
        CHECK(temporary_files(out).empty());
    }

    TEST_CASE("sdd-train: Ctrl-C and SIGTERM save that very step, say so, and the run goes on") {
        const Workplace& w = workplace();
        const Json settings{
            {"stage", "vae"}, {"steps", 60}, {"checkpoint_every", 1000}, {"validate_every", 30}};
        const fs::path out = w.folder.path() / "stopped" / "run",
                       calm = w.folder.path() / "calm" / "run";
        REQUIRE(train(w.words(calm, settings)).exit == 0);
        std::int64_t before = 0;
        for (const int signal : {SIGINT, SIGTERM}) {
            Program program("sdd-train", w.words(out, settings));
            const std::size_t lines = static_cast<std::size_t>(before) + 4;
            CHECK(wait_for([&] { return lines_in(out) >= lines; }));
            program.send(signal);
            const Ended ended = program.wait();
            check_refused(ended, 130, {"interrupted; the same command goes on from here"});
            const std::int64_t step = log_of(out).back().at("step");
            CHECK(step > before);
            REQUIRE(step < 60);
            REQUIRE(!checkpoints(out, "vae").empty());
            CHECK(checkpoints(out, "vae").back() == step);
            CHECK(temporary_files(out).empty());
            before = step;
        }
        REQUIRE(train(w.words(out, settings)).exit == 0);
        CHECK(last_checkpoint(out, "vae") == last_checkpoint(calm, "vae"));
        CHECK(difference(tree_of(out / "base"), tree_of(calm / "base")) == "");
        CHECK(difference(log_without_speed(out), log_without_speed(calm)) == "");
    }

    TEST_CASE("sdd-train: no room for a checkpoint is exit 5; the one before it is gone on from") {
        const Workplace& w = workplace();
        const Json settings{{"stage", "vae"}, {"steps", 12}, {"checkpoint_every", 4}};
        const fs::path out = w.folder.path() / "full" / "run",
                       calm = w.folder.path() / "roomy" / "run";
        REQUIRE(train(w.words(calm, settings)).exit == 0);
        {
            Program program("sdd-train", w.words(out, settings));
            CHECK(wait_for([&] { return fs::exists(out / "checkpoints/step_vae_00000004.json"); }));
            program.send(SIGKILL);
            program.wait();
        }
        const std::string good = last_checkpoint(out, "vae");

        // Files may not grow over 128 KiB; a checkpoint has 0.5 MB
        Words limited{"-c", "ulimit -f 256; exec \"$@\"", "sh",
                      (fs::path(std::getenv("ULTRASR_BIN")) / "sdd-train").string()};
        for (const std::string& word : w.words(out, settings)) limited.push_back(word);
        check_refused(run_program("/bin/sh", limited), 5,
                      {"cannot write", "step_vae_00000008.safetensors", "File too large"});
        CHECK(last_checkpoint(out, "vae") == good);
        CHECK(temporary_files(out).empty());
        REQUIRE(train(w.words(out, settings)).exit == 0);
        CHECK(difference(lasting(out), lasting(calm)) == "");
        CHECK(difference(log_without_speed(out), log_without_speed(calm)) == "");
    }

    TEST_CASE("sdd-train: a full disk is exit 5; with room again the run goes on") {
        const SmallTmpfs disk("size=1300k");
        if (!disk.usable()) return;
        const Workplace& w = workplace();
        const Json settings{{"stage", "vae"}, {"steps", 12}, {"checkpoint_every", 4}};
        const fs::path out = disk.path() / "run";
        check_refused(train(w.words(out, settings)), 5, {"cannot write", "No space left"});
        CHECK(checkpoints(out, "vae") == std::vector<std::int64_t>{4, 8});
        CHECK(temporary_files(out).empty());
        disk.remount("size=20m");
        REQUIRE(train(w.words(out, settings)).exit == 0);
        const fs::path calm = w.folder.path() / "roomy" / "run";
        REQUIRE(train(w.words(calm, settings)).exit == 0);  // of the case before, as a rule
        CHECK(difference(lasting(out), lasting(calm)) == "");
    }

    TEST_CASE("sdd-train: other pictures than before are noticed on resume") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "other pictures" / "run",
                       pictures = w.folder.path() / "growing";
        fs::copy(w.photographs, pictures, fs::copy_options::recursive);
        const Json settings{{"stage", "vae"}, {"steps", 1}, {"data", pictures.string()}};
        REQUIRE(train(w.words(out, settings)).exit == 0);
        fs::remove(out / "stages.json");
        const Ended same = train(w.words(out, settings));
        CHECK(same.exit == 0);
        CHECK_FALSE(holds(same.err, "other pictures"));
        fs::copy_file(pictures / "p3.png", pictures / "p9.png");
        fs::remove(out / "stages.json");
        const Ended changed = train(w.words(out, settings));
        CHECK(changed.exit == 0);
        CHECK(holds(changed.err, "warning: data has other pictures than when step 1 of stage vae"));
    }

    TEST_CASE("sdd-train: a damaged checkpoint is skipped with a warning, the one before it used") {
        const Workplace& w = workplace();
        const Json settings{{"stage", "vae"}, {"steps", 12}, {"checkpoint_every", 4}};
        const fs::path calm = w.folder.path() / "roomy" / "run",
                       out = w.folder.path() / "damaged" / "run";
        REQUIRE(train(w.words(calm, settings)).exit == 0);
        REQUIRE(train(w.words(out, settings)).exit == 0);
        const fs::path newest = out / "checkpoints/step_vae_00000012.safetensors";
        std::string bytes = read_file(newest);
        bytes[bytes.size() / 2] ^= 1;
        write_file(newest, bytes);
        fs::remove(out / "stages.json");
        fs::remove_all(out / "base");
        // What a kill leaves between the removal of an old one's two files
        const fs::path half = out / "checkpoints/step_vae_00000004.safetensors";
        write_file(half, bytes);
        const Ended ended = train(w.words(out, settings));
        CAPTURE(ended.err);
        REQUIRE(ended.exit == 0);
        CHECK(count(ended.err, "warning: ") == 1);
        CHECK(holds(ended.err, "step_vae_00000012 is skipped, the one before it is used"));
        CHECK_FALSE(fs::exists(half));
        write_file(half, bytes);
        fs::remove(out / "stages.json");
        const Ended end = train(w.words(out, settings));  // no step is left
        CHECK(end.exit == 0);
        CHECK(holds(end.out, "vae: 12 steps, loss 0."));
        CHECK(difference(lasting(out), lasting(calm)) == "");
        CHECK(difference(log_without_speed(out), log_without_speed(calm)) == "");
    }

    TEST_CASE("sdd-train: steps that are not finite are skipped, counted and shown") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "not_finite";
        const Json settings{{"stage", "vae"}, {"steps", 5}, {"learning_rate", 1e30}};
        const Ended ended = train(w.words(out, settings));
        CAPTURE(ended.err);
        CHECK(ended.exit == 0);
        const std::vector<Json> log = log_of(out);
        REQUIRE(log.size() == 5);
        for (std::size_t i = 0; i < log.size(); ++i) CHECK(log[i].at("skipped") == i);
        CHECK(holds(ended.out, "vae: 5 steps (4 skipped, not finite), loss "));
        const Ended json = train(w.words(out, settings, {"--json"}));
        CHECK(parse_json(json.out, "answer").at("stages").at(0).at("skipped") == 4);
        // The weights are those of the last finite step
        const auto one = w.folder.path() / "one_step";
        REQUIRE(
            train(w.words(one, {{"stage", "vae"}, {"steps", 1}, {"learning_rate", 1e30}})).exit ==
            0);
        const std::string file = "base/vae/diffusion_pytorch_model.safetensors";
        CHECK(sha256_of_file(out / file) == sha256_of_file(one / file));
    }
}
