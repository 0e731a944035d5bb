// ultrasr-degrade loses nothing: killed, interrupted, on a full disk, tampered with, the result is
// the same to the byte.
#include <signal.h>

#include <chrono>
#include <thread>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/random.h"
#include "data/file.h"
#include "tests/cli/bench_set.h"
#include "tests/cli/degrade_pictures.h"
#include "tests/cli/disk.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

namespace {

std::size_t count_files(const fs::path& out) {
    std::size_t count = 0;
    std::error_code code;
    for (auto at = fs::recursive_directory_iterator(out, code);
         !code && at != fs::recursive_directory_iterator(); at.increment(code)) {
        std::error_code gone;
        count += at->is_regular_file(gone) ? 1 : 0;
    }
    return count;
}

const std::vector<std::string> work{"--levels", "4,8", "--per-image", "3", "--threads", "2"};

std::vector<std::string> words_for(const std::string& format) {
    std::vector<std::string> words = work;
    words.insert(words.end(), {"--format", format, "--shard-size", "5"});
    return words;
}

}  // namespace

TEST_SUITE("cli") {
    TEST_CASE("ultrasr-degrade: SIGKILL at ten moments and SIGINT lose nothing that was done") {
        const TemporaryFolder folder;
        const fs::path in = folder.path() / "in";
        make_photographs(in, 6, 90);
        Rng rng(11, 0);
        for (const std::string format : {"folder", "hdf5", "tar"}) {
            CAPTURE(format);
            const std::vector<std::string> words = words_for(format);
            const fs::path whole = folder.path() / (format + "-whole"),
                           out = folder.path() / (format + "-killed");
            REQUIRE(degrade(in, whole, words).exit == 0);
            const std::size_t most = count_files(whole) + 18;
            int ended_by_signal = 0;
            for (int i = 0; i < (format == "folder" ? 10 : 4); ++i) {
                std::vector<std::string> all{in.string(), out.string(), "--patch", "64"};
                all.insert(all.end(), words.begin(), words.end());
                Program program("ultrasr-degrade", all);
                const std::size_t wanted =
                    count_files(out) + 1 + rng.below(static_cast<std::uint32_t>(most / 8));
                const auto give_up =
                    std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
                while (count_files(out) < wanted && std::chrono::steady_clock::now() < give_up) {
                    std::this_thread::sleep_for(std::chrono::microseconds(200));
                }
                program.send(i == 2 ? SIGINT : SIGKILL);
                const int exit = program.wait().exit;
                ended_by_signal += exit == 128 + SIGKILL || exit == 130;
                CHECK((exit == 128 + SIGKILL || exit == 130 || exit == 0));
            }
            CHECK(ended_by_signal >= 1);
            const Ended last = degrade(in, out, words);
            CAPTURE(last.err);
            REQUIRE(last.exit == 0);
            CHECK(tree_of(out) == tree_of(whole));
            CHECK(temporary_files(out).empty());
        }
    }

    TEST_CASE(
        "ultrasr-degrade: a second run makes nothing; damaged pictures are made again; other "
        "options are refused") {
        const TemporaryFolder folder;
        const fs::path in = folder.path() / "in", out = folder.path() / "out";
        make_photographs(in, 3, 90);
        REQUIRE(degrade(in, out).exit == 0);
        const std::string before = tree_of(out);
        CHECK(json_of(degrade(in, out, {"--json"}).out)["made_now"] == 0);
        const std::string id = records_in(out)[1]["id"].get<std::string>();
        write_file(out / "lr_x4" / (id + ".png"), "damaged");
        fs::remove(out / "gt" / (records_in(out)[0]["id"].get<std::string>() + ".png"));
        CHECK(json_of(degrade(in, out, {"--json"}).out)["made_now"] == 2);
        CHECK(tree_of(out) == before);
        check_refused(degrade(in, out, {"--seed", "5"}), 3,
                      {"other options", "seed (0 there, 5 here)", "--restart"});
        CHECK(tree_of(out) == before);
        // A new photograph joins; the others stay
        make_photographs(in, 4, 90);
        CHECK(json_of(degrade(in, out, {"--json"}).out)["made_now"] == 1);
        CHECK(records_in(out).size() == 4);
        // Merging before all shards are done
        check_refused(degrade(in, folder.path() / "m", {"--merge"}), 3,
                      {"4 of 4 outputs are not done", "shards"});
    }

    TEST_CASE("ultrasr-degrade: two at once on one folder, the second is refused") {
        const TemporaryFolder folder;
        const fs::path in = folder.path() / "in", out = folder.path() / "out";
        make_photographs(in, 8, 200);
        Program first("ultrasr-degrade", {in.string(), out.string(), "--patch", "192",
                                          "--per-image", "40", "--threads", "1"});
        while (count_files(out) < 4) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        check_refused(degrade(in, out), 5, {"another"});
        first.send(SIGINT);
        CHECK(first.wait().exit == 130);
    }

    TEST_CASE(
        "ultrasr-degrade: a full disk and a read-only one are exit 5, and the run goes on "
        "when there is room") {
        for (const std::string format : {"folder", "hdf5", "tar"}) {
            CAPTURE(format);
            const SmallTmpfs disk("size=260k");
            if (!disk.usable()) return;
            const TemporaryFolder folder;
            const fs::path in = folder.path() / "in", out = disk.path() / "out";
            make_photographs(in, 6, 90);
            const Ended full = degrade(in, out, words_for(format));
            check_refused(full, 5, {"cannot write"});
            CHECK(temporary_files(out).empty());
            disk.remount("size=8m");
            const Ended more = degrade(in, out, words_for(format));
            CAPTURE(more.err);
            CHECK(more.exit == 0);
            REQUIRE(degrade(in, folder.path() / "whole", words_for(format)).exit == 0);
            CHECK(tree_of(out) == tree_of(folder.path() / "whole"));
            disk.remount("", true);
            check_refused(degrade(in, disk.path() / "other"), 5, {"cannot"});
        }
    }
}
