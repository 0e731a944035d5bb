// sdd-train shared among processes, as torchrun starts them.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/file.h"
#include "data/weights/safetensors.h"
#include "tests/cli/disk.h"
#include "tests/cli/training_run.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

namespace {

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
}
