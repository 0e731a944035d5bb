// A picture for a paper: the same crop of LR, every method and HR, side by side.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/base/geometry.h"
#include "data/image.h"

namespace ultrasr {

struct FigureOptions {
    std::filesystem::path results;  ///< folder with a results.json
    std::string image;              ///< a picture's name, with or without extension
    std::string set;  ///< "realsr" or "realsr-x4"; empty: the first that has the picture
    std::optional<PixelRect> box;   ///< HR pixels; none: the most textured part
    PixelSize box_size{128, 96};    ///< of that part
    std::vector<std::string> data;  ///< the sets, to show LR and HR; may be empty
};

/// Draws the crops with the methods' names and the picture's first score below them, in the order
/// of the results; at most six in a row.
///
/// returns  an sRGB picture
/// throws   Error(input) when no run has the picture (lists some that are there) or the box is not
///          inside it
Image draw_figure(const FigureOptions& options);

}  // namespace ultrasr
