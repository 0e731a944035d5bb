// The steps usm and blur.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "degradation/json_fields.h"
#include "degradation/steps/steps.h"

namespace ultrasr {

Planar UsmStep::apply(Planar picture, StepContext&) const { return usm_sharpen(picture, options); }

Json UsmStep::params() const {
    return {
        {"weight", options.weight}, {"radius", options.radius}, {"threshold", options.threshold}};
}

Planar BlurStep::apply(Planar picture, StepContext& context) const {
    if (context.measured && !given) {
        (*context.measured)["kernel_hash"] = fmt::format("{:016x}", kernel.hash());
    }
    return kernel.is_pulse() ? std::move(picture) : blur(picture, kernel);
}

Json BlurStep::params() const {
    if (given) return Json::object();
    return {{"kernel", spec.json()}};
}

extern const DegradationInfo usm_degradation, blur_degradation;

const DegradationInfo usm_degradation{
    .name = "usm",
    .title = "unsharp masking with a soft edge mask",
    .source = "Wang et al. 2021 (Real-ESRGAN), sec. 4.1; BasicSR USMSharp",
    .example = R"({"weight": 0.5, "radius": 50, "threshold": 10})",
    .make = [](const Json& params, const StepInputs&, Tier) {
        JsonFields fields(params, "usm");
        UsmOptions options;
        options.weight = fields.number("weight", options.weight);
        options.radius = fields.integer("radius", options.radius);
        options.threshold = fields.number("threshold", options.threshold);
        fields.done();
        usm_taps(options.radius);  // refuses a radius out of range
        return std::make_shared<UsmStep>(options);
    }};

const DegradationInfo blur_degradation{
    .name = "blur",
    .title = "correlation with a drawn kernel, edges reflected",
    .source = "Wang et al. 2021 (Real-ESRGAN), sec. 3.1; BasicSR filter2D",
    .example = R"({"kernel": {"type": "aniso", "size": 13, "sigma_x": 2.0, "sigma_y": 0.7,
                              "rotation": 0.5}})",
    .make = [](const Json& params, const StepInputs& given, Tier tier) -> StepPtr {
        JsonFields fields(params, "blur");
        const auto kernel = given.find("kernel");
        if (kernel == given.end()) {
            const KernelSpec spec = KernelSpec::from_json(fields.value("kernel"));
            fields.done();
            return std::make_shared<BlurStep>(spec, tier);
        }
        fields.done();
        const Planar& k = kernel->second;
        require(k.width() == k.height() && k.channels() == 1,
                "blur: the kernel is {} x {} x {}; it must be one square with an odd side",
                k.channels(), k.height(), k.width());
        return std::make_shared<BlurStep>(
            make_kernel(k.width(), {k.data(), k.data() + k.values()}, tier));
    }};

}  // namespace ultrasr
