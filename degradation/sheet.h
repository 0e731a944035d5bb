// Contact sheets: GT beside its levels, captions from the records.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/base/json.h"

namespace ultrasr {

struct SheetOptions {
    std::vector<std::filesystem::path> source;  ///< folders of results; equal ids share a block
    std::filesystem::path out;                  ///< PNG
    int count = 4;                              ///< GT pictures
    std::vector<std::string> ids;               ///< only these records; empty = the first
    int side = 256;                             ///< of a picture on the sheet, pixels
};

/// Draws the sheet: a row a GT picture and folder, GT first, then the LR of each level enlarged
/// pixel by pixel, under each what was done to it.
///
/// returns  {pictures, out, width, height}
/// throws   Error(input) when a folder holds no records or lacks the pictures; Error(storage)
Json contact_sheet(const SheetOptions& options);

}  // namespace ultrasr
