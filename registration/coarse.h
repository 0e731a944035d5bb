// The first estimate of a pair: SIFT with MAGSAC, or a correlation search without keypoints.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "registration/camera_map.h"
#include "registration/keypoints.h"

namespace ultrasr {

/// The pictures of the search, gamma-coded luminance at the wide scale.
struct CoarsePictures {
    cv::Mat wide;            ///< a window of the wide frame, CV_32FC1
    PixelPoint wide_corner;  ///< where the window's first pixel lies in the wide frame
    cv::Mat tele;            ///< the whole tele frame shrunk by the nominal scale
};

struct CoarseOptions {
    Normalisation norm = Normalisation::local;
    bool focus_breathing = false;  ///< --near: the scale may be off by 15 % instead of 6 %
    bool keypoints_only = false;   ///< SIFT once; neither enlarged nor the correlation search
    std::uint64_t seed = 0;        ///< of the samples that MAGSAC draws
};

struct CoarseEstimate {
    bool found = false;
    std::string way;  ///< sift, sift2x, correlation, or none
    int wide_keypoints = 0, tele_keypoints = 0, matches = 0, inliers = 0;
    double peak = 0;  ///< correlation of the search without keypoints, 0 when it was not needed
    double peak_ratio = 0;  ///< over the best peak further than 6 px away
    /// wide frame pixel to tele frame pixel / scale, row by row: the first estimate itself
    std::array<double, 6> affine{};
    std::vector<PointPair> points;  ///< inliers in full frame pixels; empty for correlation
};

/// Searches (registration.md 4.4, 4.5): SIFT at the wide scale, then both pictures twice as large,
/// then correlation.
CoarseEstimate estimate_coarse(const CoarsePictures& pictures, const PairGeometry& geometry,
                               const CoarseOptions& options = {});

/// The correlation search alone (4.5): difference of Gaussians at half the wide scale, 9 scales by
/// 11 angles.
CoarseEstimate search_by_correlation(const CoarsePictures& pictures, const PairGeometry& geometry);

/// A map of `model` that fits the estimate: to its inliers, or to the affine where there are none.
CameraMap map_from(const CoarseEstimate& estimate, MotionModel model, const PairGeometry& geometry);

}  // namespace ultrasr
