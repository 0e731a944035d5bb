#include "metrics/maniqa_crops.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <random>

#include "data/base/error.h"

namespace ultrasr {
namespace {

/// Uniform whole numbers 0 ... count - 1 as numpy's RandomState.randint(0, count) draws them:
/// 32 bits under the smallest sufficient mask, drawn again while too large.
class NumpyDraws {
  public:
    int below(int count) {
        const auto largest = static_cast<std::uint32_t>(count - 1);
        if (largest == 0) return 0;  // nothing to choose: numpy draws nothing
        const auto mask = static_cast<std::uint32_t>(std::bit_ceil(std::uint64_t{largest} + 1) - 1);
        for (;;) {
            const auto value = static_cast<std::uint32_t>(generator_()) & mask;
            if (value <= largest) return static_cast<int>(value);
        }
    }

  private:
    std::mt19937 generator_{123};  // pyiqa's seed
};

/// Rows before columns, crop by crop.
std::vector<CropCorner> draw_crops(NumpyDraws& draws, PixelSize size) {
    std::vector<CropCorner> corners(maniqa_crop_count);
    for (CropCorner& corner : corners) {
        corner.y = draws.below(size.height - maniqa_crop_side + 1);
        corner.x = draws.below(size.width - maniqa_crop_side + 1);
    }
    return corners;
}

/// A grid of five by five, row by row; the last row is beyond the twenty.
std::vector<CropCorner> grid_crops(PixelSize size) {
    constexpr int columns = 5;    // ceil(sqrt(20))
    constexpr int intervals = 4;  // floor(sqrt(20))
    const int step_x = (size.width - maniqa_crop_side) / intervals;
    const int step_y = (size.height - maniqa_crop_side) / intervals;
    std::vector<CropCorner> corners(maniqa_crop_count);
    for (int i = 0; i < maniqa_crop_count; ++i) {
        corners[static_cast<std::size_t>(i)] = {i % columns * step_x, i / columns * step_y};
    }
    return corners;
}

}  // namespace

double maniqa_enlargement(PixelSize size) {
    const int side = std::min(size.width, size.height);
    require(side >= 1, "MANIQA's crops need a picture, got one of {}x{}", size.width, size.height);
    return side <= maniqa_crop_side ? double{maniqa_crop_side + 1} / side : 1.0;
}

PixelSize maniqa_enlarged(PixelSize size) {
    const double factor = maniqa_enlargement(size);
    return {static_cast<int>(size.width * factor), static_cast<int>(size.height * factor)};
}

std::vector<CropCorner> maniqa_crops(PixelSize size, Crops rule,
                                     std::span<const PixelSize> before) {
    const PixelSize enlarged = maniqa_enlarged(size);
    if (rule == Crops::uniform) return grid_crops(enlarged);
    NumpyDraws draws;
    if (rule == Crops::random123) {
        for (const PixelSize& earlier : before) draw_crops(draws, maniqa_enlarged(earlier));
    }
    return draw_crops(draws, enlarged);
}

const char* crops_name(Crops rule) {
    switch (rule) {
        case Crops::uniform:
            return "uniform";
        case Crops::random123:
            return "random123";
        case Crops::random_each:
            return "random_each";
    }
    fail(Fault::internal, "unknown rule of crops {}", static_cast<int>(rule));
}

}  // namespace ultrasr
