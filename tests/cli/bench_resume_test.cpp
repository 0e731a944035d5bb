// ultrasr-bench loses nothing: killed, interrupted, in shards, on a full disk, the result is the
// same.
#include <unistd.h>

#include <chrono>
#include <thread>

#include <fmt/format.h>
#include "data/base/random.h"

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

namespace {

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

}  // namespace

TEST_SUITE("cli") {
    TEST_CASE("ultrasr-bench: the same bytes for 1 and 2 threads and from another place") {
        const TemporaryFolder one, two;
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
        const TemporaryFolder folder;
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
        const TemporaryFolder folder;
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
        const TemporaryFolder folder;
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
            Program program("ultrasr-bench", words);
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
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 40, 128);
        Program program("ultrasr-bench",
                        {"--data", set.string(), "--method", "realesr-general-x4v3", "--metrics",
                         "psnr-y601", "--out", out.string()});
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
        const TemporaryFolder folder;
        const fs::path set = folder.path() / "set", out = folder.path() / "out";
        make_set(set, 1);
        const FolderLock lock(out);
        check_refused(bench(set, out), 5, {"another run", out.string()});
    }

    TEST_CASE("ultrasr-bench: a full disk is exit 5; what was done stays and is used") {
        const SmallTmpfs disk("size=300k");
        if (!disk.usable()) return;
        const TemporaryFolder folder;
        make_set(folder.path() / "set", 12, 128);
        const fs::path out = disk.path() / "out";
        check_refused(bench(folder.path() / "set", out), 5, {"No space left", "free space"});
        const fs::path images = out / "set/x4/bicubic/images";
        const auto kept = std::distance(fs::directory_iterator(images), {});
        CHECK(kept >= 1);
        CHECK(temporary_files(out).empty());
        const auto first = fs::directory_iterator(images)->path();
        const auto written = fs::last_write_time(first);
        disk.remount("size=20m");
        CHECK(bench(folder.path() / "set", out).exit == 0);
        CHECK(fs::last_write_time(first) == written);
    }

    TEST_CASE("ultrasr-bench: no permission to write is exit 5") {
        const TemporaryFolder folder;
        make_set(folder.path() / "set", 1);
        if (::geteuid() != 0) {
            const fs::path closed = folder.path() / "closed";
            fs::create_directories(closed);
            fs::permissions(closed, fs::perms::owner_read | fs::perms::owner_exec);
            check_refused(bench(folder.path() / "set", closed / "out"), 5, {"Permission denied"});
            return;
        }
        const SmallTmpfs disk("size=1m");
        if (!disk.usable()) return;
        disk.remount("", true);
        check_refused(bench(folder.path() / "set", disk.path() / "out"), 5,
                      {"Read-only file system"});
    }
}
