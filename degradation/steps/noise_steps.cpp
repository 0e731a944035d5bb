// The steps gaussian_noise and poisson_noise.
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "degradation/json_fields.h"
#include "degradation/steps/steps.h"

namespace ultrasr {
namespace {

std::optional<Planar> given_array(const StepInputs& given, std::string_view name) {
    const auto found = given.find(name);
    if (found == given.end()) return std::nullopt;
    return found->second;
}

void check_grey(std::string_view step, std::string_view name, const std::optional<Planar>& array,
                bool gray) {
    require(!array || array->channels() == (gray ? 1 : 3),
            "{}: '{}' has {} planes; with gray {} it must have {}", step, name, array->channels(),
            gray, gray ? 1 : 3);
}

}  // namespace

FieldName FieldName::from_fields(JsonFields& fields, std::uint32_t slot_otherwise) {
    const int slot = fields.integer("field", static_cast<int>(slot_otherwise));
    const int level = fields.integer("level", 0);
    require(slot >= 0 && slot <= 0xFFFF, "'field' is a slot of 0 to 65535, not {}", slot);
    require(level >= 0 && level <= 0xFF, "'level' lies in 0 to 255, not at {}", level);
    return {static_cast<std::uint32_t>(slot), static_cast<std::uint32_t>(level)};
}

Planar GaussianNoiseStep::apply(Planar picture, StepContext& context) const {
    if (z) return gaussian_noise(picture, sigma, *z);
    if (nested_from) {
        const Planar whole = normal_field(*nested_from, gray, field.key(context.stream));
        return gaussian_noise(picture, sigma, nested_field(whole, picture.size()));
    }
    return gaussian_noise(picture, sigma, gray, field.key(context.stream));
}

Json GaussianNoiseStep::params() const {
    Json out{{"sigma", sigma}, {"gray", gray}, {"field", field.slot}, {"level", field.level}};
    if (nested_from) out["nested_from"] = {nested_from->height, nested_from->width};
    return out;
}

Planar PoissonNoiseStep::apply(Planar picture, StepContext& context) const {
    int v = vals;
    if (source == PoissonVals::shared && context.shared_vals && *context.shared_vals) {
        v = **context.shared_vals;
    } else if (source != PoissonVals::fixed) {
        const int distinct = distinct_levels(picture, gray);
        if (context.measured) (*context.measured)["distinct_levels"] = distinct;
        v = poisson_vals(distinct);
        if (source == PoissonVals::shared && context.shared_vals) *context.shared_vals = v;
    }
    if (context.measured) (*context.measured)["vals"] = v;
    if (counts) return poisson_noise(picture, scale, v, *counts);
    return poisson_noise(picture, scale, gray, v, field.key(context.stream));
}

Json PoissonNoiseStep::params() const {
    Json out{{"scale", scale}, {"gray", gray}};
    if (source == PoissonVals::fixed) {
        out["vals"] = vals;
    } else {
        out["vals"] = source == PoissonVals::shared ? "shared" : "content";
    }
    out["field"] = field.slot;
    out["level"] = field.level;
    return out;
}

extern const DegradationInfo gaussian_noise_degradation, poisson_noise_degradation;

const DegradationInfo gaussian_noise_degradation{
    .name = "gaussian_noise",
    .title = "normal noise, per channel or grey",
    .source = "Wang et al. 2021 (Real-ESRGAN), sec. 3.1; degradation.md 1.7",
    .example = R"({"sigma": 12.5, "gray": false})",
    .make = [](const Json& params, const StepInputs& given, Tier) {
        JsonFields fields(params, "gaussian_noise");
        auto step = std::make_shared<GaussianNoiseStep>();
        step->sigma = fields.number("sigma");
        step->gray = fields.flag("gray", false);
        step->field = FieldName::from_fields(fields, 128);
        if (fields.has("nested_from")) {
            step->nested_from = fields.size("nested_from");
        }
        step->z = given_array(given, "z");
        fields.done();
        require(step->sigma >= 0 && step->sigma <= 255,
                "gaussian_noise: 'sigma' lies in 0 to 255, not at {}", step->sigma);
        check_grey("gaussian_noise", "z", step->z, step->gray);
        return step;
    }};

const DegradationInfo poisson_noise_degradation{
    .name = "poisson_noise",
    .title = "shot noise, per channel or grey",
    .source = "Wang et al. 2021 (Real-ESRGAN), sec. 3.1; degradation.md 1.8",
    .example = R"({"scale": 1.5, "gray": false, "vals": "content"})",
    .make = [](const Json& params, const StepInputs& given, Tier) {
        JsonFields fields(params, "poisson_noise");
        auto step = std::make_shared<PoissonNoiseStep>();
        step->scale = fields.number("scale");
        step->gray = fields.flag("gray", false);
        if (fields.has("vals") && fields.value("vals").is_number()) {
            step->source = PoissonVals::fixed;
            step->vals = fields.integer("vals");
            require(step->vals >= 1 && step->vals <= 256 && (step->vals & (step->vals - 1)) == 0,
                    "poisson_noise: 'vals' is 1, 2, 4 ... 256, content or shared, not {}",
                    step->vals);
        } else {
            const std::string word = fields.text("vals", "content");
            require(word == "content" || word == "shared",
                    "poisson_noise: 'vals' is 1, 2, 4 ... 256, content or shared, not '{}'", word);
            step->source = word == "shared" ? PoissonVals::shared : PoissonVals::content;
        }
        step->field = FieldName::from_fields(fields, 128);
        step->counts = given_array(given, "counts");
        fields.done();
        require(step->scale >= 0 && step->scale <= 100,
                "poisson_noise: 'scale' lies in 0 to 100, not at {}", step->scale);
        check_grey("poisson_noise", "counts", step->counts, step->gray);
        return step;
    }};

}  // namespace ultrasr
