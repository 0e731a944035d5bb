// Resizing by separable kernels, as Pillow defines it for floating-point pictures.
#pragma once
#include "data/image.h"

namespace ultrasr {

enum class Kernel {
    bicubic,   ///< Keys, a = -0.5, 4 taps
    lanczos3,  ///< sinc(x) sinc(x / 3), 6 taps
};

/// The kernel at distance x, and beyond which distance it is zero; both of the unstretched kernel.
double kernel_value(Kernel kernel, double x);
double kernel_radius(Kernel kernel);

/// Resizes to any size.
///
/// Pixel centres at i + 0.5 on both grids; a shrinking axis widens the kernel by its factor
/// (antialias); taps outside the picture are left out and the rest normalised to sum 1. Columns
/// are resized first and stored as float32; weights and sums are double. An axis of equal length
/// is copied. Values may leave [0,1].
///
/// image    any size >= 1 x 1
/// throws   Error(internal) on an empty picture or target
/// Source: Pillow, Image.resize of mode F; recipe in metrics.md 5.3. Keys 1981 for the kernel.
Image resize(const Image& image, PixelSize target, Kernel kernel);

/// The same values, none outside [0,1]; NaN becomes 0.
Image clamped(const Image& image);

}  // namespace ultrasr
