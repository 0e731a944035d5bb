// sdd-train as a user meets it, with a family small enough for seconds: the whole chain, runs that
// are killed, interrupted, out of disk, not finite, shared among processes, and what it says.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <set>
#include <sstream>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/base/random.h"
#include "data/file.h"
#include "data/weights/safetensors.h"
#include "tests/cli/degrade_pictures.h"
#include "tests/cli/disk.h"
#include "tests/cli/program.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

namespace {

using Words = std::vector<std::string>;

// ---- a workplace ----

/// VAE that halves, UNet of two levels, a text encoder of two layers: 0.1 million parameters.
constexpr const char* tiny = R"({
  "unet": {"block_out_channels": [8, 16], "attention_head_dim": [2, 2], "norm_num_groups": 4,
           "cross_attention_dim": 8, "layers_per_block": 1,
           "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
           "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]},
  "vae": {"block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1,
          "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
          "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]},
  "text_encoder": {"hidden_size": 8, "intermediate_size": 20, "num_hidden_layers": 2,
                   "num_attention_heads": 2, "vocab_size": 600}})";

/// Four photographs, a family with random weights, and a run of all stages that nothing disturbed.
struct Workplace {
    TemporaryFolder folder;
    fs::path base = folder.path() / "base", photographs = folder.path() / "photographs",
             whole = folder.path() / "whole" / "run";
    Ended first;

    Workplace() {
        make_photographs(photographs, 4, 48);
        write_file(folder.path() / "tiny.json", tiny);
        const Ended made =
            run_program("sdd-train", {"init", "--config", (folder.path() / "tiny.json").string(),
                                      "--out", base.string(), "--seed", "1", "--threads", "1"});
        REQUIRE_MESSAGE(made.exit == 0, made.err);
        first = run_program("sdd-train", words(whole));
    }

    /// A run file, and words that start a run into `out`; more words may follow.
    ///
    /// settings  over those of the chain
    Words words(const fs::path& out, const Json& settings = Json::object(),
                const Words& more = {}) const {
        Json run{{"base", base.string()},
                 {"data", photographs.string()},
                 {"out", out.string()},
                 {"stage", "vae,base,teacher,dml,rsd"},
                 {"steps", 3},
                 {"batch", 2},
                 {"patch", 32},
                 {"checkpoint_every", 1},
                 {"validate_every", 2},
                 {"validation_count", 2},
                 {"samples", 2},
                 {"data_threads", 1},
                 {"learning_rate", 1e-3},
                 {"teacher_stage", {{"lambda_lpips", 0}}},
                 {"scales", {{"student", {8, 12}}}},
                 {"threads", 1},
                 {"seed", 5}};
        run.update(settings, /*merge_objects=*/true);
        const std::string text = dump_json(run);
        const fs::path file = folder.path() / ("run_" + sha256(text).substr(0, 12) + ".json");
        write_file(file, text);
        Words all{"--config", file.string()};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }

    /// Settings that let stage rsd or dml start from the undisturbed run.
    Json after_whole(const char* stage) const {
        return {{"stage", stage},
                {"teacher", (whole / "teacher").string()},
                {"encoder", (whole / "encoder").string()}};
    }
};

const Workplace& workplace() {
    static const Workplace place;
    return place;
}

Ended train(const Words& words) { return run_program("sdd-train", words); }

// ---- what a run leaves ----

/// Name and hash of all that must not depend on how a run came to its end. (run.json holds OUT's
/// place; log and curves hold speed.)
std::string lasting(const fs::path& out) {
    std::string all;
    for (const std::string& file : files_in(out)) {
        if (file == "run.json" || file == "log.jsonl" || file == "curves.svg") continue;
        all += file + " " + sha256_of_file(out / file) + "\n";
    }
    return all;
}

/// The lines that only one of two lists has.
std::string difference(const std::string& a, const std::string& b) {
    std::string all;
    const auto only = [&](const std::string& here, const std::string& there, const char* mark) {
        std::istringstream lines(here);
        for (std::string line; std::getline(lines, line);) {
            if (!holds("\n" + there, "\n" + line + "\n")) all += mark + line + "\n";
        }
    };
    only(a, b, "- ");
    only(b, a, "+ ");
    return all.empty() && a != b ? "a line twice, or another order" : all;
}

/// The same of the weights alone.
std::string weights_in(const fs::path& out) {
    std::string all;
    for (const std::string& file : files_in(out)) {
        if (!file.ends_with(".safetensors")) continue;
        all += file + " " + sha256_of_file(out / file) + "\n";
    }
    return all;
}

std::vector<Json> log_of(const fs::path& out) {
    std::vector<Json> lines;
    std::istringstream text(read_file(out / "log.jsonl"));
    for (std::string line; std::getline(text, line);) lines.push_back(parse_json(line, "log"));
    return lines;
}

/// The log without speed and memory.
std::string log_without_speed(const fs::path& out) {
    std::string all;
    for (Json line : log_of(out)) {
        for (const char* field : {"images_per_second", "wait_share", "memory_mb"}) {
            CHECK(line.erase(field) == 1);
        }
        all += dump_json_line(line) + "\n";
    }
    return all;
}

/// Whole lines so far; 0 without a log.
std::size_t lines_in(const fs::path& out) {
    std::ifstream file(out / "log.jsonl", std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

std::vector<fs::path> leftovers(const fs::path& out) {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(out)) {
        if (entry.path().extension() == ".tmp") found.push_back(entry.path());
    }
    return found;
}

/// Steps of a stage of which there is a whole checkpoint, ascending.
std::vector<std::int64_t> checkpoints(const fs::path& out, const std::string& stage) {
    std::vector<std::int64_t> steps;
    for (const std::string& file : files_in(out / "checkpoints")) {
        const std::string head = "step_" + stage + "_";
        if (!file.starts_with(head) || !file.ends_with(".json")) continue;
        if (fs::exists(out / "checkpoints" / fs::path(file).replace_extension(".safetensors"))) {
            steps.push_back(std::stoll(file.substr(head.size())));
        }
    }
    std::ranges::sort(steps);
    return steps;
}

/// The last checkpoint, as bytes.
std::string last_checkpoint(const fs::path& out, const std::string& stage) {
    const auto step = checkpoints(out, stage).back();
    const fs::path stem = out / "checkpoints" / fmt::format("step_{}_{:08}", stage, step);
    return read_file(stem.string() + ".safetensors") + read_file(stem.string() + ".json");
}

bool wait_for(const std::function<bool()>& condition) {
    for (int i = 0; i < 15000; ++i) {
        if (condition()) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
}

// ---- what it says ----

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
    return n;
}

/// One sentence with these words, and this exit code.
void check_refused(const Ended& ended, int exit, const Words& words) {
    CAPTURE(ended.err);
    CHECK(ended.exit == exit);
    CHECK(count(ended.err, "error: ") == 1);
    CHECK_FALSE(holds(ended.err, "this is a bug"));
    for (const std::string& word : words) {
        CAPTURE(word);
        CHECK(holds(ended.err, word));
    }
}

// ---- several processes ----

/// A port nobody listens on.
int free_port() {
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(socket, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    ::close(socket);
    return ntohs(address.sin_port);
}

/// Two processes as torchrun starts them.
class Pair {
  public:
    Pair(const Words& first, const Words& second) {
        const int port = free_port();
        for (int rank = 0; rank < 2; ++rank) {
            Words words{fmt::format("RANK={}", rank),
                        "WORLD_SIZE=2",
                        fmt::format("LOCAL_RANK={}", rank),
                        "MASTER_ADDR=127.0.0.1",
                        fmt::format("MASTER_PORT={}", port),
                        (fs::path(std::getenv("ULTRASR_BIN")) / "sdd-train").string()};
            const Words& own = rank == 0 ? first : second;
            words.insert(words.end(), own.begin(), own.end());
            programs_[rank] = std::make_unique<Program>("/usr/bin/env", words);
        }
    }
    explicit Pair(const Words& words) : Pair(words, words) {}

    Program& rank(int r) { return *programs_[r]; }

  private:
    std::unique_ptr<Program> programs_[2];
};

/// The largest difference of two files' numbers, over the largest number of the tensor.
double distance(const fs::path& a, const fs::path& b) {
    const SafetensorsFile first(a), second(b);
    REQUIRE(first.tensors().size() == second.tensors().size());
    double worst = 0.0;
    for (const TensorView& x : first.tensors()) {
        const TensorView* y = second.find(x.name);
        REQUIRE(y != nullptr);
        REQUIRE(x.dtype == Dtype::f32);
        REQUIRE(x.bytes.size() == y->bytes.size());
        double largest = 1e-12, difference = 0.0;
        for (std::size_t i = 0; i < x.bytes.size(); i += sizeof(float)) {
            float u = 0, v = 0;
            std::memcpy(&u, x.bytes.data() + i, sizeof u);
            std::memcpy(&v, y->bytes.data() + i, sizeof v);
            largest = std::max(largest, std::abs(double{u}));
            difference = std::max(difference, std::abs(double{u} - double{v}));
        }
        worst = std::max(worst, difference / largest);
    }
    return worst;
}

}  // namespace

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
        CHECK(leftovers(w.whole).empty());
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
        CHECK(leftovers(out).empty());
    }

    TEST_CASE("sdd-train: what a killed run left half written goes, wherever it lies") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "early";
        // Before its first file was whole
        write_file(out / ".lock", "");
        write_file(out / ".run.json.999999999.0.tmp", "{");  // no process has such a number
        CHECK(train(w.words(out, {{"stage", "vae"}, {"steps", 1}})).exit == 0);
        CHECK(leftovers(out).empty());
        for (const char* part : {"", "base/vae", "base/text_encoder", "base/tokenizer",
                                 "base/scheduler", "samples", "checkpoints"}) {
            write_file(out / part / ".x.json.999999999.7.tmp", "{");
        }
        CHECK(train(w.words(out, {{"stage", "vae"}, {"steps", 1}})).exit == 0);
        CHECK(leftovers(out).empty());
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
            CHECK(leftovers(out).empty());
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
        CHECK(leftovers(out).empty());
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
        CHECK(leftovers(out).empty());
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

    TEST_CASE("sdd-train: two processes learn what one learns; the first one alone writes") {
        const Workplace& w = workplace();
        // Two halves added up are the same bits wherever they are added. Eight pictures at once are
        // summed in another order: a few float32 roundings (6e-8), which AdamW would blow up where
        // a gradient is nothing else, hence epsilon; measured 6e-7.
        constexpr double close = 1e-6, close_at_once = 1e-5;
        for (const std::string stage : {"teacher", "dml", "rsd"}) {
            CAPTURE(stage);
            Json settings = w.after_whole(stage.c_str());
            settings.update({{"batch", 8}, {"micro_batch", 4}, {"steps", 3}, {"epsilon", 1e-4}});
            if (stage == "teacher") settings["teacher"] = "";
            if (stage == "dml") settings["encoder"] = "";
            const fs::path root = w.folder.path() / ("shared_" + stage), one = root / "one/run",
                           two = root / "two/run", nothing = root / "nothing/run";
            Pair pair(w.words(two, settings), w.words(nothing, settings));
            const Ended first = pair.rank(0).wait(), second = pair.rank(1).wait();
            CAPTURE(first.err);
            CAPTURE(second.err);
            REQUIRE(first.exit == 0);
            REQUIRE(second.exit == 0);
            CHECK(holds(first.out, stage + ": 3 steps, loss "));
            CHECK(second.out.empty());
            CHECK_FALSE(fs::exists(nothing));

            REQUIRE(train(w.words(one, settings)).exit == 0);
            const std::string folder = stage == "teacher" ? "teacher"
                                       : stage == "dml"   ? "encoder"
                                                          : "student";
            const std::string net = stage == "dml" ? "vae" : "unet";
            const fs::path file = fs::path(folder) / (net + ".safetensors");
            const double apart = distance(one / file, two / file);
            CHECK(apart < close);
            if (stage != "dml") {  // whose pairs are those of a micro-batch
                settings["micro_batch"] = 0;
                const fs::path at_once = root / "at_once/run";
                REQUIRE(train(w.words(at_once, settings)).exit == 0);
                const double further = distance(at_once / file, two / file);
                MESSAGE(stage << ": " << apart << " apart, all at once " << further);
                CHECK(further < close_at_once);
            }
            // They did learn
            const fs::path start = stage == "dml"
                                       ? w.whole / "teacher/vae.safetensors"
                                       : w.base / "unet/diffusion_pytorch_model.safetensors";
            CHECK(distance(one / file, start) > 100 * close_at_once);
            // and log the loss of all pictures
            const std::vector<Json> a = log_of(one), b = log_of(two);
            REQUIRE(a.size() == b.size());
            for (std::size_t i = 0; i < a.size(); ++i) {
                for (const auto& [name, value] : a[i].at("losses").items()) {
                    CAPTURE(name);
                    CHECK(b[i].at("losses").at(name).get<double>() ==
                          doctest::Approx(value.get<double>()).epsilon(1e-4));
                }
                CHECK(b[i].at("gradient_norm").get<double>() ==
                      doctest::Approx(a[i].at("gradient_norm").get<double>()).epsilon(1e-3));
            }
        }
    }

    TEST_CASE("sdd-train: of two processes one is killed, the other ends; together they go on") {
        const Workplace& w = workplace();
        Json settings = w.after_whole("rsd");
        settings.update({{"batch", 2}, {"steps", 40}, {"checkpoint_every", 2}});
        settings["validate_every"] = 20;
        const fs::path out = w.folder.path() / "lost" / "run",
                       calm = w.folder.path() / "unlost" / "run";
        const Words words = w.words(out, settings);
        for (const int victim : {0, 1}) {
            Pair pair(words);
            const std::size_t lines = lines_in(out) + 3;
            CHECK(wait_for([&] { return lines_in(out) >= lines; }));
            pair.rank(victim).send(SIGKILL);
            const auto killed = std::chrono::steady_clock::now();
            const Ended other = pair.rank(1 - victim).wait();
            CHECK(std::chrono::steady_clock::now() - killed < std::chrono::seconds(10));
            check_refused(other, 4,
                          {fmt::format("process {} of 2 lost another one", 1 - victim),
                           "end all and start them again"});
            CHECK(pair.rank(victim).wait().exit == 128 + SIGKILL);
        }
        // Interrupted in one of them, both save and end
        {
            Pair pair(words);
            const std::size_t lines = lines_in(out) + 3;
            CHECK(wait_for([&] { return lines_in(out) >= lines; }));
            pair.rank(1).send(SIGTERM);
            check_refused(pair.rank(0).wait(), 130, {"interrupted"});
            check_refused(pair.rank(1).wait(), 130, {"interrupted"});
            const std::int64_t step = log_of(out).back().at("step");
            REQUIRE(step < 40);
            CHECK(checkpoints(out, "rsd").back() == step);
        }
        Pair again(words), calmly(w.words(calm, settings));
        for (Pair* pair : {&again, &calmly}) {
            CHECK(pair->rank(0).wait().exit == 0);
            CHECK(pair->rank(1).wait().exit == 0);
        }
        CHECK(difference(weights_in(out / "student"), weights_in(calm / "student")) == "");
        CHECK(last_checkpoint(out, "rsd") == last_checkpoint(calm, "rsd"));
        CHECK(difference(log_without_speed(out), log_without_speed(calm)) == "");
    }

    TEST_CASE("sdd-train: batches that do not divide are refused before anything is written") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "odd";
        Pair pair(w.words(out, {{"stage", "vae"}, {"batch", 3}}));
        for (const int rank : {0, 1}) {
            check_refused(pair.rank(rank).wait(), 2,
                          {"a batch of 3 does not divide among 2 processes (stage vae)",
                           "choose a multiple"});
        }
        check_refused(train(w.words(out, {{"stage", "vae"}, {"batch", 3}, {"micro_batch", 2}})), 2,
                      {"3 pictures a process do not divide into micro-batches of 2", "choose"});
        CHECK_FALSE(fs::exists(out));
        check_refused(
            run_program("/usr/bin/env",
                        {"RANK=1", (fs::path(std::getenv("ULTRASR_BIN")) / "sdd-train").string(),
                         "--set", "out=x", "--set", "data=" + w.photographs.string(), "--set",
                         "base=" + w.base.string(), "--set", "stage=vae"}),
            2, {"RANK", "WORLD_SIZE"});
    }

    TEST_CASE("sdd-train: what is missing or wrong is said before the first step") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "refused";
        const auto refused = [&](const Json& settings, int exit, const Words& words) {
            check_refused(train(w.words(out, settings)), exit, words);
            CHECK_FALSE(fs::exists(out));
        };
        // What is needed
        check_refused(train({}), 2, {"nothing to train", "--config run.json", "init"});
        refused({{"data", Json::array()}}, 2, {"no HR pictures to train from", "set data"});
        refused({{"data", "nowhere"}}, 3, {"data: nowhere is missing", "name a folder"});
        refused({{"base", ""}}, 2, {"no model family", "set base", "sdd-train init"});
        refused({{"base", "nowhere"}}, 3, {"the folder nowhere is missing", "diffusers"});
        check_refused(train(w.words("", {{"stage", "vae"}})), 2,
                      {"no folder to write to", "set out"});
        refused({{"stage", "rsd"}}, 3,
                {"stage rsd learns from a teacher", "run stage teacher first", "osediff.pkl"});
        refused({{"stage", "dml"}, {"teacher", "nowhere"}}, 3,
                {"the teacher nowhere is missing", "osediff.pkl"});
        refused({{"stage", "rsd"}, {"teacher", (w.whole / "teacher").string()}}, 3,
                {"the encoder of stage dml", "run stage dml first", "dml.enabled=false"});
        refused({{"stage", "dml"}, {"dml", {{"enabled", false}}}}, 2, {"nothing to train", "dml"});
        refused(w.after_whole("teacher,dml"), 2,
                {"nothing to train: stage is teacher, dml", "teacher or encoder is given"});
        refused({{"prompt", {{"file", "nowhere"}}}}, 3, {"prompt.file: nowhere is missing"});
        refused({{"prompt", {{"folder", "nowhere"}}}}, 3, {"prompt.folder: nowhere is missing"});
        refused({{"validation", "nowhere"}}, 3, {"validation: no such set: nowhere"});

        // What is not known, or of another kind
        refused({{"rsd", {{"nii", false}}}}, 2, {"no setting rsd.nii", "rsd.ue, rsd.ni"});
        refused({{"colour", 1}}, 2, {"no setting colour", "stage, base", "seed, steps, threads"});
        refused({{"rsd", {{"ni", 1}}}}, 2, {"rsd.ni takes true|false, not 1"});
        refused({{"rsd", {{"rank", 0}}}}, 2, {"rsd.rank takes a whole number from 1, not 0"});
        refused({{"stage", "student"}}, 2, {"vae|base|teacher|dml|rsd", "not \"student\""});
        refused({{"steps", -1}}, 2, {"steps takes a whole number from 0, not -1"});
        refused({{"seed", "x"}}, 2, {"seed takes a whole number from 0, not \"x\""});
        refused({{"threads", -1}}, 2, {"threads takes a whole number from 0 to 4096, not -1"});
        refused({{"threads", "x"}}, 2, {"threads takes what --threads takes, not \"x\""});
        refused({{"device", "gpu"}}, 2, {"unknown device gpu", "cpu, cuda, cuda:N"});
        refused({{"resize_back", "cubic"}}, 2, {"resize_back takes", "bicubic", "not \"cubic\""});
        refused({{"couple", "all"}}, 2, {"couple takes", "comonotone"});
        refused({{"small", "drop"}}, 2, {"small takes", "upscale"});
        check_refused(train(w.words(out, Json::object(), {"--set", "rsd.ni"})), 2,
                      {"NAME=VALUE", "not rsd.ni"});
        check_refused(train({"--config", (w.folder.path() / "none.json").string()}), 3,
                      {"none.json"});
        write_file(w.folder.path() / "list.json", "[1]");
        check_refused(train({"--config", (w.folder.path() / "list.json").string()}), 3,
                      {"list.json", "JSON object of settings"});

        // What does not fit together
        refused({{"patch", 33}}, 2, {"a patch of 33 pixels (stage vae)", "multiple of 2", "32"});
        refused({{"scales", {{"student", Json::array()}}}}, 3, {"scales.student", "at least one"});
        refused({{"scales", {{"student", {8, 70}}}}}, 2, {"scales.student", "from 1 to 63"});
        refused({{"scales", {{"student", {40}}}}}, 3, {"scales.severe is twice", "none above 31"});
        refused({{"scales", {{"teacher", 10}}}}, 3, {"scales.teacher is the mild level"});
        refused({{"scales", {{"teacher", 8}}}}, 3, {"scales.x4_probability", "set it to 0"});
        refused({{"scales", {{"severe", "list"}}}}, 3, {"scales.severe_list"});
        refused({{"prompt", {{"text", "a"}, {"file", "b"}}}}, 3, {"prompt", "exclude each other"});
    }

    TEST_CASE("sdd-train: LPIPS without its weights names the file and the way around it") {
        const Workplace& w = workplace();
        const TemporaryFolder empty;
        const fs::path out = w.folder.path() / "no_lpips";
        const Words weights{"--weights", empty.path().string()};
        const auto refused = [&](const Json& settings, const Words& words) {
            check_refused(train(w.words(out, settings, weights)), 3, words);
            CHECK_FALSE(fs::exists(out));
        };
        // Before the stages that would run first
        refused({{"teacher_stage", {{"lambda_lpips", 2}}}},
                {"stage teacher", "vgg16-397923af.pth", empty.path().string(),
                 "teacher_stage.lambda_lpips=0 trains without it"});
        refused({{"vae_stage", {{"lambda_lpips", 1}}}}, {"vae_stage.lambda_lpips=0"});
        refused({{"loss", {{"lpips", 1}}}}, {"stage rsd", "loss.lpips=0"});
    }

    TEST_CASE("sdd-train: pictures that are too small, for training and for validation") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "small";
        const Ended none = train(w.words(out, {{"stage", "vae"}, {"patch", 64}}));
        check_refused(none, 3,
                      {"none of the 4 pictures can be trained on",
                       "48 x 48 is smaller than the "
                       "patch of 64",
                       "choose a smaller patch", "small=pad"});
        CHECK(count(none.err, "warning: ") == 4);
        // Nothing was trained, so other settings are welcome
        CHECK(train(w.words(out,
                            {{"stage", "vae"}, {"patch", 64}, {"small", "upscale"}, {"steps", 1}}))
                  .exit == 0);

        const fs::path pairs = w.folder.path() / "pairs";
        for (const char* side : {"HR", "LR"}) {
            const int size = side[0] == 'H' ? 24 : 12;
            make_photographs(pairs / side, 2, size);
        }
        check_refused(
            train(w.words(out, {{"stage", "vae,base,teacher"}, {"validation", pairs.string()}},
                          {"--restart"})),
            3, {"validation: no pair of " + pairs.string(), "patch of 32 pixels", "smaller patch"});
    }

    TEST_CASE("sdd-train: OUT of another run, of something else, of a run at work") {
        const Workplace& w = workplace();
        const fs::path out = w.folder.path() / "taken";
        const Json settings{{"stage", "vae"}, {"steps", 1}};
        Json others = settings;
        others.update({{"learning_rate", 1e-4}, {"rsd", {{"ni", false}}}, {"log_every", 1}});
        REQUIRE(train(w.words(out, settings)).exit == 0);
        const std::string before = tree_of(out);
        check_refused(train(w.words(out, others)), 2,
                      {out.string() + " holds a run with other settings (learning_rate, rsd.ni)",
                       "name another folder", "--restart"});
        CHECK(tree_of(out) == before);
        {
            const FolderLock lock(out);
            check_refused(train(w.words(out, settings)), 5, {"another run", out.string()});
        }
        CHECK(train(w.words(out, others, {"--restart"})).exit == 0);
        CHECK(log_of(out).size() == 1);
        CHECK(log_of(out)[0].at("learning_rate") == 1e-4);
        CHECK(weights_in(out).size() > 0);
        CHECK(tree_of(out) != before);

        // A folder that is not ours is not touched, whatever is asked
        const std::string photographs = tree_of(w.photographs);
        for (const Words& more : {Words{}, Words{"--restart"}}) {
            check_refused(train(w.words(w.photographs, settings, more)), 2,
                          {"did not write (p", "name a new folder"});
        }
        CHECK(tree_of(w.photographs) == photographs);
        write_file(w.folder.path() / "file", "x");
        check_refused(train(w.words(w.folder.path() / "file", settings)), 5, {"file"});
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
