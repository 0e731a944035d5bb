// Where a pixel of the wide frame lies in the tele frame: the motion models and their derivatives.
#pragma once
#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "data/base/geometry.h"

namespace ultrasr {

/// What is free in the map (registration.md 4.6). `camera` is physical: rotation of the camera,
/// zoom, tele principal point and tele radial distortion. The others start from a plane: with them
/// an uncorrected tele lens leaves 0.2 to 0.5 LR px (registration.md 2.1).
enum class MotionModel { camera, homography_k, homography, affine };

/// By name: camera, homography+k, homography, affine. throws Error(usage).
MotionModel motion_model(std::string_view name);
std::string_view name_of(MotionModel model);

/// What is known before the pictures are looked at.
struct PairGeometry {
    PixelSize wide;
    PixelSize tele;
    double focal_px = 0;  ///< of the wide camera, in wide pixels
    double scale = 0;     ///< nominal tele pixels per wide pixel (registration.md 4.1)

    PixelPoint wide_centre() const { return {(wide.width - 1) / 2.0, (wide.height - 1) / 2.0}; }
    PixelPoint tele_centre() const { return {(tele.width - 1) / 2.0, (tele.height - 1) / 2.0}; }
    /// Half the diagonal of the tele frame, its unit of radial distortion.
    double tele_half_diagonal() const;
};

constexpr int max_parameters = 9;
using Parameters = std::array<double, max_parameters>;

/// Derivatives of the tele place: by parameter and by wide pixel, tele pixels per unit.
struct MapDerivatives {
    std::array<PixelPoint, max_parameters> by_parameter{};
    PixelPoint by_x, by_y;
};

/// t = map(x), pixel centres at whole numbers in both frames (as OpenCV has them), sensor order.
///
/// camera, 7 numbers (w1, w2, w3, q, c1, c2, k):
///     u = (x - centre_wide) / focal_px        d = R(w) (u, 1)     R by Rodrigues
///     v = (d12 / d3) focal_px scale exp(q) / h                    h half the tele diagonal
///     t = centre_tele + h (v (1 + k |v|^2) + c)
/// the planes, 6, 8 or 9 numbers (a1 .. a6, p1, p2, k): with p = (x - centre_wide) scale / h
///     v = (p + [a1 a2; a4 a5] p + (a3, a6)) / (1 + p1 px + p2 py)
///     t = centre_tele + h v (1 + k |v|^2)
/// All zero is the nominal map: equal axes, centres on each other.
class CameraMap {
  public:
    CameraMap() = default;
    CameraMap(MotionModel model, const PairGeometry& geometry, const Parameters& theta = {});

    MotionModel model() const { return model_; }
    const PairGeometry& geometry() const { return geometry_; }
    const Parameters& theta() const { return theta_; }
    int parameters() const;  ///< 7, 9, 8 or 6

    PixelPoint operator()(PixelPoint wide) const;

    /// The same with its derivatives.
    PixelPoint with_derivatives(PixelPoint wide, MapDerivatives& derivatives) const;

    /// A row of wide places x0, x0 + step, ... at height y.
    void row(double x0, double step, double y, int count, double* tele_x, double* tele_y) const;

    /// The wide place of a tele pixel, by Newton to 1e-9 px. throws Error(internal) when it does
    /// not settle, as for a point far outside of both frames
    PixelPoint inverse(PixelPoint tele) const;

    /// The true ratio at the wide place: root of the map's local area factor, tele px per wide px.
    double scale_at(PixelPoint wide) const;

  private:
    void prepare();

    MotionModel model_ = MotionModel::camera;
    PairGeometry geometry_;
    Parameters theta_{};
    double half_diagonal_ = 1;
    std::array<double, 9> rotation_{};                      // R, row by row
    std::array<std::array<double, 9>, 3> rotation_by_w_{};  // dR / dw_i
};

/// The standard deviations of the parameters about zero before any pixel is seen (registration.md
/// 4.6): 0.01 for c and k, infinite for the others.
Parameters prior_sigmas(MotionModel model);

/// One place seen in both frames.
struct PointPair {
    PixelPoint wide;
    PixelPoint tele;
};

/// Fits a map to point pairs by Gauss-Newton with Tukey weights (4.7 x max(1.4826 MAD, 0.05 LR
/// px)).
///
/// start  a map of the wanted model to start from
/// throws Error(internal) when the points do not fix the model
CameraMap fit_map(const CameraMap& start, std::span<const PointPair> points);

/// The map of another model that equals `map` best over a 13 x 9 grid on `area` of the wide frame.
CameraMap convert_map(const CameraMap& map, MotionModel model, const PixelRect& area);

/// Root mean square distance of two maps over a 13 x 9 grid of the wide frame's `area`, borders
/// included, in wide (LR) pixels: tele distance over the nominal scale.
double rms_between(const CameraMap& a, const CameraMap& b, const PixelRect& area);

/// The grid itself: 13 x 9 places, row by row, from the first to the last pixel centre of `area`.
std::vector<PixelPoint> check_grid(const PixelRect& area);

}  // namespace ultrasr
