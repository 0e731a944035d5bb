// The steps jpeg, clamp and clamp_round.
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "degradation/json_fields.h"
#include "degradation/steps/jpeg_pixel.h"
#include "degradation/steps/steps.h"

namespace ultrasr {

Planar JpegStep::apply(Planar picture, StepContext& context) const {
    if (backend == JpegBackend::turbo) return turbo_jpeg(picture, quality);
    if (context.measured && quality > most_jpeg_quality) {
        (*context.measured)["quality_used"] = most_jpeg_quality;
    }
    return diff_jpeg(picture, quality, padding);
}

Json JpegStep::params() const {
    Json out{{"quality", quality}, {"backend", backend == JpegBackend::diff ? "diff" : "turbo"}};
    if (backend == JpegBackend::diff) {
        out["pad"] = padding == JpegPadding::zero ? "zero" : "replicate";
    }
    return out;
}

Planar ClampStep::apply(Planar picture, StepContext&) const {
    float* values = picture.data_();
    const auto n = static_cast<int>(picture.plane_values());
    for (int c = 0; c < picture.channels(); ++c, values += n) {
        for_each_lane(n, [&](int i, auto v) {
            using V = decltype(v);
            V value = clamp(loaded<V>(values + i), 0.0F, 1.0F);
            if (levels == Levels::rounded) {
                value = round_even(value * V(255.0F)) / V(255.0F);
            } else if (levels == Levels::truncated) {
                value = cut(value * V(255.0F)) / V(255.0F);
            }
            store(values + i, value);
        });
    }
    return picture;
}

Json ClampStep::params() const { return Json::object(); }

namespace {

StepPtr make_clamp(const Json& params, std::string name, Levels levels) {
    JsonFields(params, std::move(name)).done();
    return std::make_shared<ClampStep>(levels);
}

}  // namespace

extern const DegradationInfo jpeg_degradation, clamp_degradation, clamp_round_degradation,
    clamp_truncate_degradation;

const DegradationInfo jpeg_degradation{
    .name = "jpeg",
    .title = "JPEG artefacts by DiffJPEG's arithmetic, or by libjpeg-turbo",
    .source = "Shin and Song 2017; ITU-T T.81; degradation.md 1.9",
    .example = R"({"quality": 40, "backend": "diff", "pad": "replicate"})",
    .make = [](const Json& params, const StepInputs&, Tier) {
        JsonFields fields(params, "jpeg");
        auto step = std::make_shared<JpegStep>();
        step->quality = fields.number("quality");
        const std::string backend = fields.text("backend", "diff");
        const std::string pad = fields.text("pad", "zero");
        fields.done();
        require(step->quality > 0 && step->quality <= 100,
                "jpeg: 'quality' lies above 0 and up to 100, not at {}", step->quality);
        require(backend == "diff" || backend == "turbo",
                "jpeg: 'backend' is diff or turbo, not '{}'", backend);
        require(pad == "zero" || pad == "replicate", "jpeg: 'pad' is zero or replicate, not '{}'",
                pad);
        step->backend = backend == "diff" ? JpegBackend::diff : JpegBackend::turbo;
        step->padding = pad == "zero" ? JpegPadding::zero : JpegPadding::replicate;
        return step;
    }};

const DegradationInfo clamp_degradation{.name = "clamp",
                                        .title = "limit to [0,1]",
                                        .source = "degradation.md 1.1",
                                        .example = "{}",
                                        .make = [](const Json& params, const StepInputs&, Tier) {
                                            return make_clamp(params, "clamp", Levels::any);
                                        }};

const DegradationInfo clamp_round_degradation{
    .name = "clamp_round",
    .title = "limit to [0,1] and round to 8 bits, half to even",
    .source = "degradation.md 1.1, step 6",
    .example = "{}",
    .make = [](const Json& params, const StepInputs&, Tier) {
        return make_clamp(params, "clamp_round", Levels::rounded);
    }};

const DegradationInfo clamp_truncate_degradation{
    .name = "clamp_truncate",
    .title = "limit to [0,1] and cut to 8 bits",
    .source = "degradation.md T16; Chen et al. 2022 (FeMaSR)",
    .example = "{}",
    .make = [](const Json& params, const StepInputs&, Tier) {
        return make_clamp(params, "clamp_truncate", Levels::truncated);
    }};

}  // namespace ultrasr
