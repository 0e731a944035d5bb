#include "metrics/musiq_patches.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/upsample_bicubic2d.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "data/base/error.h"

namespace ultrasr {
namespace {

constexpr int grid_cells = 10;  // a side of the grid of places

/// Python's round: halves to even.
int rounded(double x) { return static_cast<int>(std::nearbyint(x)); }

/// Nearest-neighbour resizing of 0 ... 9 to `count`: the float32 product decides beyond 204
/// patches.
int cell_of(int i, int count) {
    const float step = static_cast<float>(grid_cells) / static_cast<float>(count);
    return std::min(static_cast<int>(std::floor(static_cast<float>(i) * step)), grid_cells - 1);
}

}  // namespace

MusiqGrid musiq_grid(PixelSize picture, int longer_side) {
    MusiqGrid grid{.size = picture};
    if (longer_side > 0) {
        const double ratio =
            static_cast<double>(longer_side) / std::max(picture.width, picture.height);
        grid.size = {rounded(picture.width * ratio), rounded(picture.height * ratio)};
        require(grid.size.width > 0 && grid.size.height > 0,
                "a picture of {}x{} is too narrow for MUSIQ: at a longer side of {} its shorter "
                "one vanishes; leave the metric out or cut the picture",
                picture.width, picture.height, longer_side);
    }
    grid.rows = (grid.size.height + musiq_patch - 1) / musiq_patch;
    grid.columns = (grid.size.width + musiq_patch - 1) / musiq_patch;
    grid.top = (grid.rows * musiq_patch - grid.size.height) / 2;
    grid.left = (grid.columns * musiq_patch - grid.size.width) / 2;
    return grid;
}

std::vector<std::int64_t> musiq_cells(int rows, int columns) {
    std::vector<std::int64_t> cells;
    for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < columns; ++c) {
            cells.push_back(grid_cells * cell_of(r, rows) + cell_of(c, columns));
        }
    }
    return cells;
}

at::Tensor musiq_version(const at::Tensor& picture, const MusiqGrid& grid) {
    const auto [width, height] = grid.size;
    if (picture.size(2) == height && picture.size(3) == width) return picture;
    return at::upsample_bicubic2d(picture, {height, width}, false);
}

at::Tensor musiq_patches(const at::Tensor& version, const MusiqGrid& grid, int first_row,
                         int rows) {
    // Take the pixel rows of these patches, zeros around them where they reach over the edge
    const int y0 = first_row * musiq_patch - grid.top, y1 = y0 + rows * musiq_patch;
    const int from = std::max(y0, 0), to = std::min(y1, grid.size.height);
    const int right = grid.columns * musiq_patch - grid.left - grid.size.width;
    const at::Tensor band = at::constant_pad_nd(version[0].narrow(1, from, to - from) * 2.0 - 1.0,
                                                {grid.left, right, from - y0, y1 - to});

    // Cut them apart, into frames of zeros
    at::Tensor framed = at::zeros({rows * grid.columns, musiq_framed_patch, musiq_framed_patch, 3},
                                  version.options());
    framed.narrow(1, musiq_margin, musiq_patch)
        .narrow(2, musiq_margin, musiq_patch)
        .view({rows, grid.columns, musiq_patch, musiq_patch, 3})
        .copy_(
            band.view({3, rows, musiq_patch, grid.columns, musiq_patch}).permute({1, 3, 2, 4, 0}));
    return framed.permute({0, 3, 1, 2});
}

}  // namespace ultrasr
