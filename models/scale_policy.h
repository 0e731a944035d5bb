// How a network of fixed scale reaches any size.
#pragma once
#include <functional>
#include <string>

#include "models/method.h"

namespace ultrasr {

/// "post", "pre", "cascade".
std::string policy_name(ScalePolicy policy);

/// How each policy rounds to 8 bit, for Provenance.
std::string policy_rounding(ScalePolicy policy);

/// Restores to exactly `target` by a network of fixed scale.
///
/// post     network; clamp, 8 bit half to even; where the size differs, OpenCV's 8-bit Lanczos4
///          (no antialias) to the target: what the released program does for -s 8
/// pre      bicubic to ceil(target / s), clamped; network; clamped; where the size differs,
///          antialiased bicubic to the target; 8 bit half to even
/// cascade  network; clamp, 8 bit, as if written and read again; network; then as in pre
///
/// The last resize always goes to the target itself, never to s LR and a crop. A policy that needs
/// no resize is the network and its rounding.
///
/// network  one pass: any picture to s times its size, not clamped
/// returns  target in size, 8-bit levels k / 255
/// Source: peer_methods.md 1.4 (8, 10, 11) and 1.5; bicubic is resize() of models/resample.h.
Image restore_by_policy(const Image& lr, PixelSize target, ScalePolicy policy, int network_scale,
                        const std::function<Image(const Image&)>& network);

/// OpenCV's INTER_LANCZOS4 on 8-bit pixels. image: levels k / 255. returns: levels k / 255.
Image resize_8bit_lanczos4(const Image& image, PixelSize target);

}  // namespace ultrasr
