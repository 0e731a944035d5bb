// Stage 3: Gauss-Newton on pixels at the wide scale, and how sure it is of itself.
#pragma once
#include <functional>
#include <optional>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "registration/alignment.h"
#include "registration/camera_map.h"
#include "registration/luminance.h"
#include "registration/tone.h"

namespace ultrasr {

constexpr int samples_per_pixel = 4;  ///< of the tele working picture, registration.md 4.6

/// The pictures the refinement works on, linear light.
struct WorkPictures {
    PixelRect window;      ///< of the wide frame: the footprint's bounding box and a margin
    Luminance wide;        ///< window's size
    cv::Mat tele_blurred;  ///< the whole tele frame, samples_per_pixel a wide pixel, blurred to it
    cv::Mat tele_burnt;    ///< CV_32F, one sample a wide pixel: share that is burnt out
    PairGeometry geometry;
    ToneCurve tone;  ///< from coded tele to coded wide; identity until `fit_tone` was asked
};

/// Size of the tele working picture: samples_per_pixel times a whole number of wide pixels.
PixelSize work_size(const PairGeometry& geometry);

/// Puts the pictures together.
/// tele  of work_size(), its burnt spots at one sample a wide pixel
WorkPictures work_pictures(const PairGeometry& geometry, const PixelRect& window,
                           const Luminance& wide, const Luminance& tele);

/// The window of the wide frame that a map needs: bounding box of the footprint with a margin for
/// local contrast, cut to the frame. Empty when the footprint lies outside.
PixelRect window_of(const CameraMap& map);

struct RefineOptions {
    Brightness brightness = Brightness::basis;
    bool from_afar = false;    ///< start with the strongly blurred levels (after 4.5)
    bool rounds_only = false;  ///< keep the start as it is and only take stock (`--refine points`)
    std::optional<double> fixed_k;  ///< hold the tele distortion here (camera and homography+k)
};

struct PixelFit {
    CameraMap map;
    bool usable = false;  ///< false: fewer than 400 pixels, or the equations have no solution
    std::vector<double> brightness;  ///< coefficients of the basis
    std::vector<double> covariance;  ///< of the parameters, n x n
    int rounds = 0;
    std::size_t pixels = 0;
    double residual = 0;     ///< 1.4826 MAD, units of local contrast
    double correlation = 0;  ///< wide with its explanation over all used pixels, unweighted
    double kept = 0;         ///< mean Tukey weight
    cv::Mat weight;          ///< CV_32F, window's size: final Tukey weight, 0 where unusable
};

/// Refines a map on all usable pixels (registration.md 4.6), each level with analytic Jacobians.
///
/// work  its tone curve is fitted on the way, at the start and again before the last level
PixelFit refine_pixels(WorkPictures& work, const CameraMap& start,
                       const RefineOptions& options = {});

/// Half the difference of the blur variances of wide and tele frame (the tele frame's at LR scale,
/// blurred to a wide pixel), LR px^2, positive when the wide frame is the softer: how much
/// Laplacian explains the wide picture at blur 1 beside the other nine functions of the basis,
/// Tukey weighted. Not local contrast, which gives a soft picture back most of what it has lost.
/// NaN when fewer than 400 pixels are usable or there is no solution.
///
/// fit  usable
double blur_difference(const WorkPictures& work, const PixelFit& fit);

/// RMS over the check grid of `area` of the map's formal standard deviation, LR px.
double formal_sigma(const PixelFit& fit, const PixelRect& area);

/// Fits the two halves of a checkerboard of 16 x 16 blocks alone, from the end point; RMS over the
/// check grid of their difference, halved, LR px. NaN when a half has no solution.
double half_split(const WorkPictures& work, const PixelFit& fit, const PixelRect& area,
                  const RefineOptions& options = {});

}  // namespace ultrasr
