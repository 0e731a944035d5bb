// The steps resize_size and resize_scale_factor.
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "degradation/json_fields.h"
#include "degradation/steps/steps.h"

namespace ultrasr {
namespace {

std::shared_ptr<ResizeStep> common_fields(JsonFields& fields) {
    auto step = std::make_shared<ResizeStep>();
    step->mode = resize_mode(fields.text("mode"));
    step->antialias = fields.flag("antialias", false);
    return step;
}

}  // namespace

AxisSampling ResizeStep::rows(int n) const {
    return ratio ? sampling_by(n, *ratio, mode) : sampling_to(n, size.height);
}
AxisSampling ResizeStep::columns(int n) const {
    return ratio ? sampling_by(n, *ratio, mode) : sampling_to(n, size.width);
}

Planar ResizeStep::apply(Planar picture, StepContext&) const {
    const AxisSampling down = rows(picture.height()), across = columns(picture.width());
    if (down.copy && across.copy) return picture;
    return resize(picture, down, across, mode, antialias);
}

Json ResizeStep::params() const {
    Json out{{"mode", resize_mode_name(mode)}};
    if (ratio) {
        out["ratio"] = *ratio;
    } else {
        out["size"] = {size.height, size.width};
    }
    out["antialias"] = antialias;
    return out;
}

extern const DegradationInfo resize_size_degradation, resize_scale_factor_degradation;

const DegradationInfo resize_size_degradation{
    .name = "resize_size",
    .title = "resize to a size, the whole of the input onto the whole of the output",
    .source = "PyTorch interpolate(size=...); degradation.md 1.6",
    .example = R"({"mode": "bilinear", "size": [20, 24], "antialias": false})",
    .make = [](const Json& params, const StepInputs&, Tier) {
        JsonFields fields(params, "resize_size");
        const auto step = common_fields(fields);
        step->size = fields.size("size");
        fields.done();
        return step;
    }};

const DegradationInfo resize_scale_factor_degradation{
    .name = "resize_scale_factor",
    .title = "resize by a factor; a part of the last pixel may be lost (T1)",
    .source = "PyTorch interpolate(scale_factor=...); degradation.md T1, 1.6",
    .example = R"({"mode": "bicubic", "ratio": 0.63, "antialias": false})",
    .make = [](const Json& params, const StepInputs&, Tier) {
        JsonFields fields(params, "resize_scale_factor");
        const auto step = common_fields(fields);
        step->ratio = fields.number("ratio");
        fields.done();
        require(*step->ratio > 0 && *step->ratio <= 64,
                "resize_scale_factor: 'ratio' lies above 0 and up to 64, not at {}", *step->ratio);
        return step;
    }};

}  // namespace ultrasr
