// A preset's own steps between those of the pipeline.
#include "degradation/extra_steps.h"

#include <string>

#include "data/base/error.h"
#include "degradation/plan.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

Json extra(const std::string& after, double probability) {
    return {{"after", after},
            {"step", "photon_noise"},
            {"probability", probability},
            {"params", {{"vals", {{"uniform", {30, 80}}}}, {"gray", true}}}};
}

Plan plan_with(const Json& steps, std::uint32_t draw) {
    const Json options{{"base", "ultra-mild"}, {"extra_steps", steps}};
    const Preset preset =
        preset_from_json(options, load_preset("ultra-mild").preset, "mine").preset;
    return make_plan({{5, 6, draw}, {64, 64}, {{4, preset}, {8, preset}}});
}

std::size_t place_of(const std::vector<NamedStep>& steps, const std::string& name) {
    for (std::size_t i = 0; i < steps.size(); ++i) {
        if (steps[i].name == name) return i;
    }
    return steps.size();
}

std::string fault_of(const Json& step) {
    try {
        ExtraStep::from_json(step, "mine: extra_steps[0]");
        return "";
    } catch (const Error& error) {
        CHECK(error.fault() != Fault::internal);
        return error.sentence();
    }
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("insert_extra_steps: behind their step, in their order, drawn from their own slots") {
        const Json both = {extra("stage1.noise", 1), extra("stage1.noise", 1)};
        const Plan with = plan_with(both, 0), without = plan_with(Json::array(), 0);
        const std::size_t noise = place_of(with.shared, "stage1.noise");
        CHECK(with.shared[noise + 1].name == "stage1.noise.extra0");
        CHECK(with.shared[noise + 2].name == "stage1.noise.extra1");
        // Nothing else moves
        CHECK(with.shared.size() == without.shared.size() + 2);
        for (const NamedStep& step : without.shared) {
            CAPTURE(step.name);
            CHECK(with.shared[place_of(with.shared, step.name)].step->params() ==
                  step.step->params());
        }
        const Json first = with.shared[noise + 1].step->params();
        CHECK(first["gray"] == true);
        CHECK(first["vals"] != with.shared[noise + 2].step->params()["vals"]);
    }

    TEST_CASE("insert_extra_steps: as often as asked, values within the range, for every level") {
        int used = 0;
        double least = 100, most = 0;
        for (std::uint32_t draw = 0; draw < 2000; ++draw) {
            const Plan plan = plan_with(Json::array({extra("final.resize", 0.3)}), draw);
            const bool here =
                place_of(plan.levels[0].steps, "final.resize.extra0") < plan.levels[0].steps.size();
            used += here;
            // couple stage1: both levels draw alike
            CHECK(here == (place_of(plan.levels[1].steps, "final.resize.extra0") <
                           plan.levels[1].steps.size()));
            if (!here) continue;
            const std::size_t at = place_of(plan.levels[0].steps, "final.resize.extra0");
            const double vals = plan.levels[0].steps[at].step->params()["vals"].get<double>();
            least = std::min(least, vals);
            most = std::max(most, vals);
        }
        CHECK(std::abs(used / 2000.0 - 0.3) < 0.04);  // four standard deviations
        CHECK(least >= 30);
        CHECK(least < 32);
        CHECK(most <= 80);
        CHECK(most > 78);
    }

    TEST_CASE("ExtraStep::from_json: every fault is told when the preset is read") {
        CHECK(fault_of(extra("stage1.noise", 0.5)).empty());
        const auto has = [](const std::string& text, const char* part) {
            CAPTURE(text);
            return text.find(part) != std::string::npos;
        };
        CHECK(has(fault_of(extra("stage3.noise", 0.5)), "no step 'stage3.noise'"));
        CHECK(has(fault_of(extra("stage1.noise", 1.5)), "probability"));
        Json step = extra("usm", 1);
        step["step"] = "photons";
        CHECK(has(fault_of(step), "unknown degradation step 'photons'"));
        step = extra("usm", 1);
        step["params"]["vals"]["uniform"] = {80, 30};
        CHECK(has(fault_of(step), "'uniform' is [low, high]"));
        step = extra("usm", 1);
        step["params"]["val"] = 3;
        CHECK(has(fault_of(step), "unknown key 'val'"));
        step = extra("usm", 1);
        step["chance"] = 1;
        CHECK(has(fault_of(step), "unknown key 'chance'"));
    }
}
