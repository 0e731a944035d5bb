#include "registration/session.h"

#include <nlohmann/json.hpp>

#include "tests/test.h"

using namespace ultrasr;

namespace {

Json record(const std::string& scene, double k, double sharpness, bool accepted = true) {
    return {
        {"scene", scene},
        {"pairs",
         {{{"window", 0},
           {"scale", 8},
           {"tele_focal_mm", 225},
           {"own_figures", {{"accepted", accepted}, {"k", k}, {"sharpness_ratio", sharpness}}}}}}};
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("judge_session: an odd tele distortion is noted, refitted only when asked for") {
        const std::vector<Json> records{record("a", 0.006, 4), record("b", 0.007, 5),
                                        record("c", 0.0065, 4), record("d", 0.012, 5)};
        RegisterSettings settings;
        auto verdicts = judge_session(records, settings);
        REQUIRE(verdicts.size() == 1);
        CHECK(verdicts.at("d").at(8).note.starts_with("k_odd: 0.0120"));
        CHECK(!verdicts.at("d").at(8).changes_pair());
        settings.session_k = true;
        verdicts = judge_session(records, settings);
        CHECK(verdicts.at("d").at(8).fixed_k == doctest::Approx(0.00675));
        CHECK(verdicts.at("d").at(8).changes_pair());
    }

    TEST_CASE("judge_session: a frame softer than a third of its fellows is refused") {
        const std::vector<Json> records{record("a", 0.006, 4), record("b", 0.006, 5),
                                        record("c", 0.006, 1.3)};
        const auto verdicts = judge_session(records, {});
        REQUIRE(verdicts.size() == 1);
        CHECK(verdicts.at("c").at(8).reject.starts_with("tele_blurred: sharpness 1.3"));
    }

    TEST_CASE("judge_session: two pairs and refused pairs judge nobody") {
        CHECK(judge_session({record("a", 0.006, 4), record("b", 0.02, 1)}, {}).empty());
        CHECK(judge_session(
                  {record("a", 0.006, 4), record("b", 0.006, 4), record("c", 0.02, 1, false)}, {})
                  .empty());
    }
}
