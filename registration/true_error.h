// How far an estimated map is from the truth of a simulated pair.
#pragma once
#include "acquisition/truth.h"
#include "registration/camera_map.h"

namespace ultrasr {

/// A place of a frame that was turned clockwise by `degrees` (0, 90, 180, 270), in the frame as
/// decoded. Pixel centres at whole numbers.
PixelPoint as_decoded(PixelPoint turned, PixelSize decoded, int degrees);

/// RMS distance over the 13 x 9 grid of `crop`, LR px: tele distance over the true scale.
double true_error(const PairTruth& truth, const CameraMap& map, const PixelRect& crop,
                  int turned = 0);

}  // namespace ultrasr
