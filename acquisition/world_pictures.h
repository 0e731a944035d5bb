// Where simulated worlds come from: photographs, or dead leaves without any.
#pragma once
#include <cstdint>
#include <filesystem>
#include <vector>

#include "acquisition/simulated_world.h"

namespace ultrasr {

/// What a scene's cameras can see, LR px about the wide camera's axis.
struct WorldExtent {
    WorldRect frame;      ///< the wide frame with its distortion
    WorldRect detail;     ///< all that any tele frame shows, its pan and roll included
    WorldRect centre;     ///< 1.13 times the largest footprint: the central picture
    double finest = 1.0;  ///< HR px per LR px of the longest tele frame
};

/// A mosaic: the first photograph fills `centre`, the other eight lie around it as far as `frame`
/// reaches; each is cut to its cell's shape.
///
/// photographs  nine files, PNG or JPEG
/// throws       Error(input) when one is broken or smaller than 64 pixels
SimulatedWorld photo_world(const WorldExtent& extent,
                           const std::vector<std::filesystem::path>& photographs);

/// Dead leaves: opaque discs, ellipses and bars of all sizes from 0.15 to 150 LR px (density of
/// radii r^-3, the law of natural pictures), one over the other, with shading, grain and stripes;
/// here crowded, there sparse. Every leaf is a function of (seed, its cell), so that the coarse
/// picture of the frame and the fine one of `detail` show the same leaves.
///
/// Source: Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001 (the r^-3 law).
SimulatedWorld dead_leaves_world(const WorldExtent& extent, std::uint64_t seed);

}  // namespace ultrasr
