// data/base: errors, JSON, random numbers, progress.
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>
#include <nlohmann/json.hpp>

#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/base/json.h"
#include "data/base/progress.h"
#include "data/base/random.h"
#include "tests/test.h"

using namespace ultrasr;

TEST_SUITE("unit") {
    TEST_CASE(
        "require: the message has the values, the fault and the place, relative to the tree") {
        try {
            require(1 > 2, "{} pixels are too few", 3);
            FAIL("did not throw");
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::input);
            CHECK(error.sentence() == "3 pixels are too few");
            CHECK(std::string(error.what())
                      .starts_with("3 pixels are too few [tests/data/base_test.cpp:"));
        }
    }

    TEST_CASE("while_doing: puts contexts in front, innermost last, and keeps the fault") {
        const auto inner = [] { fail(Fault::storage, "no space"); };
        try {
            while_doing("set a", [&] { while_doing("picture b", inner); });
            FAIL("did not throw");
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::storage);
            CHECK(error.sentence() == "set a: picture b: no space");
        }
    }

    TEST_CASE("while_doing: foreign exceptions become internal, lack of memory device") {
        const auto fault_of = [](auto&& action) {
            try {
                while_doing("x", action);
            } catch (const Error& error) {
                return error.fault();
            }
            return Fault::usage;
        };
        CHECK(fault_of([] { throw std::runtime_error("boom"); }) == Fault::internal);
        CHECK(fault_of([] { throw std::bad_alloc(); }) == Fault::device);
    }

    TEST_CASE("while_doing: an interrupt passes through unchanged") {
        CHECK_THROWS_AS(while_doing("x", [] { throw Interrupted{}; }), Interrupted);
    }

    TEST_CASE("Progress: reports, and throws once the user asked to stop") {
        std::size_t seen = 0;
        Progress progress([&](const Progress::Step& step) { seen = step.done; });
        progress.step("work", 2, 5);
        CHECK(seen == 2);
        Progress::interrupt();
        CHECK_THROWS_AS(progress.step("work", 3, 5), Interrupted);
        CHECK(seen == 3);  // what was finished is still told
        Progress::resume();
        progress.step("work", 4, 5);
        CHECK(seen == 4);
    }

    TEST_CASE("json_number: nan and infinities survive the way through text") {
        constexpr double inf = std::numeric_limits<double>::infinity();
        for (const double value : {0.1, -inf, inf, 1e-300}) {
            const Json back = parse_json(dump_json(json_number(value)), "text");
            CHECK(number_from_json(back) == value);
        }
        CHECK(
            std::isnan(number_from_json(parse_json(dump_json(json_number(std::nan(""))), "text"))));
        CHECK_THROWS_AS(number_from_json(Json("seven")), Error);
    }

    TEST_CASE("parse_json: a fault names the file and the line") {
        try {
            parse_json("{\n\"a\": }", "set.json");
            FAIL("did not throw");
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::input);
            CHECK(error.sentence().starts_with("set.json is not valid JSON"));
            CHECK(error.sentence().find("line 2") != std::string::npos);
        }
    }

    TEST_CASE("dump_json_line: a file name that is no UTF-8 does not stop the program") {
        CHECK(dump_json_line(Json(std::string("a\xff"))) == "\"a\xef\xbf\xbd\"");
    }

    TEST_CASE("portable_command_line: absolute paths lose their folders, options can be left out") {
        std::array<std::string, 9> words{"/usr/bin/ultrasr-bench",
                                         "--data",
                                         "/a/b/realsr,c/d",
                                         "--method",
                                         "folder:/x/y/sr@osediff,bicubic",
                                         "--shard",
                                         "1/2",
                                         "--out=/o",
                                         "--quiet"};
        std::vector<char*> argv;
        for (std::string& word : words) argv.push_back(word.data());
        const std::string line = portable_command_line(static_cast<int>(argv.size()), argv.data(),
                                                       {"--shard", "--out", "--quiet"});
        CHECK(line == "ultrasr-bench --data realsr,c/d --method folder:sr@osediff,bicubic");
    }
}

TEST_SUITE("golden") {
    // Random123 1.14.0, tests/kat_vectors, lines "philox4x32 10" (Salmon et al.).
    TEST_CASE("philox4x32: known answers of its authors") {
        using Words = std::array<std::uint32_t, 4>;
        CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) ==
              Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
        constexpr std::uint32_t ones = 0xffffffff;
        CHECK(philox4x32({ones, ones, ones, ones}, {ones, ones}) ==
              Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
        CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                         {0xa4093822, 0x299f31d0}) ==
              Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
    }
}

TEST_SUITE("property") {
    TEST_CASE("Rng: a stream is a function of seed and item alone") {
        Rng a(1, 2), same(1, 2), other_item(1, 3), other_seed(2, 2);
        bool item_differs = false, seed_differs = false;
        for (int i = 0; i < 100; ++i) {
            const auto word = a.next();
            CHECK(word == same.next());
            item_differs |= word != other_item.next();
            seed_differs |= word != other_seed.next();
        }
        CHECK(item_differs);
        CHECK(seed_differs);
    }

    TEST_CASE("Rng::below: every value appears, equally often within five sigma") {
        constexpr std::uint32_t bound = 7;
        constexpr int draws = 70000;
        std::array<int, bound> counts{};
        Rng rng(5, 0);
        for (int i = 0; i < draws; ++i) ++counts[rng.below(bound)];
        const double expected = static_cast<double>(draws) / bound;
        const double sigma = std::sqrt(expected * (1 - 1.0 / bound));
        for (const int count : counts) CHECK(std::abs(count - expected) < 5 * sigma);
    }

    TEST_CASE("Rng::uniform: in [0,1), mean 1/2, variance 1/12 within five sigma") {
        Rng rng(9, 9);
        constexpr int n = 100000;
        double sum = 0, squares = 0;
        for (int i = 0; i < n; ++i) {
            const double u = rng.uniform();
            REQUIRE(u >= 0);
            REQUIRE(u < 1);
            sum += u;
            squares += (u - 0.5) * (u - 0.5);
        }
        CHECK(std::abs(sum / n - 0.5) < 5 * std::sqrt(1.0 / 12 / n));
        CHECK(std::abs(squares / n - 1.0 / 12) < 5 * std::sqrt(1.0 / 180 / n));
    }
}
