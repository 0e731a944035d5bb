// A large latent through a network tile by tile, overlapping tiles blended by Gaussian weights.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace ultrasr {

/// Where the Gaussian of a tile of n latents has its peak.
enum class GaussianCentre {
    symmetric,  ///< (n - 1) / 2 on both axes
    official,   ///< (n - 1) / 2 along x, n / 2 along y: OSEDiff, StableSR
};

/// In latents (8 x 8 pixels each).
struct LatentTileOptions {
    std::int64_t tile = 96;  ///< side; 0 = everything at once
    std::int64_t overlap = 32;
    GaussianCentre centre = GaussianCentre::symmetric;
    std::int64_t batch = 1;  ///< tiles in one call of the network
};

/// Square tiles that cover h x w latents: every pair of a y and an x is a tile's corner.
struct LatentTilePlan {
    std::int64_t side = 0;
    std::vector<std::int64_t> ys, xs;
};

/// Tiles a stride of (tile - overlap) apart, the last of each axis flush with the border. The tile
/// shrinks to min(tile, h, w). Then an overlap that leaves it no stride becomes half a tile, and
/// with `symmetric` so does any larger than that (the official rule would creep along narrow
/// pictures).
///
/// throws Error(usage) unless 0 < tile and 0 <= overlap < tile
LatentTilePlan plan_latent_tiles(std::int64_t h, std::int64_t w, const LatentTileOptions& options);

/// exp(-((y - y0)^2 + (x - x0)^2) / (2 * 0.01 side^2)); its constant factor cancels when blended.
///
/// returns  side x side, float32, CPU
/// Source: one_step_models.md 2.4 step 4.
at::Tensor gaussian_tile_weights(std::int64_t side, GaussianCentre centre);

/// The network's prediction of the whole latent: sum(w pred) / sum(w) over the tiles, in float32;
/// in one piece where tile = 0 or h w <= tile^2.
///
/// z        N x C x h x w, any device
/// predict  k N x C x side x side -> k N x C' x side x side, any floating type; k <= batch tiles
/// one
///          after the other, each with its N latents
/// returns  N x C' x h x w, float32. Does not depend on batch as far as predict does not
/// throws   Error(usage) on impossible options, Error(internal) where predict changes a side,
///          Interrupted between calls
at::Tensor predict_tiled(const at::Tensor& z, const LatentTileOptions& options,
                         const std::function<at::Tensor(const at::Tensor& tiles)>& predict);

}  // namespace ultrasr
