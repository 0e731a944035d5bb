// Contact sheets of a training run: the same few samples as each network sees and makes them.
#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace ultrasr {

/// One column of the sheet.
struct SampleColumn {
    std::string title;    ///< printable ASCII: "LR x8 (bicubic)", "student", "theta"
    at::Tensor pictures;  ///< N x 3 x H x W, RGB, or N x 1 x H x W, a map; any float type, device
};

/// How large the sheet's cells are.
struct SampleCells {
    int least_side = 192;  ///< of a picture on the sheet, pixels: smaller ones are enlarged
    int most_side = 512;   ///< larger ones are reduced
};

/// Writes an 8-bit RGB PNG by temporary file and rename: a row a sample, a column a kind.
///
/// Pictures are clamped to [0,1]. Maps are shown in viridis, perceptually even, from the least to
/// the greatest value of the whole column, and a bar under the title says which these are. What is
/// not finite is magenta. All cells are of one size: the largest picture's, enlarged by a whole
/// number where that is below least_side; smaller pictures are enlarged to it pixel by pixel,
/// larger ones averaged down.
///
/// columns  at least one, all of the same N >= 1; H and W may differ from column to column
/// rows     what the samples are called, drawn below each row; empty or N texts in ASCII
/// throws   Error(internal) on other shapes, Error(storage)
void write_samples(const std::filesystem::path& png, std::span<const SampleColumn> columns,
                   std::span<const std::string> rows = {}, const SampleCells& cells = {});

/// Where the top left pixel of row `row`, column `column` lies on a sheet, in pixels, and how large
/// its cells are: for tests and for those who cut a sheet up.
struct SampleLayout {
    int width = 0, height = 0;            ///< of the sheet
    int cell_width = 0, cell_height = 0;  ///< of a picture on it
    int row_height = 0;                   ///< from one row to the next
    int x(int column) const;
    int y(int row) const;
};
SampleLayout layout_of(std::span<const SampleColumn> columns, bool named_rows,
                       const SampleCells& cells = {});

}  // namespace ultrasr
