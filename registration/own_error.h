// What a pair says of its own error, and the gates it must pass.
#pragma once
#include <map>
#include <string>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "registration/refine.h"

namespace ultrasr {

/// One block of 24 x 24 LR pixels of the crop, registered by itself.
struct BlockShift {
    double x = 0, y = 0;  ///< shift that is left, LR px
    double sigma = 0;     ///< its formal standard deviation, LR px; inf when not solvable
    double correlation = 0;
    bool textured = false;  ///< spread above 0.03 of the coded range, or sigma below 0.15 LR px
                            ///< with a correlation above 0.8
};

struct BlockShifts {
    int rows = 0, columns = 0;
    std::vector<BlockShift> blocks;  ///< row by row
    const BlockShift& at(int row, int column) const {
        return blocks[static_cast<std::size_t>(row * columns + column)];
    }
};

/// Shifts of the blocks of `crop` (up to 2 px), each with its own gain, offset and plane, at blur
/// 0.7 (registration.md 5).
BlockShifts block_shifts(const WorkPictures& work, const CameraMap& map, const PixelRect& crop);

/// All that the gates look at. LR px where not said otherwise.
struct OwnError {
    double formal = 0;  ///< RMS over the check grid
    double half_split = 0;
    double block_rms = 0;       ///< of the block shifts, weighted
    double textured_share = 0;  ///< of the blocks
    double moved_share = 0;     ///< of the textured blocks: correlation below 0.8
    double correlation = 0;
    double blur_difference = 0;  ///< LR px^2, NaN when it cannot be told
    double burnt_share = 0;      ///< of the crop
    double sigma_est = 0;        ///< hypot(3 max(formal, half split), 0.006, 0.15 block_rms)
    BlockShifts shifts;
};

/// crop  LR window of the pair
OwnError own_error(const WorkPictures& work, const PixelFit& fit, const PixelRect& crop,
                   const RefineOptions& options = {});

/// Sharpness of HR itself, which the LR scale cannot see (registration.md 5, last part).
struct TeleSharpness {
    double ratio = 0;        ///< mean squared gradient at full size over that after 2 HR px blur
    double sharp_share = 0;  ///< of the textured 64 x 64 blocks: ratio at or above the limit
    int textured_blocks = 0;
    double energy = 0;  ///< mean squared gradient at full size, to choose between frames
};

/// luminance  linear, of the HR crop, CV_32F
TeleSharpness tele_sharpness(const cv::Mat& luminance, double limit = 1.2);

/// Limits by name; `known_limits` has the defaults.
using GateLimits = std::map<std::string, double>;
const GateLimits& known_limits();

struct Gate {
    std::string name;
    double value = 0;
    double limit = 0;
    bool pass = true;
};

/// The gates in the order in which they name the reason of a rejection.
std::vector<Gate> judge(const OwnError& error, const TeleSharpness& sharpness,
                        const GateLimits& limits);

}  // namespace ultrasr
