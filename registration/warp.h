// HR onto the LR lattice times s, resampled once; the reverse for comparison.
#pragma once
#include <opencv2/core/mat.hpp>

#include "data/frame.h"
#include "registration/camera_map.h"
#include "registration/crop.h"

namespace ultrasr {

struct WarpedHr {
    cv::Mat linear;          ///< CV_32FC3, linear light, HR size
    double step = 1;         ///< tele pixels per HR pixel at the window's middle
    double burnt_share = 0;  ///< of the HR pixels: any channel at or above 252 of 255
};

/// Reads the tele frame at HR's places by Lanczos-4 in linear light; ringing is cut to the minimum
/// and maximum of the 4 x 4 neighbourhood widened by 2 % of their distance. A step above 1.02
/// widens the kernel by that factor (registration.md 7).
///
/// throws Error(internal) when HR's places leave the tele frame
WarpedHr warp_hr(const Frame& tele, const CameraMap& map, const CropWindow& window, int scale);

/// `--warp lr`: the tele frame's pixels about the window's middle stay, and LR is read from the
/// wide frame by cubic interpolation at the inverse map, as RealSR does it.
struct WarpedLr {
    PixelRect hr;    ///< of the tele frame
    cv::Mat linear;  ///< LR, CV_32FC3
    cv::Mat hr_linear;
};
/// wide  pixels of `area` of the wide frame: the LR window and 32 px around
WarpedLr warp_lr(const Frame& wide, const PixelRect& area, const Frame& tele, const CameraMap& map,
                 const CropWindow& window, int scale);

/// Mean of every s x s block of HR, LR pixels whose block is whole (the others are left out, at the
/// right and below).
cv::Mat block_means(const cv::Mat& hr_linear, int scale);

}  // namespace ultrasr
