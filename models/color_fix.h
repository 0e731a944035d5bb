// Gives a restored picture the colours of the picture it was made from.
#pragma once
#include "data/image.h"

namespace ultrasr {

enum class ColorFix {
    none,
    adain,    ///< mean and spread of every channel
    wavelet,  ///< everything coarser than five dilated blurs
};

/// The restored picture with the reference's colours, clamped to [0,1] (NaN becomes 0).
///
/// adain    per channel (x - mu) / sigma * sigma_ref + mu_ref, sigma = sqrt(unbiased variance +
///          1e-5); the variance of a single pixel counts as 0. Statistics in double
/// wavelet  sr + low(reference - sr), where low is five blurs, at level i a depthwise 3 x 3
///          [1 2 1; 2 4 2; 1 2 1] / 16 with distance and replicated border 2^i. That is the
///          published high(sr) + low(reference): the details of a picture are what its last blur
///          lacks, and a blur is linear; only float32 rounding differs
/// none     sr, clamped
///
/// sr, reference  [0,1], any size >= 1 x 1; wavelet wants them of equal size
/// returns  of sr's size; the same bits for any number of threads
/// throws   Error(internal) where one is empty or the wavelet's sizes differ
/// Source: one_step_models.md 2.4; Huang and Belongie 2017 (AdaIN); StableSR for the use of both.
Image color_fix(const Image& sr, const Image& reference, ColorFix how);

/// floor(255 v) / 255: OSEDiff writes 8 bits so before and after the fix, as torchvision's
/// to_pil_image does. Levels k / 255 stay what they are.
inline Image truncated_8bit(const Image& image) { return quantise_8bit(image, Rounding::truncate); }

}  // namespace ultrasr
