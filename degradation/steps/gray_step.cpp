// The step grayscale.
#include <nlohmann/json.hpp>

#include "degradation/degradation.h"
#include "degradation/json_fields.h"
#include "degradation/steps/noise_pixel.h"

namespace ultrasr {
namespace {

struct GrayscaleStep : Step {
    Planar apply(Planar picture, StepContext&) const override {
        float *r = picture.plane_(0), *g = picture.plane_(1), *b = picture.plane_(2);
        for (std::size_t i = 0; i < picture.plane_values(); ++i) {
            r[i] = g[i] = b[i] = grey_of(r[i], g[i], b[i]);
        }
        return picture;
    }
    Json params() const override { return Json::object(); }
};

}  // namespace

extern const DegradationInfo grayscale_degradation;

const DegradationInfo grayscale_degradation{
    .name = "grayscale",
    .title = "BT.601 luma in all three channels",
    .source = "degradation.md 1.8 and 6",
    .example = "{}",
    .make = [](const Json& params, const StepInputs&, Tier) {
        JsonFields(params, "grayscale").done();
        return std::make_shared<GrayscaleStep>();
    }};

}  // namespace ultrasr
