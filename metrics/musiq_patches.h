// How MUSIQ cuts a picture: three versions of it, patches of 32 x 32, places in a 10 x 10 grid.
// Source: metrics.md 7; Ke et al. 2021, section 3.1, with the resizing of pyiqa.
#pragma once
#include <cstdint>
#include <vector>

#include "data/base/fwd.h"
#include "data/base/geometry.h"

namespace ultrasr {

constexpr int musiq_patch = 32;  ///< side of a patch, pixels; patches do not overlap

/// The zeros that the first convolution (7 x 7, stride 2, "SAME") needs around a patch lie in the
/// patch tensor: 2 above and to the left, 3 below and to the right.
constexpr int musiq_margin = 2;
constexpr int musiq_framed_patch = musiq_patch + 5;

/// One version of the picture and its patches.
struct MusiqGrid {
    PixelSize size;   ///< of the version, pixels
    int rows = 0;     ///< of patches; they cover the version and zeros around it
    int columns = 0;  ///< patches side by side
    int top = 0;      ///< rows of zeros above the version; below it as many or one more
    int left = 0;     ///< columns of zeros to its left
};

/// picture      its size
/// longer_side  of the version, pixels: smaller pictures are enlarged; 0: the picture as it is
/// throws       Error(input) when the shorter side would vanish: sides 448 times apart
MusiqGrid musiq_grid(PixelSize picture, int longer_side);

/// The cell of the 10 x 10 grid that each patch belongs to, 10 row + column, row by row.
std::vector<std::int64_t> musiq_cells(int rows, int columns);

/// The version: cubic (a = -0.75, pixel centres aligned, no antialiasing, no clamp), or the picture
/// itself where the sizes are equal.
///
/// picture  1 x 3 x H x W, float32
at::Tensor musiq_version(const at::Tensor& picture, const MusiqGrid& grid);

/// Some rows of patches, framed by zeros.
///
/// version  1 x 3 x H x W, [0,1], of the grid's size
/// returns  (rows * columns) x 3 x 37 x 37 in channels-last order, [-1,1], zero (mid-grey) outside
///          the version
at::Tensor musiq_patches(const at::Tensor& version, const MusiqGrid& grid, int first_row, int rows);

}  // namespace ultrasr
