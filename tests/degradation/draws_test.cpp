// Scalar draws: pinned, because records of version 1 are made again from them, and their edges.
#include <cmath>
#include <numeric>

#include "degradation/draws.h"
#include "tests/degradation/plans.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

/// A stream whose draw of slot 3 lies there.
Stream stream_with(double low, double high) {
    for (std::uint64_t id = 0; id < 3'000'000; ++id) {
        const double u = draw_unit({.seed = 1, .id = id}, 3, 0);
        if (u >= low && u < high) return {.seed = 1, .id = id};
    }
    fail(Fault::internal, "no stream draws that");
}

TEST_SUITE("golden") {
    // Random123's Philox4x32-10 written again in Python: the counter and key of degradation.md 4.1,
    // u = ((word 0 * 2^32 + word 1) >> 11) / 2^53, exact. Frozen by record version 1
    TEST_CASE("draw_unit: pinned for five slots and levels") {
        const Stream stream{.seed = 0x0123456789ABCDEF, .id = 0xABCDEF012345, .variant = 0x1234};
        CHECK(draw_unit(stream, 0, 0) == 0x3c5afc71c764b.0p-53);
        CHECK(draw_unit(stream, 41, 0) == 0x1a91a86e8d7f6a.0p-53);
        CHECK(draw_unit(stream, 57, 14) == 0x1cb3abfce5c039.0p-53);
        CHECK(draw_unit(stream, 129, 72) == 0xd77997d4e26a0.0p-53);
        CHECK(draw_unit(stream, 1647, 255) == 0x2f7174da25746.0p-53);
    }

    // printf PATH | sha256sum, its first 48 bits. Frozen: every picture's draws hang on it
    TEST_CASE("path_id: pinned, UTF-8 as it is") {
        CHECK(path_id("0001.png") == 0x65BD923EEAEC);
        CHECK(path_id("DIV2K/train/0412.png") == 0xAC16A8A20E54);
        CHECK(path_id("ordner/große Brücke.jpg") == 0x75DED9EDF459);
        CHECK(path_id("") == 0xE3B0C44298FC);
    }
}

TEST_SUITE("unit") {
    TEST_CASE("path_id: 48 bits of the very bytes of the path") {
        CHECK(path_id("a/b.png") != path_id("a/B.png"));
        CHECK(path_id("a/b.png") != path_id("a\\b.png"));
        CHECK(path_id("a/b.png") != path_id("./a/b.png"));
        CHECK(path_id("a/b.png") == path_id(std::string("a/b.png")));
        for (int i = 0; i < 100; ++i) REQUIRE(path_id(std::to_string(i)) < (1ULL << 48));
    }

    TEST_CASE("draw_unit: seed, id, variant, slot and level all count") {
        const Stream base{.seed = 1, .id = 2, .variant = 3};
        const double u = draw_unit(base, 4, 5);
        CHECK(draw_unit(base, 4, 5) == u);
        CHECK(draw_unit({.seed = 9, .id = 2, .variant = 3}, 4, 5) != u);
        CHECK(draw_unit({.seed = 1, .id = 9, .variant = 3}, 4, 5) != u);
        CHECK(draw_unit({.seed = 1, .id = 2, .variant = 9}, 4, 5) != u);
        CHECK(draw_unit(base, 9, 5) != u);
        CHECK(draw_unit(base, 4, 9) != u);
        // High bits too
        CHECK(draw_unit({.seed = 1 | 1ULL << 63, .id = 2, .variant = 3}, 4, 5) != u);
        CHECK(draw_unit({.seed = 1, .id = 2 | 1ULL << 47, .variant = 3}, 4, 5) != u);
        CHECK(draw_unit({.seed = 1, .id = 2, .variant = 3 | 1U << 15}, 4, 5) != u);
    }

    TEST_CASE("weighted: the first whose cumulative weight lies above u") {
        const auto index = [](double low, double high, const std::vector<double>& weights) {
            Draws draws(stream_with(low, high), 0, Orientation::plain);
            return draws.weighted(3, "w", weights);
        };
        const std::vector<double> weights{0.2, 0.7, 0.1};
        CHECK(index(0, 1e-4, weights) == 0);
        CHECK(index(0.1999, 0.2, weights) == 0);
        CHECK(index(0.2, 0.2001, weights) == 1);
        CHECK(index(0.8999, 0.9, weights) == 1);
        CHECK(index(0.9, 0.9001, weights) == 2);
        CHECK(index(1 - 1e-5, 1, weights) == 2);
        // Only their proportion counts
        CHECK(index(0.1999, 0.2, {2, 7, 1}) == 0);
        CHECK(index(0.2, 0.2001, {2, 7, 1}) == 1);
        // What weighs nothing never happens, wherever it stands
        for (const auto& [low, high] : {std::pair{0.0, 1e-5}, {0.4, 0.6}, {1 - 1e-5, 1.0}}) {
            CHECK(index(low, high, {0, 1, 0}) == 1);
            CHECK(index(low, high, {1, 0, 0}) == 0);
            CHECK(index(low, high, {0, 0, 1}) == 2);
            CHECK(index(low, high, {0, 0, 1, 0, 0}) == 2);
            CHECK(index(low, high, {1}) == 0);
        }
        CHECK(index(1 - 1e-5, 1, {0.5, 0.5, 0, 0}) == 1);
        CHECK(index(0, 1e-5, {0, 0, 0.5, 0.5}) == 2);
    }

    TEST_CASE("chance, choice, integer, uniform: their ends") {
        const auto with = [](double low, double high, Orientation orientation) {
            return Draws(stream_with(low, high), 0, orientation);
        };
        for (const Orientation orientation : {Orientation::plain, Orientation::worse_up}) {
            for (const auto& [low, high] : {std::pair{0.0, 1e-5}, {1 - 1e-5, 1.0}}) {
                Draws draws = with(low, high, orientation);
                CHECK_FALSE(draws.chance(3, "c", 0));
                CHECK(draws.chance(3, "c", 1));
                CHECK(draws.choice(3, "n", 1) == 0);
                CHECK(draws.choice(3, "n", 8) == (low == 0 ? 0 : 7));
                CHECK(draws.integer(3, "i", 2, 25) == (low == 0 ? 2 : 25));
                CHECK(draws.integer(3, "i", -1, 1) == (low == 0 ? -1 : 1));
                CHECK(draws.integer(3, "i", 5, 5) == 5);
                CHECK(draws.uniform(3, "u", {3, 3}) == 3);
                // Turned round only where small is worse and levels share their u
                const bool turned = orientation == Orientation::worse_up;
                const double at_low = draws.uniform(3, "q", {30, 95}, true);
                CHECK(std::abs(at_low - ((low == 0) != turned ? 30 : 95)) < 1e-2);
                CHECK(std::abs(draws.uniform(3, "s", {1, 30}) - (low == 0 ? 1 : 30)) < 1e-2);
                CHECK(draws.chance(3, "c", 0.5) == ((low == 0) != turned));
                CHECK(draws.chance(3, "c", 0.5, true) == (low == 0));
            }
        }
    }

    TEST_CASE("Draws::log: what was drawn and from which u, by name") {
        const Stream stream{.seed = 4, .id = 5};
        Draws draws(stream, 8, Orientation::plain);
        const double q = draws.uniform(10, "quality", {30, 95});
        const bool yes = draws.chance(11, "blurred", 0.8);
        const std::size_t i = draws.choice(12, "mode", 3);
        const int n = draws.integer(13, "level", 2, 25);
        const Json expected{{"quality", {draw_unit(stream, 10, 8), q}},
                            {"blurred", {draw_unit(stream, 11, 8), yes}},
                            {"mode", {draw_unit(stream, 12, 8), i}},
                            {"level", {draw_unit(stream, 13, 8), n}}};
        CHECK(draws.log() == expected);
        CHECK(draws.log().size() == 4);
    }
}

TEST_SUITE("property") {
    TEST_CASE("draw_unit: uniform over ids, variants, slots and levels, neighbours unrelated") {
        std::vector<std::vector<double>> by(4);
        for (std::uint32_t i = 0; i < 20'000; ++i) {
            by[0].push_back(draw_unit({.seed = 1, .id = i}, 40, 0));
            by[1].push_back(draw_unit({.seed = i}, 40, 0));
            by[2].push_back(draw_unit({.seed = 1, .variant = i}, 40, 0));
            by[3].push_back(draw_unit({.seed = 1}, i, 0));
        }
        for (const auto& values : by) {
            CHECK(test::uniform_excess(values, 0, 1) < 1);
            const std::vector<double> first(values.begin(), values.end() - 1),
                next(values.begin() + 1, values.end());
            CHECK(std::abs(test::correlation(first, next)) < 3.3 / std::sqrt(20'000.0));
        }
    }

    TEST_CASE("choice, integer, weighted: as often as they should") {
        std::vector<double> choices(7, 0), integers(24, 0), weighted(4, 0);
        const std::vector<double> weights{0.1, 0, 0.6, 0.3};
        for (std::uint64_t id = 0; id < 10'000; ++id) {
            Draws draws({.seed = 2, .id = id}, 0, Orientation::plain);
            ++choices.at(draws.choice(1, "a", 7));
            ++integers.at(static_cast<std::size_t>(draws.integer(2, "b", 2, 25) - 2));
            ++weighted.at(draws.weighted(3, "c", weights));
        }
        CHECK(test::even_odds(choices) > 1e-3);
        CHECK(test::even_odds(integers) > 1e-3);
        CHECK(weighted[1] == 0);
        CHECK(test::count_deviations(weighted[0], 10'000, 0.1) < 3.3);
        CHECK(test::count_deviations(weighted[2], 10'000, 0.6) < 3.3);
    }
}

}  // namespace
}  // namespace ultrasr
