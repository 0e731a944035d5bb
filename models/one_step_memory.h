// How much memory a picture takes, asked before it is taken.
#pragma once
#include <cstdint>
#include <string>

#include "data/tensor/device.h"
#include "models/latent_tiles.h"
#include "models/one_step.h"

namespace ultrasr {

/// Bytes that this process may still take: of the machine's free memory, its control group's limit
/// and its own address-space limit the smallest. On a GPU what the driver says is free.
std::int64_t free_memory(const Placement& placement);

/// What one picture takes beside the weights, from the sizes of the maps that exist at once.
struct OneStepMemory {
    std::int64_t vae = 0;   ///< bytes at the height of encoding or decoding
    std::int64_t unet = 0;  ///< bytes of one call of the UNet
    std::int64_t largest() const { return vae > unet ? vae : unet; }
};

/// height, width  of the picture as it enters the networks
OneStepMemory one_step_memory(const OneStepModel& model, std::int64_t height, std::int64_t width,
                              const LatentTileOptions& tiles, const Placement& placement);

/// throws Error(device) with too_little_memory() when the picture takes more than is free
///
/// most_gib  a limit of the user's; 0: none
void check_memory(const OneStepModel& model, std::int64_t height, std::int64_t width,
                  const LatentTileOptions& tiles, const Placement& placement, double most_gib);

/// What was needed, what there is, and which tile size or precision would fit.
std::string too_little_memory(const OneStepModel& model, std::int64_t height, std::int64_t width,
                              const LatentTileOptions& tiles, const Placement& placement,
                              double most_gib);

}  // namespace ultrasr
