// Resizing as the scripts of the one-step methods do it: Pillow on 8-bit pixels, torch on tensors.
#pragma once
#include <ATen/core/Tensor.h>

#include "data/image.h"
#include "models/resample.h"

namespace ultrasr {

/// Pillow's resize of an 8-bit RGB picture, bit by bit.
///
/// Weights as in resize(), then rounded to multiples of 2^-22; sums in integers. Columns first, and
/// every pass ends in 8 bits, rounded half up and clipped. An axis of equal length is left alone.
/// Three functions share the kernels and differ in what they round:
///
///     resize          models/resample.h          [0,1]  nothing: float32 between the passes
///     pillow_bicubic  metrics/pillow_resize.h    0-255  the input to levels, then nothing: FID
///     resize_8bit     here                       [0,1]  input, weights, both passes: 8 bits
///
/// image    any size >= 1 x 1; rounded to levels (half to even) if it does not hold levels k / 255
/// returns  levels k / 255, the same for any number of threads
/// throws   Error(internal) on an empty picture or target
/// Source: Pillow, Image.resize of mode RGB; one_step_models.md 2.4 step 1.
Image resize_8bit(const Image& image, PixelSize target, Kernel kernel);

/// The two bicubics of torch.nn.functional.interpolate.
enum class TorchBicubic {
    plain,      ///< Keys with a = -0.75, four taps whatever the ratio, border repeated
    antialias,  ///< a = -0.5, widened by the ratio where it shrinks, border left out: as Pillow's
};

/// interpolate(size = target, mode = "bicubic", align_corners = False), by the operator itself: bit
/// by bit what torch gives on the same machine. Values may leave the input's range.
///
/// nchw  floating, any device; differentiable. TSD-SR and the teacher of AdcSR want `plain`
at::Tensor resize_torch(const at::Tensor& nchw, PixelSize target, TorchBicubic kind);

}  // namespace ultrasr
