#include "registration/coarse.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <opencv2/calib3d.hpp>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "registration/luminance.h"

namespace ultrasr {
namespace {

constexpr int least_inliers = 15;        // registration.md 4.4
constexpr double inlier_distance = 2.0;  // LR pixels
constexpr double pi = 3.14159265358979323846;

/// True when the 2 x 2 part is a turn and zoom as a zoom lens on a tripod makes it.
bool plausible(const cv::Matx23d& a, double scale_slack) {
    const double determinant = a(0, 0) * a(1, 1) - a(0, 1) * a(1, 0);
    if (!(determinant > 0)) return false;
    const double along_x = std::hypot(a(0, 0), a(1, 0));
    const double along_y = std::hypot(a(0, 1), a(1, 1));
    const double turn = std::atan2(a(1, 0) - a(0, 1), a(0, 0) + a(1, 1)) * 180 / pi;
    return std::abs(std::sqrt(determinant) - 1) <= scale_slack && std::abs(turn) <= 4 &&
           std::abs(along_x / along_y - 1) <= 0.04;
}

/// Frame coordinates of the coarse pictures' pixels.
struct Frames {
    PixelPoint corner;
    double fx, fy;  ///< tele frame pixels per pixel of the shrunk tele picture

    Frames(const CoarsePictures& pictures, const PairGeometry& geometry)
        : corner(pictures.wide_corner),
          fx(static_cast<double>(geometry.tele.width) / pictures.tele.cols),
          fy(static_cast<double>(geometry.tele.height) / pictures.tele.rows) {}
    PixelPoint wide(PixelPoint p) const { return {p.x + corner.x, p.y + corner.y}; }
    PixelPoint tele(PixelPoint p) const { return {(p.x + 0.5) * fx - 0.5, (p.y + 0.5) * fy - 0.5}; }
};

/// A map between the coarse pictures as CoarseEstimate::affine has it.
std::array<double, 6> in_frames(const cv::Matx23d& a, const Frames& frames, double scale) {
    // tele / scale = ((A (x - corner) + b) + 0.5) f / scale - 0.5 / scale
    std::array<double, 6> result{};
    for (int row = 0; row < 2; ++row) {
        const double f = (row == 0 ? frames.fx : frames.fy) / scale;
        const auto at = static_cast<std::size_t>(3 * row);
        result[at] = a(row, 0) * f;
        result[at + 1] = a(row, 1) * f;
        const double shift = a(row, 2) - a(row, 0) * frames.corner.x - a(row, 1) * frames.corner.y;
        result[at + 2] = (shift + 0.5) * f - 0.5 / scale;
    }
    return result;
}

/// OpenCV's generators take 31 bits; seed 0 stays 0.
int generator_state(std::uint64_t seed) {
    return static_cast<int>((seed ^ (seed >> 31) ^ (seed >> 62)) & 0x7fffffff);
}

bool estimate_by_sift(const NormalisedPair& pair, int enlarge, const Frames& frames, double scale,
                      double scale_slack, std::uint64_t seed, CoarseEstimate& estimate) {
    const KeypointMatches found = match_keypoints(pair, enlarge);
    estimate.wide_keypoints = found.wide_keypoints;
    estimate.tele_keypoints = found.tele_keypoints;
    estimate.matches = static_cast<int>(found.matches.size());
    estimate.inliers = 0;
    if (estimate.matches < least_inliers) return false;

    // Fit an affine map by MAGSAC (a homography would bend itself to the lens distortion)
    std::vector<cv::Point2d> from, to;
    for (const PointPair& m : found.matches) {
        from.emplace_back(m.wide.x, m.wide.y);
        to.emplace_back(m.tele.x, m.tele.y);
    }
    cv::UsacParams params;
    params.score = cv::SCORE_METHOD_MAGSAC;
    params.loMethod = cv::LOCAL_OPTIM_SIGMA;
    params.threshold = inlier_distance;
    params.maxIterations = 5000;
    params.confidence = 0.9999;
    params.randomGeneratorState = generator_state(seed);
    params.isParallel = false;
    cv::Mat inlier;
    const cv::Mat matrix = cv::estimateAffine2D(from, to, inlier, params);
    if (matrix.empty()) return false;
    const cv::Matx23d a = matrix;
    std::vector<PointPair> points;
    for (std::size_t i = 0; i < found.matches.size(); ++i) {
        const double ex = a(0, 0) * from[i].x + a(0, 1) * from[i].y + a(0, 2) - to[i].x;
        const double ey = a(1, 0) * from[i].x + a(1, 1) * from[i].y + a(1, 2) - to[i].y;
        if (std::hypot(ex, ey) > inlier_distance) continue;
        points.push_back({frames.wide(found.matches[i].wide), frames.tele(found.matches[i].tele)});
    }
    estimate.inliers = static_cast<int>(points.size());
    if (estimate.inliers < least_inliers || !plausible(a, scale_slack)) return false;
    estimate.points = std::move(points);
    estimate.affine = in_frames(a, frames, scale);
    return true;
}

/// Difference of Gaussians over its local mean size, cut at +-3.
cv::Mat band(const cv::Mat& picture) {
    cv::Mat difference = blurred(picture, 0.7) - blurred(picture, 4);
    const cv::Mat size = blurred(cv::abs(difference), 12) + 1e-4;
    cv::Mat result = difference / size;
    cv::min(result, 3, result);
    cv::max(result, -3, result);
    return result;
}

}  // namespace

CoarseEstimate search_by_correlation(const CoarsePictures& pictures, const PairGeometry& geometry) {
    CoarseEstimate estimate;
    estimate.way = "correlation";
    const auto half = [](const cv::Mat& picture) {
        return shrink_area(picture, {picture.cols / 2, picture.rows / 2});
    };
    const cv::Mat wide_half = half(pictures.wide), tele_half = half(pictures.tele);
    const cv::Mat wide = band(wide_half), tele = band(tele_half);

    // The middle of the tele picture is the template, 6 % off every side
    const int rim_x = static_cast<int>(0.06 * tele.cols),
              rim_y = static_cast<int>(0.06 * tele.rows);
    const cv::Size size(tele.cols - 2 * rim_x, tele.rows - 2 * rim_y);
    constexpr int scales = 9, angles = 11;
    struct Peak {
        double value = -1, other = -1;
        cv::Point at;
    };
    std::vector<Peak> peaks(scales * angles);
    const auto turned = [&](int k) {  // template pixel to tele picture pixel
        const double zoom = 0.96 + 0.01 * (k / angles);
        const double angle = (-2.5 + 0.5 * (k % angles)) * pi / 180;
        const double c = zoom * std::cos(angle), s = zoom * std::sin(angle);
        const double cx = (size.width - 1) / 2.0, cy = (size.height - 1) / 2.0;
        return cv::Matx23d(c, -s, (tele.cols - 1) / 2.0 - c * cx + s * cy,  //
                           s, c, (tele.rows - 1) / 2.0 - s * cx - c * cy);
    };
    if (size.width < 16 || size.height < 16 || size.width > wide.cols || size.height > wide.rows) {
        return estimate;
    }
    tbb::this_task_arena::isolate([&] {
        tbb::parallel_for(0, scales * angles, [&](int k) {
            cv::Mat patch, score;
            cv::warpAffine(tele, patch, turned(k), size, cv::INTER_LINEAR | cv::WARP_INVERSE_MAP,
                           cv::BORDER_REFLECT);
            cv::matchTemplate(wide, patch, score, cv::TM_CCOEFF_NORMED);
            Peak& peak = peaks[static_cast<std::size_t>(k)];
            cv::minMaxLoc(score, nullptr, &peak.value, nullptr, &peak.at);
            for (int y = 0; y < score.rows; ++y) {
                for (int x = 0; x < score.cols; ++x) {
                    if (std::hypot(x - peak.at.x, y - peak.at.y) <= 6) continue;
                    peak.other = std::max(peak.other, static_cast<double>(score.at<float>(y, x)));
                }
            }
        });
    });
    const auto best = std::max_element(
        peaks.begin(), peaks.end(), [](const Peak& a, const Peak& b) { return a.value < b.value; });
    estimate.peak = best->value;
    estimate.peak_ratio = best->other > 0 ? best->value / best->other : 99;
    estimate.found = estimate.peak >= 0.35 && estimate.peak_ratio >= 1.2;
    if (!estimate.found) return estimate;

    // Half-scale wide pixel to half-scale tele pixel, then both at the wide scale
    const cv::Matx23d a = turned(static_cast<int>(best - peaks.begin()));
    const double wx = static_cast<double>(pictures.wide.cols) / wide.cols;
    const double wy = static_cast<double>(pictures.wide.rows) / wide.rows;
    const double tx = static_cast<double>(pictures.tele.cols) / tele.cols;
    const double ty = static_cast<double>(pictures.tele.rows) / tele.rows;
    cv::Matx23d full;
    for (int row = 0; row < 2; ++row) {
        const double t = row == 0 ? tx : ty;
        full(row, 0) = a(row, 0) / wx * t;
        full(row, 1) = a(row, 1) / wy * t;
        const double shift = a(row, 0) * (0.5 / wx - 0.5 - best->at.x) +
                             a(row, 1) * (0.5 / wy - 0.5 - best->at.y) + a(row, 2);
        full(row, 2) = (shift + 0.5) * t - 0.5;
    }
    estimate.affine = in_frames(full, Frames(pictures, geometry), geometry.scale);
    return estimate;
}

CoarseEstimate estimate_coarse(const CoarsePictures& pictures, const PairGeometry& geometry,
                               const CoarseOptions& options) {
    const Frames frames(pictures, geometry);
    const double slack = options.focus_breathing ? 0.15 : 0.06;
    const NormalisedPair pair = normalise(pictures.wide, pictures.tele, options.norm);
    CoarseEstimate estimate;
    for (const int enlarge : {1, 2}) {
        CoarseEstimate trial;
        trial.way = enlarge == 1 ? "sift" : "sift2x";
        trial.found =
            estimate_by_sift(pair, enlarge, frames, geometry.scale, slack, options.seed, trial);
        if (trial.found) return trial;
        if (enlarge == 1 || trial.inliers > estimate.inliers) estimate = trial;
        if (options.keypoints_only) return estimate;
    }
    CoarseEstimate search = search_by_correlation(pictures, geometry);
    search.wide_keypoints = estimate.wide_keypoints;
    search.tele_keypoints = estimate.tele_keypoints;
    search.matches = estimate.matches;
    search.inliers = estimate.inliers;
    if (!search.found) search.way = "none";
    return search;
}

CameraMap map_from(const CoarseEstimate& estimate, MotionModel model,
                   const PairGeometry& geometry) {
    // The affine over the footprint, as points
    const PixelPoint centre = geometry.wide_centre();
    const int width = static_cast<int>(geometry.tele.width / geometry.scale);
    const int height = static_cast<int>(geometry.tele.height / geometry.scale);
    const PixelRect footprint{static_cast<int>(centre.x) - width / 2,
                              static_cast<int>(centre.y) - height / 2, width, height};
    std::vector<PointPair> points;
    const auto& a = estimate.affine;
    for (const PixelPoint& x : check_grid(footprint)) {
        points.push_back({x,
                          {(a[0] * x.x + a[1] * x.y + a[2]) * geometry.scale,
                           (a[3] * x.x + a[4] * x.y + a[5]) * geometry.scale}});
    }
    const CameraMap start = fit_map(CameraMap(model, geometry), points);
    return estimate.points.empty() ? start : fit_map(start, estimate.points);
}

}  // namespace ultrasr
