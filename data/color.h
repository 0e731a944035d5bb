// sRGB's transfer curve (IEC 61966-2-1), tables where pictures are large.
#pragma once
#include <cstdint>
#include <opencv2/core/mat.hpp>

#include "data/frame.h"

namespace ultrasr {

/// Light of an sRGB-encoded value and back, [0,1] to [0,1], in double precision.
double srgb_to_linear(double encoded);
double linear_to_srgb(double light);

/// The 256 (8 bits) or 65536 (16 bits) values of a frame's sample as linear light.
const float* linear_levels_8bit();

/// Encodes one linear value, clamped to [0,1]: within 1e-6 of linear_to_srgb.
float encode_srgb(float light);

/// Linear CV_32FC3 to sRGB-encoded CV_8UC3 (bits 8) or CV_16UC3 (bits 16), rounded once.
cv::Mat encode_srgb(const cv::Mat& linear, int bits);

/// A part of a frame as linear light, CV_32FC3.
cv::Mat linear_part(const Frame& frame, const PixelRect& area);

/// The same part sRGB-encoded as integers: an 8-bit sRGB frame's own bytes when bits is 8.
cv::Mat encoded_part(const Frame& frame, const PixelRect& area, int bits);

}  // namespace ultrasr
