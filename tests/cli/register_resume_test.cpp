// ultrasr-register loses nothing: whatever the threads and however often it was killed or
// interrupted, the tree is the same to the byte.
#include <signal.h>

#include <chrono>
#include <thread>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "data/base/json.h"
#include "data/base/random.h"
#include "data/file.h"
#include "tests/cli/bench_set.h"
#include "tests/cli/disk.h"
#include "tests/cli/register_series.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace ultrasr::test;
namespace fs = std::filesystem;

namespace {

const std::vector<std::string> session_words{"--no-timing", "--limit", "session_sharpness=0.7"};

/// Four scenes that judge each other, one of them done twice for it, and a fifth with a broken
/// file.
void make_capture(const fs::path& raw) {
    make_session(raw);
    copy_scene(2, raw / "broken", {8, 14});
    const fs::path tele = raw / "broken/tele14.jpg";
    write_file(tele, read_file(tele).substr(0, fs::file_size(tele) / 2));
}

/// Files of a tree that grows and shrinks meanwhile.
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

std::vector<std::string> with(std::vector<std::string> words,
                              const std::vector<std::string>& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
}

/// Starts a run like register_run, sends a signal once `files` files are there and waits for its
/// end. Files, not seconds: a busy machine moves no moment.
Ended stopped_run(const fs::path& raw, const fs::path& out, std::vector<std::string> words,
                  std::size_t files, int signal) {
    words.insert(words.begin(), {raw.string(), out.string(), "--scale", "8", "--qa", "none"});
    Program program("ultrasr-register", words);
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (count_files(out) < files && std::chrono::steady_clock::now() < give_up) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    Rng rng(13, files);
    std::this_thread::sleep_for(std::chrono::milliseconds(rng.below(30)));
    program.send(signal);
    return program.wait();
}

/// When each scene was finished.
std::map<std::string, fs::file_time_type> finish_times(const fs::path& out) {
    std::map<std::string, fs::file_time_type> times;
    for (const auto& scene : fs::directory_iterator(out / "scenes")) {
        times[scene.path().filename().string()] = fs::last_write_time(scene.path() / "done");
    }
    return times;
}

/// The scenes that were done between the two.
std::string redone(const std::map<std::string, fs::file_time_type>& before,
                   const std::map<std::string, fs::file_time_type>& after) {
    std::string names;
    for (const auto& [name, time] : after) {
        const auto at = before.find(name);
        if (at == before.end() || at->second != time) names += name + " ";
    }
    return names;
}

}  // namespace

TEST_SUITE("cli") {
    TEST_CASE("ultrasr-register: the same bytes for 1, 2 and 8 threads, from any folder") {
        const TemporaryFolder folder, elsewhere;
        make_capture(folder.path() / "raw");
        fs::copy(folder.path() / "raw", elsewhere.path() / "photos", fs::copy_options::recursive);
        const auto tree = [&](const fs::path& raw, const fs::path& out,
                              const std::vector<std::string>& more) {
            const Ended ended =
                register_plain(raw, out, with({"--scale", "8"}, with(session_words, more)));
            CAPTURE(ended.err);
            REQUIRE(ended.exit == 0);
            CHECK(temporary_files(out).empty());
            return tree_of(out);
        };
        const fs::path raw = folder.path() / "raw";
        const std::string one = tree(raw, folder.path() / "o1", {"--threads", "1"});
        CHECK(holds(one, "x8/HR/a.png"));
        CHECK(holds(one, "qa/a_x8_flicker.png"));
        CHECK(holds(one, "rejected/soft_x8.json"));
        CHECK(one ==
              tree(elsewhere.path() / "photos", elsewhere.path() / "o2", {"--threads", "2"}));
        CHECK(one == tree(raw, folder.path() / "o8", {"--threads", "8", "--scenes-at-once", "3"}));
    }

    TEST_CASE("ultrasr-register: killed at any moment and started again, the tree is the same") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", whole = folder.path() / "whole";
        make_session(raw);
        const auto words = with(session_words, {"--threads", "2"});
        REQUIRE(register_run(raw, whole, words).exit == 0);
        const std::string wanted = tree_of(whole);
        const std::size_t files = count_files(whole);
        int killed = 0;
        for (std::size_t k = 1; k <= 10; ++k) {
            CAPTURE(k);
            const fs::path out = folder.path() / fmt::format("out{}", k);
            killed += stopped_run(raw, out, words, k * files / 11, SIGKILL).exit == 128 + SIGKILL;
            const Ended ended = register_run(raw, out, words);
            CAPTURE(ended.err);
            CHECK(ended.exit == 0);
            CHECK(tree_of(out) == wanted);
            CHECK(temporary_files(out).empty());
            fs::remove_all(out);
        }
        CHECK(killed >= 8);  // the last may come too late
    }

    TEST_CASE("ultrasr-register: Ctrl-C ends with 130, says how to go on; so it does") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", whole = folder.path() / "whole";
        make_session(raw);
        const auto words = with(session_words, {"--threads", "2", "--scenes-at-once", "2"});
        REQUIRE(register_run(raw, whole, words).exit == 0);
        const std::string wanted = tree_of(whole);
        const std::size_t files = count_files(whole);
        for (std::size_t k = 1; k <= 6; ++k) {
            CAPTURE(k);
            const fs::path out = folder.path() / fmt::format("out{}", k);
            const Ended ended =
                stopped_run(raw, out, words, 3 + k * files / 12, k == 1 ? SIGTERM : SIGINT);
            CAPTURE(ended.err);
            CHECK(ended.exit == 130);
            CHECK(holds(ended.err, "interrupted; the same command goes on"));
            CHECK(temporary_files(out).empty());
            CHECK(register_run(raw, out, words).exit == 0);
            CHECK(tree_of(out) == wanted);
        }
    }

    TEST_CASE("ultrasr-register: another setting does all again, another file its scene alone") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        for (const char* scene : {"a", "b"}) copy_scene(1, raw / scene, {8, 14});
        const auto run = [&](const std::vector<std::string>& words) {
            const auto before =
                fs::exists(out / "scenes") ? finish_times(out) : decltype(finish_times(out)){};
            const Ended ended = register_run(raw, out, with({"--no-timing"}, words));
            CAPTURE(ended.err);
            REQUIRE(ended.exit == 0);
            return redone(before, finish_times(out));
        };
        const auto fresh = [&](const std::vector<std::string>& words) {
            const fs::path other = folder.path() / "fresh";
            fs::remove_all(other);
            REQUIRE(register_run(raw, other, with({"--no-timing"}, words)).exit == 0);
            return tree_of(other);
        };
        const std::vector<std::string> both{"--scale", "8,14"};
        CHECK(run(both) == "a b ");
        CHECK(run(both) == "");
        CHECK(run(with(both, {"--threads", "1", "--quiet"})) == "");  // changes no result
        // Another setting; what it no longer makes is gone, folders too
        CHECK(run({}) == "a b ");
        CHECK(tree_of(out) == fresh({}));
        CHECK_FALSE(fs::exists(out / "x14"));
        CHECK(bench(out, folder.path() / "bench").exit == 0);
        // Another file, one more, one less
        change_pixels(raw / "b/tele8.jpg", [](cv::Mat& rgb) { rgb += cv::Scalar(1, 1, 1); });
        CHECK(run({}) == "b ");
        fs::copy_file(frame_of(2, 14), raw / "b/more.jpg");
        CHECK(run({}) == "b ");
        fs::remove(raw / "b/more.jpg");
        CHECK(run({}) == "b ");
        CHECK(tree_of(out) == fresh({}));
        // A scene more, a scene less
        copy_scene(2, raw / "c");
        CHECK(run({}) == "c ");
        CHECK(fs::exists(out / "x8/HR/c.png"));
        fs::remove_all(raw / "c");
        CHECK(run({}) == "");
        CHECK(tree_of(out) == fresh({}));
        // A lost record, a lost manifest, a torn record
        fs::remove(out / "scenes/a/pair.json");
        fs::remove(out / "manifest.json");
        CHECK(run({}) == "a ");
        write_file(out / "scenes/b/pair.json", "{\"torn");
        CHECK(run({}) == "b ");
        CHECK(tree_of(out) == fresh({}));
        // --restart
        CHECK(run({"--restart"}) == "a b ");
        CHECK(tree_of(out) == fresh({}));
    }

    TEST_CASE("ultrasr-register: what a killed run left of a scene goes when the scene has gone") {
        const TemporaryFolder folder;
        const fs::path raw = folder.path() / "raw", out = folder.path() / "out";
        copy_scene(1, raw / "a", {8, 14});
        copy_scene(1, raw / "b", {8, 14});
        {
            // Kill it between b's first picture and b's record
            Program program("ultrasr-register", {raw.string(), out.string(), "--scale", "8,14",
                                                 "--no-timing", "--scenes-at-once", "1"});
            const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
            while (!fs::exists(out / "x8/HR/b.png") && std::chrono::steady_clock::now() < give_up) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
            program.send(SIGKILL);
            program.wait();
        }
        REQUIRE(fs::exists(out / "x8/HR/b.png"));
        CHECK_FALSE(fs::exists(out / "scenes/b/pair.json"));
        fs::remove_all(raw / "b");
        const std::vector<std::string> words{"--scale", "8,14", "--no-timing"};
        REQUIRE(register_plain(raw, out, words).exit == 0);
        REQUIRE(register_plain(raw, folder.path() / "fresh", words).exit == 0);
        CHECK(tree_of(out) == tree_of(folder.path() / "fresh"));
    }
}
