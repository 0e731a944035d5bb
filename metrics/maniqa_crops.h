// Where MANIQA looks at a picture: twenty crops of 224 x 224 pixels, by three rules.
#pragma once
#include <compare>
#include <span>
#include <vector>

#include "data/base/geometry.h"
#include "metrics/metric.h"

namespace ultrasr {

constexpr int maniqa_crop_side = 224;
constexpr int maniqa_crop_count = 20;

/// The upper left pixel of a crop.
struct CropCorner {
    int x = 0;
    int y = 0;
    auto operator<=>(const CropCorner&) const = default;
};

/// The factor by which a picture is enlarged before it is cropped: 225 / its smaller side where
/// that is at most 224, else 1.
double maniqa_enlargement(PixelSize size);

/// The size after that: the products with the factor, in double, cut to whole numbers. The smaller
/// side becomes 225, or 224 where the product falls short by a rounding.
PixelSize maniqa_enlarged(PixelSize size);

/// The twenty crops of one picture, in order; several may be equal.
///
/// size    of the picture as it is, before any enlargement
/// before  Crops::random123: the sizes of the pictures scored before it; else not looked at
/// throws  Error(input) when a size has a side below 1
/// Source: metrics.md 10. The draws are numpy's randint of a RandomState seeded with 123.
std::vector<CropCorner> maniqa_crops(PixelSize size, Crops rule,
                                     std::span<const PixelSize> before = {});

/// "uniform", "random123" or "random_each", as results print it.
const char* crops_name(Crops rule);

}  // namespace ultrasr
