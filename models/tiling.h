// A large picture through a network piece by piece.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>

#include "models/upscale_net.h"

namespace ultrasr {

struct TileOptions {
    int tile = 0;  ///< LR pixels a side; 0 = the whole picture at once
    int pad = -1;  ///< real pixels around a tile, where the picture has them; -1 = receptive radius
};

/// Grows both sides to multiples at the bottom and the right: by reflection, or by repetition of
/// the last pixel where the picture is too small to reflect. rgb: N x C x H x W.
at::Tensor pad_to_multiple(const at::Tensor& rgb, std::int64_t multiple);

/// Calls work(); lack of memory, on a CPU or a GPU, becomes Error(device) with that sentence.
at::Tensor within_memory(const std::function<at::Tensor()>& work,
                         const std::function<std::string()>& sentence);

/// Runs the network over the picture, whole or in tiles, and joins the cores of the tiles.
///
/// rgb      1 x 3 x H x W, float32, [0,1], CPU; any H, W >= 1. Sides that are no multiples of
///          net.multiple() grow at the bottom and right by reflection (by repetition of the last
///          pixel where the picture is too small to reflect) and are cut again; tile and pad are
///          rounded up to such multiples
/// returns  1 x 3 x sH x sW, float32, CPU, not clamped. With a pad of at least the receptive radius
///          equal to the whole run up to float rounding
/// throws   Error(device) when memory runs out (says to use smaller tiles), Interrupted between
/// tiles Source: Real-ESRGAN's tile mode, peer_methods.md 1.4 steps 5 to 7.
at::Tensor run_tiled(const UpscaleNet& net, const at::Tensor& rgb, const TileOptions& options = {});

}  // namespace ultrasr
