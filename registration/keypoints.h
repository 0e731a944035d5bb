// Stages 1 and 2: the pictures brought to equal luminance, and SIFT matches between them.
#pragma once
#include <string_view>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "registration/camera_map.h"

namespace ultrasr {

/// Luminance normalisation before SIFT (registration.md 4.3). Measured best: local. The others are
/// there because the paper does not say which it used.
enum class Normalisation { local, none, meanstd, hist, clahe };

/// By name: local, none, meanstd, hist, clahe. throws Error(usage).
Normalisation normalisation(std::string_view name);
std::string_view name_of(Normalisation kind);

/// Two 8-bit pictures ready for SIFT.
struct NormalisedPair {
    cv::Mat wide;  ///< CV_8UC1
    cv::Mat tele;
};

/// wide, tele  gamma-coded luminance, CV_32FC1, [0,1], at the same scale
/// `meanstd` and `hist` bring the tele picture to the wide one; `clahe` and `local` treat each by
/// itself.
NormalisedPair normalise(const cv::Mat& wide, const cv::Mat& tele, Normalisation kind);

struct KeypointMatches {
    int wide_keypoints = 0;
    int tele_keypoints = 0;
    std::vector<PointPair> matches;  ///< pixels of the two pictures given
};

/// SIFT keypoints of both pictures, matched by rooted descriptors (Arandjelovic and Zisserman
/// 2012), ratio 0.8, mutual best; only pairs with a turn below 20 degrees and a size ratio of 0.67
/// to 1.5.
///
/// enlarge  both pictures are taken this many times larger first (1 or 2)
/// Source: Lowe 2004; OpenCV's SIFT with 4000 features, contrast 0.01, edge 12.
KeypointMatches match_keypoints(const NormalisedPair& pair, int enlarge = 1);

}  // namespace ultrasr
