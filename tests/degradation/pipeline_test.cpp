// run_plan: what runs on what, who watches, and pictures that are refused.
#include <limits>
#include <map>

#include "degradation/pipeline.h"
#include "tests/degradation/plans.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

using test::preset;

Plan plan_of(std::vector<LevelRequest> levels, Couple couple = Couple::stage1,
             std::uint64_t id = 5) {
    return make_plan({.stream = {.seed = 6, .id = id},
                      .gt = {48, 40},
                      .levels = std::move(levels),
                      .couple = couple});
}

const Planar& picture() {
    static const Planar gt = test::noise_picture(3, 40, 48, 12);
    return gt;
}

/// One step after the other, nothing shared between levels.
Planar in_turn(const std::vector<NamedStep>& steps, Planar on, const Stream& stream) {
    StepContext context{stream, nullptr, nullptr};
    for (const NamedStep& step : steps) on = step.step->apply(std::move(on), context);
    return on;
}

TEST_SUITE("unit") {
    TEST_CASE("run_plan: every level is its steps in turn on the shared ones' end") {
        // Vals that come from each picture, so that steps know of nothing else
        for (const Couple couple : {Couple::stage1, Couple::comonotone, Couple::params,
                                    Couple::independent, Couple::cascade}) {
            CAPTURE(couple_name(couple));
            for (std::uint64_t id = 0; id < 6; ++id) {
                const Plan plan = plan_of({{2, preset("seesr")}, {4, preset("seesr")}}, couple, id);
                const Degraded out = run_plan(plan, picture());
                REQUIRE(out.levels.size() == 2);
                CHECK(test::same_bytes(out.gt_usm, in_turn({plan.shared[0]}, picture(), {})));
                const Planar trunk = in_turn(plan.shared, picture(), plan.stream);
                for (std::size_t i = 0; i < 2; ++i) {
                    const LevelPlan& level = plan.levels[i];
                    const bool chained = couple == Couple::cascade && i == 1;
                    const Planar lr =
                        in_turn(level.steps, chained ? out.levels[0].lr : trunk, plan.stream);
                    CHECK(test::same_bytes(out.levels[i].lr, lr));
                    CHECK(out.levels[i].lr.size() == level.lr);
                    CHECK(test::same_bytes(out.levels[i].lr_up,
                                           in_turn(level.back, lr, plan.stream)));
                    CHECK(out.levels[i].lr_up.size() == plan.gt);
                }
            }
        }
        // Without USM and without a way back
        const Degraded plain = run_plan(plan_of({{4, preset("adcsr")}}), picture());
        CHECK(plain.gt_usm.empty());
        CHECK(plain.levels[0].lr_up.empty());
    }

    TEST_CASE("run_plan: the picture itself stays as it is") {
        Planar gt = picture();
        run_plan(plan_of({{2, preset("realesrgan")}, {4, preset("realesrgan")}}), gt);
        run_plan(plan_of({{4, preset("bsrgan-plus")}, {2, preset("bsrgan")}}), gt);
        CHECK(test::same_bytes(gt, picture()));
    }

    TEST_CASE("run_plan: a watch sees every step by its name, in order, as it is handed on") {
        const Plan plan =
            plan_of({{4, preset("seesr")}, {8, preset("seesr")}, {4, preset("seesr")}});
        std::vector<std::string> expected;
        for (const NamedStep& step : plan.shared) expected.push_back(step.name);
        for (const auto& [i, prefix] : {std::pair{0U, "x4."}, {1U, "x8."}, {2U, "x4b."}}) {
            for (const auto* steps : {&plan.levels[i].steps, &plan.levels[i].back}) {
                for (const NamedStep& step : *steps) expected.push_back(prefix + step.name);
            }
        }
        CHECK(expected.front() == "usm");
        std::vector<std::string> names;
        std::map<std::string, Planar> seen;
        const Degraded out =
            run_plan(plan, picture(), [&](const std::string& name, const Planar& p) {
                names.push_back(name);
                seen[name] = p;
            });
        CHECK(names == expected);
        CHECK(test::same_bytes(seen["usm"], out.gt_usm));
        CHECK(test::same_bytes(seen["x8.final.quantise"], out.levels[1].lr));
        CHECK(test::same_bytes(seen["x4b.back.clamp"], out.levels[2].lr_up));
        // Watched or not, the same bytes
        const Degraded unwatched = run_plan(plan, picture());
        for (std::size_t i = 0; i < 3; ++i) {
            CHECK(test::same_bytes(out.levels[i].lr, unwatched.levels[i].lr));
        }
    }

    TEST_CASE("level_name: the scale, with a letter for its twins") {
        const Plan plan = plan_of({{8, preset("adcsr")},
                                   {8, preset("adcsr")},
                                   {14, preset("adcsr")},
                                   {8, preset("adcsr")},
                                   {8, preset("adcsr")}});
        std::vector<std::string> names;
        for (const LevelPlan& level : plan.levels) names.push_back(level_name(level));
        CHECK(names == std::vector<std::string>{"x8", "x8b", "x14", "x8c", "x8d"});
    }

    TEST_CASE("run_plan: values that are not finite, and other sizes, are refused") {
        const Plan plan = plan_of({{4, preset("osediff")}});
        const auto fault = [&](const Planar& gt) {
            return test::sentence_of([&] { run_plan(plan, gt); });
        };
        CHECK(fault(picture()).empty());
        for (const float bad :
             {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
              std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
            for (const std::size_t at :
                 {std::size_t{0}, std::size_t{2345}, picture().values() - 1}) {
                Planar gt = picture();
                gt.data_()[at] = bad;
                CHECK(test::has(fault(gt), "not finite"));
            }
        }
        // Two infinities of opposite signs do not cancel out
        Planar both = picture();
        both.data_()[1] = INFINITY;
        both.data_()[2] = -INFINITY;
        CHECK(test::has(fault(both), "not finite"));
        // Finite ones beyond [0,1] are no reason
        Planar wide = picture();
        wide.data_()[7] = 3;
        wide.data_()[8] = -1e30F;
        CHECK(fault(wide).empty());
        CHECK(test::has(fault(test::noise_picture(3, 48, 40, 1)), "48 x 40"));
        CHECK(test::has(fault(test::noise_picture(1, 40, 48, 1)), "1 planes"));
        CHECK(test::has(fault(test::noise_picture(3, 40, 49, 1)), "49 x 40"));
    }

    TEST_CASE("T7 shared: every level draws with the mildest one's vals, measured once") {
        Preset p = preset("ultra-severe");
        p.stage1.gaussian_noise_prob = p.stage2.gaussian_noise_prob = 0;
        // Few pixels at x14 have few levels, unless they take those of x2
        Preset content = p, named = p;
        content.poisson_vals = PoissonVals::content;
        named.name = "as p, but not shared";
        int differ = 0;
        for (std::uint64_t id = 0; id < 20; ++id) {
            for (const bool apart : {false, true}) {
                const Plan plan = plan_of({{2, p}, {12, apart ? named : p}}, Couple::stage1, id);
                const Degraded out = run_plan(plan, picture());
                const Json& mild = out.levels[0].measured.at("stage2.noise");
                const Json& severe = out.levels[1].measured.at("stage2.noise");
                REQUIRE(severe.at("vals") == mild.at("vals"));
                REQUIRE(mild.contains("distinct_levels"));
                REQUIRE_FALSE(severe.contains("distinct_levels"));
                // Stage 1 has vals of its own, whether it is computed once or for each level
                const Json& stage1 =
                    (apart ? out.levels[1].measured : out.measured).at("stage1.noise");
                REQUIRE(stage1.contains("distinct_levels"));
            }
            const Degraded own =
                run_plan(plan_of({{2, content}, {12, content}}, Couple::stage1, id), picture());
            const auto vals = [&](std::size_t i) {
                return own.levels[i].measured.at("stage2.noise").at("vals").get<int>();
            };
            differ += vals(0) != vals(1);
        }
        CHECK(differ > 5);
    }

    TEST_CASE("T7 shared: unrelated levels take their own content all the same") {
        Preset p = preset("ultra-severe");
        p.stage2.gaussian_noise_prob = 0;
        for (const auto& [how, shared] : {std::pair{Couple::stage1, true},
                                          {Couple::comonotone, true},
                                          {Couple::params, true},
                                          {Couple::independent, false},
                                          {Couple::cascade, false}}) {
            CAPTURE(couple_name(how));
            const Plan plan = plan_of({{2, p}, {12, p}}, how);
            const Degraded out = run_plan(plan, picture());
            for (std::size_t i = 0; i < 2; ++i) {
                const auto& noise = test::step_as<PoissonNoiseStep>(plan, i, "stage2.noise");
                CHECK(noise.source == (shared ? PoissonVals::shared : PoissonVals::content));
                const bool measured =
                    out.levels[i].measured.at("stage2.noise").contains("distinct_levels");
                CHECK(measured == (i == 0 || !shared));
            }
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE("run_plan: every preset gives LR in [0,1] of its size, the same bytes twice") {
        for (const Preset& p : presets()) {
            CAPTURE(p.name);
            for (std::uint64_t id = 0; id < 5; ++id) {
                const Plan plan = plan_of({{4, p}, {3, p}}, Couple::independent, id);
                const Degraded out = run_plan(plan, picture());
                const Degraded again = run_plan(plan, picture());
                for (std::size_t i = 0; i < 2; ++i) {
                    const Planar& lr = out.levels[i].lr;
                    REQUIRE(lr.size() == plan.levels[i].lr);
                    REQUIRE(std::all_of(lr.data(), lr.data() + lr.values(),
                                        [](float v) { return v >= 0 && v <= 1; }));
                    REQUIRE(test::same_bytes(lr, again.levels[i].lr));
                }
            }
        }
    }
}

}  // namespace
}  // namespace ultrasr
