// The list of all degradation steps: a name to declare, the same name to enter.
#include <array>

#include "data/base/error.h"
#include "degradation/degradation.h"

namespace ultrasr {

extern const DegradationInfo usm_degradation, blur_degradation, resize_size_degradation,
    resize_scale_factor_degradation, gaussian_noise_degradation, poisson_noise_degradation,
    jpeg_degradation, clamp_degradation, clamp_round_degradation, clamp_truncate_degradation,
    grayscale_degradation, mixed_noise_degradation, photon_noise_degradation,
    shifted_downsample_degradation;

std::span<const DegradationInfo* const> degradations() {
    static const std::array all{
        &usm_degradation,
        &blur_degradation,
        &resize_size_degradation,
        &resize_scale_factor_degradation,
        &gaussian_noise_degradation,
        &poisson_noise_degradation,
        &jpeg_degradation,
        &clamp_degradation,
        &clamp_round_degradation,
        &clamp_truncate_degradation,
        &grayscale_degradation,
        &mixed_noise_degradation,
        &photon_noise_degradation,
        &shifted_downsample_degradation,
    };
    return all;
}

const DegradationInfo& degradation(std::string_view name) {
    std::string known;
    for (const DegradationInfo* info : degradations()) {
        if (info->name == name) return *info;
        known += known.empty() ? "" : ", ";
        known += info->name;
    }
    fail(Fault::usage, "unknown degradation step '{}'; known: {}", name, known);
}

}  // namespace ultrasr
