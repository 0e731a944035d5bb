#include "degradation/extra_steps.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "data/base/error.h"
#include "degradation/draws.h"
#include "degradation/json_fields.h"
#include "degradation/plan.h"

namespace ultrasr {
namespace {

/// Where a step can be put behind; BSRGAN's family names its own "op0.blur" ... "op22.jpeg".
constexpr std::array places{"usm",           "stage1.blur", "stage1.resize", "stage1.noise",
                            "stage1.jpeg",   "stage2.blur", "stage2.resize", "stage2.noise",
                            "final.resize",  "final.blur",  "final.clamp",   "final.jpeg",
                            "final.quantise"};

void check_place(const std::string& after, const std::string& what) {
    if (after.starts_with("op") || std::find(places.begin(), places.end(), after) != places.end()) {
        return;
    }
    std::string known;
    for (const char* place : places) known += (known.empty() ? "" : ", ") + std::string(place);
    fail(Fault::input, "{}: no step '{}' to come after; known: {}, op0.blur ...", what, after,
         known);
}

bool is_drawn(const Json& value) { return value.is_object() && value.contains("uniform"); }

Range range_of(const Json& value, const std::string& what) {
    JsonFields fields(value, what);
    const std::vector<double> ends = fields.numbers("uniform");
    fields.done();
    require(ends.size() == 2 && ends[0] <= ends[1], "{}: 'uniform' is [low, high], not {}", what,
            dump_json_line(value["uniform"]));
    return {ends[0], ends[1]};
}

/// The middle of every range: what the step is tried with when the preset is read.
Json middle_params(const ExtraStep& extra, const std::string& what) {
    Json params = extra.params;
    for (auto& [key, value] : params.items()) {
        if (!is_drawn(value)) continue;
        const Range range = range_of(value, what + ": '" + key + "'");
        value = (range.low + range.high) / 2;
    }
    return params;
}

}  // namespace

Json ExtraStep::json() const {
    return {{"after", after}, {"step", step}, {"probability", probability}, {"params", params}};
}

ExtraStep ExtraStep::from_json(const Json& json, const std::string& what) {
    JsonFields fields(json, what);
    ExtraStep extra;
    extra.after = fields.text("after");
    extra.step = fields.text("step");
    extra.probability = fields.number("probability", 1);
    if (fields.has("params")) extra.params = fields.value("params");
    fields.done();
    check_place(extra.after, what);
    require(extra.probability >= 0 && extra.probability <= 1,
            "{}: 'probability' lies in [0,1], not at {}", what, extra.probability);
    require(extra.params.is_object(), "{}: 'params' is an object of names and values", what);
    require(extra.params.size() < 16, "{}: 'params' has more than 15 entries", what);
    while_doing(what, [&] { named_step("", extra.step, middle_params(extra, what), Tier{}); });
    return extra;
}

void insert_extra_steps(Draws& draws, const std::vector<ExtraStep>& extra, Tier tier,
                        std::vector<NamedStep>& steps) {
    // From the last to the first, so that those of one place end in their order
    for (std::size_t i = extra.size(); i-- > 0;) {
        const auto place = std::find_if(steps.begin(), steps.end(), [&](const NamedStep& step) {
            return step.name == extra[i].after;
        });
        if (place == steps.end()) continue;
        std::uint32_t slot_number = slot::extra + 16 * static_cast<std::uint32_t>(i);
        const std::string name = fmt::format("{}.extra{}", extra[i].after, i);
        if (!draws.chance(slot_number++, name + ".used", extra[i].probability)) continue;
        Json params = extra[i].params;
        for (auto& [key, value] : params.items()) {
            if (is_drawn(value)) {
                value = draws.uniform(slot_number, name + "." + key, range_of(value, name));
            }
            ++slot_number;
        }
        steps.insert(place + 1, named_step(name, extra[i].step, params, tier));
    }
}

}  // namespace ultrasr
