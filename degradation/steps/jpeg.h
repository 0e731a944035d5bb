// JPEG artefacts: as DiffJPEG computes them in floating point, and by a real codec.
#pragma once
#include <array>

#include "degradation/steps/planar.h"

namespace ultrasr {

/// What the picture is filled up with to a multiple of 16 on its right and lower side.
enum class JpegPadding {
    zero,       ///< black, as DiffJPEG (T4): bends the colours of the last blocks
    replicate,  ///< the edge, as codecs do
};

/// Qualities above are computed as this one: at 100 the quantisation steps would be 0 and the
/// result NaN (T5). Passing the picture unchanged instead would also leave out the halving of the
/// chroma, which alone moves values by 0.2; steps of 2e-4 of the tables move noise by 1.4e-4.
constexpr double most_jpeg_quality = 99.99;

/// Quantisation tables at quality 50 in raster order, [vertical][horizontal] frequency. DiffJPEG
/// reads the luma table transposed (T3): so does this.
extern const std::array<float, 64> diff_jpeg_luma, diff_jpeg_chroma;

/// DiffJPEG: 4:2:0 by means, real-valued quantisation steps, replicated chroma, no rounding to
/// integers.
///
/// picture  3 planes, RGB in [0,1]
/// quality  above 0
/// returns  values in [0,1]
/// throws   Error(input) for another number of planes or a quality out of range
/// Source: Shin and Song 2017, by BasicSR DiffJPEG(differentiable=False); degradation.md 1.9.
Planar diff_jpeg(const Planar& picture, double quality, JpegPadding padding);

/// libjpeg-turbo: rounded to 8 bits, 4:2:0, accurate integer DCT, fancy upsampling; quality is
/// rounded and clamped to 1 ... 100.
Planar turbo_jpeg(const Planar& picture, double quality);

}  // namespace ultrasr
