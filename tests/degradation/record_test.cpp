// Records: a plan to JSON and back, parameters changed on purpose, and what is no record.
#include <set>

#include "degradation/record.h"
#include "tests/degradation/plans.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

using test::preset;

/// Small pictures, any presets, scales and couplings.
PlanRequest any_request(std::uint64_t i) {
    Rng rng(17, i);
    const auto below = [&](std::size_t n) {
        return static_cast<std::size_t>(rng.uniform() * static_cast<double>(n));
    };
    PlanRequest request;
    request.stream = {.seed = below(1ULL << 62),
                      .id = below(1ULL << 48),
                      .variant = static_cast<std::uint32_t>(below(65536))};
    request.gt = {static_cast<int>(17 + below(30)), static_cast<int>(17 + below(30))};
    constexpr std::array couples{Couple::stage1, Couple::comonotone, Couple::params,
                                 Couple::independent, Couple::cascade};
    request.couple = couples[below(couples.size())];
    request.tier = below(2) == 0 ? Tier::exact : Tier::fast;
    const std::size_t levels = 1 + below(3);
    const bool alike = below(2) == 0;
    for (std::size_t k = 0; k < levels; ++k) {
        // Every preset comes first in its turn
        const Preset& first = presets()[i % presets().size()];
        const Preset& other = alike || k == 0 ? first : presets()[below(presets().size())];
        request.levels.push_back({static_cast<int>(1 + below(8)), other});
        if (i % 3 > 0) request.levels.back().preset.noise2_field = Noise2Field::nested;
    }
    return request;
}

/// As a file keeps it.
Json through_text(const Json& record) { return Json::parse(record.dump()); }

/// Poisson vals that were found in the picture are numbers in a replayed plan.
Json with_measured_vals(const Json& record) {
    Json out = record;
    const auto replace = [](Json& steps) {
        for (Json& step : steps) {
            if (step["step"] == "poisson_noise" && step["params"]["vals"].is_string()) {
                step["params"]["vals"] = step["measured"]["vals"];
                step["measured"].erase("distinct_levels");
            }
        }
    };
    replace(out["shared"]);
    for (Json& level : out["levels"]) replace(level["steps"]);
    return out;
}

struct Made {
    Plan plan;
    Planar gt;
    Degraded result;
    Json record;
};

Made made(const PlanRequest& request) {
    Made m;
    m.plan = make_plan(request);
    m.gt = test::noise_picture(3, request.gt.height, request.gt.width, 3);
    m.result = run_plan(m.plan, m.gt);
    m.record = through_text(record_of(m.plan, m.result));
    m.record["id"] = "0412";
    return m;
}

bool same_results(const Degraded& a, const Degraded& b) {
    if (a.levels.size() != b.levels.size() || a.gt_usm.empty() != b.gt_usm.empty()) return false;
    for (std::size_t i = 0; i < a.levels.size(); ++i) {
        const DegradedLevel &x = a.levels[i], &y = b.levels[i];
        if (!test::same_bytes(x.lr, y.lr) || x.lr_up.empty() != y.lr_up.empty()) return false;
        if (!x.lr_up.empty() && !test::same_bytes(x.lr_up, y.lr_up)) return false;
    }
    return true;
}

/// Calls visit(level or "", step entry) for every step of a record.
template <class Visit>
void each_step(Json& record, Visit&& visit) {
    for (Json& step : record["shared"]) visit(std::string(), step);
    for (Json& level : record["levels"]) {
        for (const char* part : {"steps", "back"}) {
            for (Json& step : level[part]) visit(level["name"].get<std::string>(), step);
        }
    }
}

/// The names of all values below params: "kernel.sigma_x", "quality".
void add_names(const Json& params, const std::string& prefix, std::set<std::string>& names) {
    for (const auto& [key, value] : params.items()) {
        if (value.is_object()) {
            add_names(value, prefix + key + ".", names);
        } else {
            names.insert(prefix + key);
        }
    }
}

Json* value_at(Json& params, std::string name) {
    Json* at = &params;
    for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.')) {
        at = &(*at)[name.substr(0, dot)];
        name = name.substr(dot + 1);
    }
    return &(*at)[name];
}

Made two_levels() {
    return made({.stream = {.seed = 3, .id = 8},
                 .gt = {40, 36},
                 .levels = {{4, preset("seesr")}, {8, preset("seesr")}}});
}

std::string record_fault(const Json& record) {
    return test::sentence_of([&] { plan_from_record(record); });
}

TEST_SUITE("property") {
    TEST_CASE("plan_from_record: 200 plans of all presets come back whole, and make the bytes") {
        std::set<std::string> seen;
        for (std::uint64_t i = 0; i < 200; ++i) {
            CAPTURE(i);
            const PlanRequest request = any_request(i);
            const Made m = made(request);
            const Plan again = plan_from_record(m.record);
            for (const LevelPlan& level : again.levels) seen.insert(level.preset);
            REQUIRE(again.stream.seed == m.plan.stream.seed);
            REQUIRE(again.stream.id == m.plan.stream.id);
            REQUIRE(again.stream.variant == m.plan.stream.variant);
            REQUIRE(again.gt == m.plan.gt);
            REQUIRE(again.couple == m.plan.couple);
            REQUIRE(again.tier == m.plan.tier);
            const Degraded result = run_plan(again, m.gt);
            REQUIRE(same_results(result, m.result));
            // Written once more it is the same record, with vals as numbers
            Json record = record_of(again, result);
            record["id"] = "0412";
            REQUIRE(record == with_measured_vals(m.record));
            // From then on nothing changes any more
            REQUIRE(through_text(record_of(plan_from_record(record), result)) ==
                    through_text(record_of(again, result)));
        }
        CHECK(seen.size() == presets().size());
    }

    TEST_CASE("override_parameter_: every name of a record takes its own value and no other") {
        for (std::uint64_t i = 0; i < 60; ++i) {
            const Made m = made(any_request(i));
            std::set<std::string> names;
            Json record = m.record;
            each_step(record, [&](const std::string& level, Json& step) {
                std::set<std::string> own;
                add_names(step["params"], step["name"].get<std::string>() + ".", own);
                for (const std::string& name : own) {
                    names.insert(name);
                    if (!level.empty()) names.insert(level + "." + name);
                }
            });
            for (const std::string& name : names) {
                CAPTURE(name);
                Json changed = m.record, expected = m.record;
                override_parameter_(changed, name + "=[1,\"x\"]");  // no step has such a value
                each_step(expected, [&](const std::string& level, Json& step) {
                    const std::string own = step["name"].get<std::string>() + ".";
                    for (const std::string& prefix : {own, level + "." + own}) {
                        if (!name.starts_with(prefix)) continue;
                        std::set<std::string> has;
                        add_names(step["params"], "", has);
                        const std::string rest = name.substr(prefix.size());
                        if (!has.contains(rest)) continue;
                        *value_at(step["params"], rest) = Json{1, "x"};
                        if (step["step"] == "poisson_noise" && rest == "vals") {
                            step.erase("measured");
                        }
                    }
                });
                REQUIRE(changed == expected);
                REQUIRE(changed != m.record);
                // Nonsense is found when the plan is made of it
                REQUIRE(test::has(record_fault(changed), "record 0412"));
            }
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("override_parameter_: the short names, one level, words and numbers") {
        // A plan that has them all, between four pictures
        std::set<std::string> used;
        for (std::uint64_t id = 0; id < 12; ++id) {
            const Made m = made({.stream = {.seed = 3, .id = id},
                                 .gt = {40, 36},
                                 .levels = {{4, preset("realesrgan")}}});
            for (const auto& [name, full, value] :
                 {std::tuple{"jpeg1_q", "stage1.jpeg.quality", 41.5},
                  {"jpeg2_q", "final.jpeg.quality", 42.5},
                  {"sigma1", "stage1.noise.sigma", 3.25},
                  {"sigma2", "stage2.noise.sigma", 4.25},
                  {"scale1", "stage1.noise.scale", 0.75},
                  {"scale2", "stage2.noise.scale", 0.5},
                  {"resize1", "stage1.resize.ratio", 0.625}}) {
                CAPTURE(name);
                Json by_short = m.record, by_full = m.record;
                const std::string value_text = fmt::format("={}", value);
                try {
                    override_parameter_(by_short, name + value_text);
                } catch (const Error& error) {  // the other kind of noise was drawn
                    REQUIRE(test::has(error.sentence(), "has no parameter"));
                    continue;
                }
                override_parameter_(by_full, full + value_text);
                CHECK(by_short == by_full);
                const std::string step(full, std::string_view(full).rfind('.'));
                const Plan plan = plan_from_record(by_short);
                const Json params = test::step_of(plan, 0, step)->step->params();
                CHECK(params[std::string(full).substr(step.size() + 1)] == value);
                used.insert(name);
            }
        }
        CHECK(used.size() == 7);
        // One of two levels
        const Made m = two_levels();
        Json record = m.record;
        override_parameter_(record, "x8.final.jpeg.quality=31");
        Plan plan = plan_from_record(record);
        CHECK(test::step_as<JpegStep>(plan, 1, "final.jpeg").quality == 31);
        CHECK(test::step_as<JpegStep>(plan, 0, "final.jpeg").quality ==
              test::step_as<JpegStep>(m.plan, 0, "final.jpeg").quality);
        // Both, a word, and the result differs
        override_parameter_(record, "final.resize.mode=area");
        override_parameter_(record, "final.jpeg.quality=31");
        plan = plan_from_record(record);
        for (const std::size_t i : {0U, 1U}) {
            CHECK(test::step_as<ResizeStep>(plan, i, "final.resize").mode == ResizeMode::area);
            CHECK_FALSE(test::same_bytes(run_plan(plan, m.gt).levels[i].lr, m.result.levels[i].lr));
        }
    }

    TEST_CASE("override_parameter_: Poisson vals of one's own beat the measured ones") {
        Preset p = preset("osediff");
        p.stage1.gaussian_noise_prob = p.stage2.gaussian_noise_prob = 0;
        Made m = made({.stream = {.seed = 3, .id = 8}, .gt = {40, 36}, .levels = {{4, p}}});
        override_parameter_(m.record, "stage2.noise.vals=2");
        const Plan plan = plan_from_record(m.record);
        CHECK(test::step_as<PoissonNoiseStep>(plan, 0, "stage2.noise").vals == 2);
        // The other noise keeps what was measured
        CHECK(test::step_as<PoissonNoiseStep>(plan, 0, "stage1.noise").vals ==
              m.result.measured.at("stage1.noise").at("vals"));
    }

    TEST_CASE("override_parameter_: faults list what there is") {
        Json record = two_levels().record;
        const Json before = record;
        const auto fault = [&](const char* assignment) {
            return test::sentence_of([&] { override_parameter_(record, assignment); },
                                     Fault::usage);
        };
        for (const char* text : {"jpeg2_q", "=3", "jpeg2_q=", ""}) {
            CHECK(test::has(fault(text), "NAME=VALUE"));
        }
        for (const char* text : {"final.jpeg.qualty=3", "x9.final.jpeg.quality=3", "quality=3",
                                 "final.jpeg=3", "final.jpeg.quality.x=3"}) {
            CAPTURE(text);
            CHECK(test::has(fault(text), "record 0412 has no parameter"));
            CHECK(test::has(fault(text), "final.jpeg.quality"));
        }
        CHECK(record == before);
    }

    TEST_CASE("plan_from_record: each missing or wrong field names the record") {
        const Json whole = two_levels().record;
        CHECK(record_fault(whole).empty());
        for (const char* key : {"seed", "stream_id", "variant", "gt", "couple", "tier", "draws",
                                "shared", "levels"}) {
            CAPTURE(std::string(key));
            Json record = whole;
            record.erase(key);
            CHECK(test::has(record_fault(record), "record 0412"));
            CHECK(test::has(record_fault(record), key));
            if (std::string(key) == "draws") continue;  // for people; nothing is read from it
            for (const Json& wrong :
                 {Json(Json::object()), Json(true), Json("?!"), Json(nullptr)}) {
                record[key] = wrong;
                CAPTURE(wrong.dump());
                CHECK(test::has(record_fault(record), "record 0412"));
            }
        }
        for (const char* key : {"scale", "preset", "level", "lr", "draws", "steps", "back"}) {
            CAPTURE(std::string(key));
            Json record = whole;
            record["levels"][1].erase(key);
            CHECK(test::has(record_fault(record), "record 0412"));
            CHECK(test::has(record_fault(record), key));
        }
        for (const char* key : {"name", "step", "params"}) {
            Json record = whole;
            record["levels"][0]["steps"][1].erase(key);
            CHECK(test::has(record_fault(record), "record 0412"));
            CHECK(test::has(record_fault(record), key));
        }
        Json record = whole;
        record["levels"][0]["steps"][1]["step"] = "sharpen";
        CHECK(test::has(record_fault(record), "sharpen"));
        CHECK(test::has(record_fault(record), "gaussian_noise"));  // the list of the known
        record = whole;
        record["shared"][0]["params"]["radius"] = "wide";
        CHECK(test::has(record_fault(record), "radius"));
        record = whole;
        record["shared"][0]["params"]["colour"] = 1;
        CHECK(test::has(record_fault(record), "colour"));
        record = whole;
        record["levels"][0]["input"] = 1;
        CHECK(test::has(record_fault(record), "comes later"));
        record = whole;
        for (const char* id : {"12zz", "-1", "0123456789abc", ""}) {
            record["stream_id"] = id;
            CHECK(test::has(record_fault(record), "hexadecimal"));
        }
        record = whole;
        record["seed"] = -1;
        CHECK(test::has(record_fault(record), "'seed'"));
        record = whole;
        record["tier"] = "sloppy";
        CHECK(test::has(record_fault(record), "sloppy"));
        // An id that is none, or no record at all
        record = whole;
        record["id"] = 12;
        CHECK(test::has(record_fault(record), "record ?"));
        for (const Json& other :
             {Json(3), Json::array(), Json("x"), Json(nullptr), Json::object()}) {
            CHECK(test::has(record_fault(other), "record ?"));
        }
    }

    TEST_CASE("explained: a line a step with its numbers") {
        const Made m = two_levels();
        const std::string text = explained(m.record);
        CHECK(test::has(text, "GT 40 x 36, seed 3"));
        CHECK(test::has(text, "stage1"));
        std::size_t steps = m.plan.shared.size();
        for (const LevelPlan& level : m.plan.levels)
            steps += level.steps.size() + level.back.size();
        // One line first, one a level
        CHECK(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) == steps + 3);
        for (const char* level : {"  x4:\n", "  x8:\n"}) CHECK(test::has(text, level));
        CHECK(test::has(text,
                        fmt::format("quality {:.4g}",
                                    test::step_as<JpegStep>(m.plan, 0, "stage1.jpeg").quality)));
    }
}

}  // namespace
}  // namespace ultrasr
