#include <cmath>
#include <limits>

#include "data/base/error.h"
#include "leaderboard/compare.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

ScoreTable table(const std::string& metric, const std::vector<double>& values) {
    ScoreTable result;
    result.metrics = {metric};
    for (std::size_t i = 0; i < values.size(); ++i) {
        result.images.push_back("p" + std::to_string(i) + ".png");
        result.values.push_back({values[i]});
    }
    return result;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("sign_test: exact binomial tails") {
        CHECK(sign_test(5, 5) == 1.0);
        CHECK(sign_test(10, 0) == doctest::Approx(2.0 / 1024).epsilon(1e-9));
        CHECK(sign_test(1, 9) ==
              doctest::Approx(2.0 * 11 / 1024).epsilon(1e-9));  // 1 + 10 outcomes
        CHECK(sign_test(0, 0) == 1.0);
    }

    TEST_CASE("compare_scores: differences are B - A, wins follow the better direction") {
        const auto a = table("niqe", {5, 6, 7, 8});
        const auto b = table("niqe", {4, 6, 5, 9});
        const auto result = compare_scores(a, b, "", 1);
        REQUIRE(result.size() == 1);
        const Comparison& c = result.front();
        CHECK(c.pictures == 4);
        CHECK(c.mean_difference == doctest::Approx(-0.5));
        CHECK(c.b_better == 2);  // NIQE: lower is better; one tie counts for nobody
        CHECK(c.a_better == 1);
        CHECK(c.ci_low <= c.mean_difference);
        CHECK(c.ci_high >= c.mean_difference);
        CHECK(c.largest.front().image == "p2.png");
        CHECK(compare_scores(table("psnr-y601", {20, 30}), table("psnr-y601", {21, 31}), "", 1)
                  .front()
                  .b_better == 2);
    }

    TEST_CASE(
        "compare_scores: pictures that one lacks or that are undefined are left out, counted") {
        auto b = table("niqe", {4, undefined, 5, 9});
        b.images[3] = "other.png";
        const Comparison c = compare_scores(table("niqe", {5, 6, 7, 8}), b, "niqe", 1).front();
        CHECK(c.pictures == 2);
        CHECK(c.undefined == 1);
        CHECK(c.mean_a == doctest::Approx(6));
    }

    TEST_CASE("compare_scores: nothing in common is refused") {
        const auto a = table("niqe", {1});
        CHECK_THROWS_AS(compare_scores(a, table("psnr-rgb", {1}), "", 1), Error);
        CHECK_THROWS_AS(compare_scores(a, a, "psnr-rgb", 1), Error);
        auto b = a;
        b.images[0] = "x.png";
        CHECK_THROWS_AS(compare_scores(a, b, "", 1), Error);
    }
}
