#include <cmath>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "leaderboard/evaluate.h"
#include "leaderboard/journal.h"
#include "tests/test.h"

using namespace ultrasr;

TEST_SUITE("unit") {
    TEST_CASE("Journal: remembers across openings, also after a torn line") {
        const test::TemporaryFolder folder;
        const Json settings{{"scale", 4}};
        {
            Journal journal(folder.path(), "journal.jsonl", settings);
            CHECK_FALSE(journal.restored("a"));
            journal.add_restored("a", 1.5);
            journal.add_scores("a", {{"niqe cuda", std::nan("")}, {"psnr cuda", 30.25}}, 0.1);
        }
        const auto file = folder.path() / "journal.jsonl";
        write_file(file, read_file(file) + R"({"stem":"b","restor)");
        Journal journal(folder.path(), "journal.jsonl", settings);
        CHECK(journal.restored("a") == 1.5);
        CHECK(journal.score("a", "psnr cuda") == 30.25);
        REQUIRE(journal.score("a", "niqe cuda"));
        CHECK(std::isnan(*journal.score("a", "niqe cuda")));
        CHECK_FALSE(journal.restored("b"));
    }

    TEST_CASE("Journal: restoring a picture again forgets its scores") {
        const test::TemporaryFolder folder;
        Journal journal(folder.path(), "journal.jsonl", Json::object());
        journal.add_restored("a", 1);
        journal.add_scores("a", {{"m", 2}}, 1);
        journal.add_restored("a", 3);
        CHECK_FALSE(journal.score("a", "m"));
    }

    TEST_CASE("Journal: work of other settings is refused, saying which differ") {
        const test::TemporaryFolder folder;
        {
            const Journal journal(folder.path(), "journal.jsonl",
                                  {{"scale", 4}, {"device", "cpu"}});
        }
        try {
            const Journal journal(folder.path(), "journal.2of2.jsonl",
                                  {{"scale", 8}, {"device", "cpu"}});
            FAIL("did not throw");
        } catch (const Error& error) {
            CHECK(error.sentence().find("(scale differ)") != std::string::npos);
        }
        Journal::forget(folder.path());
        CHECK_NOTHROW(Journal(folder.path(), "journal.jsonl", {{"scale", 8}}));
    }

    TEST_CASE("Journal: several files of one folder are read together") {
        const test::TemporaryFolder folder;
        Journal(folder.path(), "journal.1of2.jsonl", Json::object()).add_restored("a", 1);
        const Journal second(folder.path(), "journal.2of2.jsonl", Json::object());
        CHECK(second.restored("a") == 1);
    }

    TEST_CASE("Shard: the shards share the pictures out, each to exactly one, evenly") {
        std::size_t owned[4] = {};
        for (int i = 0; i < 1000; ++i) {
            int owners = 0;
            for (unsigned s = 1; s <= 4; ++s) {
                if (Shard{s, 4}.owns("picture_" + std::to_string(i))) {
                    ++owners;
                    ++owned[s - 1];
                }
            }
            REQUIRE(owners == 1);
        }
        for (const std::size_t n : owned) CHECK(n > 180);  // 250 expected, sigma 14
        CHECK(parse_shard("2/8").index == 2);
        for (const char* bad : {"", "0/2", "3/2", "1/0", "1", "1/2x", "a/b"}) {
            CHECK_THROWS_AS(parse_shard(bad), Error);
        }
    }
}
