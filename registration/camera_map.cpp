#include "registration/camera_map.h"

#include <algorithm>
#include <cmath>

#include "data/base/error.h"
#include "registration/least_squares.h"
#include "registration/median.h"

namespace ultrasr {
namespace {

using Matrix3 = std::array<double, 9>;

constexpr std::array models{
    std::pair{MotionModel::camera, std::string_view("camera")},
    std::pair{MotionModel::homography_k, std::string_view("homography+k")},
    std::pair{MotionModel::homography, std::string_view("homography")},
    std::pair{MotionModel::affine, std::string_view("affine")},
};

Matrix3 product(const Matrix3& a, const Matrix3& b) {
    Matrix3 c{};
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) {
            for (std::size_t k = 0; k < 3; ++k) c[3 * i + j] += a[3 * i + k] * b[3 * k + j];
        }
    }
    return c;
}

/// [w]x, the matrix of the cross product.
Matrix3 cross_matrix(const std::array<double, 3>& w) {
    return {0, -w[2], w[1], w[2], 0, -w[0], -w[1], w[0], 0};
}

/// R(w) by Rodrigues' formula.
Matrix3 rotation_of(const std::array<double, 3>& w) {
    const double angle2 = w[0] * w[0] + w[1] * w[1] + w[2] * w[2];
    const double angle = std::sqrt(angle2);
    const double a = angle > 1e-4 ? std::sin(angle) / angle : 1 - angle2 / 6;
    const double b = angle > 1e-4 ? (1 - std::cos(angle)) / angle2 : 0.5 - angle2 / 24;
    const Matrix3 k = cross_matrix(w);
    const Matrix3 k2 = product(k, k);
    Matrix3 r{1, 0, 0, 0, 1, 0, 0, 0, 1};
    for (std::size_t i = 0; i < 9; ++i) r[i] += a * k[i] + b * k2[i];
    return r;
}

/// dR/dw_i = (w_i [w]x + [w x (I - R) e_i]x) R / |w|^2 (Gallego and Yezzi 2015, eq. 9); [e_i]x R at
/// small angles.
Matrix3 rotation_derivative(const std::array<double, 3>& w, const Matrix3& r, std::size_t i) {
    const double angle2 = w[0] * w[0] + w[1] * w[1] + w[2] * w[2];
    std::array<double, 3> e{};
    e[i] = 1;
    if (angle2 < 1e-12) return product(cross_matrix(e), r);
    const std::array<double, 3> d{e[0] - r[i], e[1] - r[3 + i], e[2] - r[6 + i]};
    const std::array<double, 3> c{w[1] * d[2] - w[2] * d[1], w[2] * d[0] - w[0] * d[2],
                                  w[0] * d[1] - w[1] * d[0]};
    Matrix3 k = cross_matrix(w);
    const Matrix3 k2 = cross_matrix(c);
    for (std::size_t j = 0; j < 9; ++j) k[j] = (w[i] * k[j] + k2[j]) / angle2;
    return product(k, r);
}

}  // namespace

MotionModel motion_model(std::string_view name) {
    for (const auto& [model, known] : models) {
        if (known == name) return model;
    }
    fail(Fault::usage, "unknown model '{}'; known: camera, homography+k, homography, affine", name);
}

std::string_view name_of(MotionModel model) {
    for (const auto& [known, name] : models) {
        if (known == model) return name;
    }
    return "";
}

double PairGeometry::tele_half_diagonal() const {
    return 0.5 * std::hypot(tele.width, tele.height);
}

CameraMap::CameraMap(MotionModel model, const PairGeometry& geometry, const Parameters& theta)
    : model_(model), geometry_(geometry), theta_(theta) {
    half_diagonal_ = geometry_.tele_half_diagonal();
    prepare();
}

void CameraMap::prepare() {
    if (model_ != MotionModel::camera) return;
    const std::array<double, 3> w{theta_[0], theta_[1], theta_[2]};
    rotation_ = rotation_of(w);
    for (std::size_t i = 0; i < 3; ++i) rotation_by_w_[i] = rotation_derivative(w, rotation_, i);
}

int CameraMap::parameters() const {
    switch (model_) {
        case MotionModel::camera:
            return 7;
        case MotionModel::homography_k:
            return 9;
        case MotionModel::homography:
            return 8;
        case MotionModel::affine:
            return 6;
    }
    return 0;
}

PixelPoint CameraMap::operator()(PixelPoint wide) const {
    double x = 0, y = 0;
    row(wide.x, 1, wide.y, 1, &x, &y);
    return {x, y};
}

void CameraMap::row(double x0, double step, double y, int count, double* tele_x,
                    double* tele_y) const {
    const PixelPoint centre = geometry_.wide_centre();
    const PixelPoint to = geometry_.tele_centre();
    const double h = half_diagonal_;
    if (model_ == MotionModel::camera) {
        const Matrix3& r = rotation_;
        const double f = geometry_.focal_px;
        const double a = f * geometry_.scale * std::exp(theta_[3]) / h;
        const double k = theta_[6];
        const double uy = (y - centre.y) / f;
        const double b0 = r[1] * uy + r[2], b1 = r[4] * uy + r[5], b2 = r[7] * uy + r[8];
        const double cx = to.x + h * theta_[4], cy = to.y + h * theta_[5];
        for (int i = 0; i < count; ++i) {
            const double ux = (x0 + step * i - centre.x) / f;
            const double over = a / (r[6] * ux + b2);
            const double vx = (r[0] * ux + b0) * over;
            const double vy = (r[3] * ux + b1) * over;
            const double g = h * (1 + k * (vx * vx + vy * vy));
            tele_x[i] = cx + g * vx;
            tele_y[i] = cy + g * vy;
        }
        return;
    }
    const double m = geometry_.scale / h;
    const double py = (y - centre.y) * m;
    const Parameters& a = theta_;
    for (int i = 0; i < count; ++i) {
        const double px = (x0 + step * i - centre.x) * m;
        const double over = 1 / (1 + a[6] * px + a[7] * py);
        const double vx = (px + a[0] * px + a[1] * py + a[2]) * over;
        const double vy = (py + a[3] * px + a[4] * py + a[5]) * over;
        const double g = h * (1 + a[8] * (vx * vx + vy * vy));
        tele_x[i] = to.x + g * vx;
        tele_y[i] = to.y + g * vy;
    }
}

PixelPoint CameraMap::with_derivatives(PixelPoint wide, MapDerivatives& out) const {
    const PixelPoint centre = geometry_.wide_centre();
    const PixelPoint to = geometry_.tele_centre();
    const double h = half_diagonal_;
    double vx = 0, vy = 0, k = 0;
    PixelPoint offset;                            // c
    std::array<PixelPoint, max_parameters> dv{};  // dv / dtheta
    std::array<PixelPoint, 2> dv_by_pixel{};      // dv / dx, dv / dy
    if (model_ == MotionModel::camera) {
        const double f = geometry_.focal_px;
        const double a = f * geometry_.scale * std::exp(theta_[3]) / h;
        const std::array<double, 3> u{(wide.x - centre.x) / f, (wide.y - centre.y) / f, 1};
        const auto times_u = [&u](const Matrix3& m) {
            return std::array<double, 3>{m[0] * u[0] + m[1] * u[1] + m[2] * u[2],
                                         m[3] * u[0] + m[4] * u[1] + m[5] * u[2],
                                         m[6] * u[0] + m[7] * u[1] + m[8] * u[2]};
        };
        const auto d = times_u(rotation_);
        vx = a * d[0] / d[2];
        vy = a * d[1] / d[2];
        const auto project = [&](double dx, double dy, double dz) {
            return PixelPoint{(a * dx - vx * dz) / d[2], (a * dy - vy * dz) / d[2]};
        };
        for (std::size_t i = 0; i < 3; ++i) {
            const auto e = times_u(rotation_by_w_[i]);
            dv[i] = project(e[0], e[1], e[2]);
        }
        dv[3] = {vx, vy};
        for (std::size_t i = 0; i < 2; ++i) {
            dv_by_pixel[i] = project(rotation_[i] / f, rotation_[3 + i] / f, rotation_[6 + i] / f);
        }
        k = theta_[6];
        offset = {theta_[4], theta_[5]};
    } else {
        const Parameters& a = theta_;
        const double m = geometry_.scale / h;
        const double px = (wide.x - centre.x) * m, py = (wide.y - centre.y) * m;
        const double over = 1 / (1 + a[6] * px + a[7] * py);
        vx = (px + a[0] * px + a[1] * py + a[2]) * over;
        vy = (py + a[3] * px + a[4] * py + a[5]) * over;
        dv[0] = {px * over, 0}, dv[1] = {py * over, 0}, dv[2] = {over, 0};
        dv[3] = {0, px * over}, dv[4] = {0, py * over}, dv[5] = {0, over};
        dv[6] = {-vx * px * over, -vy * px * over};
        dv[7] = {-vx * py * over, -vy * py * over};
        dv_by_pixel[0] = {m * over * (1 + a[0] - vx * a[6]), m * over * (a[3] - vy * a[6])};
        dv_by_pixel[1] = {m * over * (a[1] - vx * a[7]), m * over * (1 + a[4] - vy * a[7])};
        k = a[8];
    }

    // Carry through v (1 + k |v|^2) + c
    const double r2 = vx * vx + vy * vy;
    const double g = 1 + k * r2;
    const auto through = [&](PixelPoint d) {
        const double along = 2 * k * (vx * d.x + vy * d.y);
        return PixelPoint{h * (g * d.x + along * vx), h * (g * d.y + along * vy)};
    };
    for (std::size_t i = 0; i < max_parameters; ++i) out.by_parameter[i] = through(dv[i]);
    if (model_ == MotionModel::camera) {
        out.by_parameter[4] = {h, 0};
        out.by_parameter[5] = {0, h};
        out.by_parameter[6] = {h * r2 * vx, h * r2 * vy};
    } else {
        out.by_parameter[8] = {h * r2 * vx, h * r2 * vy};
    }
    out.by_x = through(dv_by_pixel[0]);
    out.by_y = through(dv_by_pixel[1]);
    return {to.x + h * (g * vx + offset.x), to.y + h * (g * vy + offset.y)};
}

PixelPoint CameraMap::inverse(PixelPoint tele) const {
    PixelPoint x = geometry_.wide_centre();
    x.x += (tele.x - geometry_.tele_centre().x) / geometry_.scale;
    x.y += (tele.y - geometry_.tele_centre().y) / geometry_.scale;
    for (int round = 0; round < 50; ++round) {
        MapDerivatives d;
        const PixelPoint t = with_derivatives(x, d);
        const double ex = tele.x - t.x, ey = tele.y - t.y;
        const double determinant = d.by_x.x * d.by_y.y - d.by_y.x * d.by_x.y;
        const double dx = (ex * d.by_y.y - ey * d.by_y.x) / determinant;
        const double dy = (ey * d.by_x.x - ex * d.by_x.y) / determinant;
        x.x += dx;
        x.y += dy;
        if (!std::isfinite(x.x) || !std::isfinite(x.y)) break;
        if (std::hypot(dx, dy) < 1e-9) return x;
    }
    fail(Fault::internal, "the map has no inverse at tele pixel ({:.1f}, {:.1f})", tele.x, tele.y);
}

double CameraMap::scale_at(PixelPoint wide) const {
    MapDerivatives d;
    with_derivatives(wide, d);
    return std::sqrt(std::abs(d.by_x.x * d.by_y.y - d.by_y.x * d.by_x.y));
}

Parameters prior_sigmas(MotionModel model) {
    Parameters sigmas;
    sigmas.fill(INFINITY);
    if (model == MotionModel::camera) sigmas[4] = sigmas[5] = sigmas[6] = 0.01;
    if (model == MotionModel::homography_k) sigmas[8] = 0.01;
    return sigmas;
}

CameraMap fit_map(const CameraMap& start, std::span<const PointPair> points) {
    const auto n = static_cast<std::size_t>(start.parameters());
    const double scale = start.geometry().scale;
    const Parameters prior = prior_sigmas(start.model());
    CameraMap map = start;
    std::vector<double> distance(points.size());
    for (int round = 0; round < 40; ++round) {
        // Judge the residuals, LR pixels
        for (std::size_t i = 0; i < points.size(); ++i) {
            const PixelPoint t = map(points[i].wide);
            distance[i] = std::hypot(t.x - points[i].tele.x, t.y - points[i].tele.y) / scale;
        }
        const double sigma = std::max(1.4826 * median_of(distance), 0.05);

        // Sum up the normal equations
        std::vector<double> a(n * n, 0.0), b(n, 0.0);
        for (std::size_t i = 0; i < points.size(); ++i) {
            const double weight = tukey_weight(distance[i], 4.7 * sigma) / (scale * scale);
            if (weight == 0) continue;
            MapDerivatives d;
            const PixelPoint t = map.with_derivatives(points[i].wide, d);
            const double ex = points[i].tele.x - t.x, ey = points[i].tele.y - t.y;
            for (std::size_t j = 0; j < n; ++j) {
                const PixelPoint& dj = d.by_parameter[j];
                b[j] += weight * (dj.x * ex + dj.y * ey);
                for (std::size_t k = j; k < n; ++k) {
                    a[j * n + k] +=
                        weight * (dj.x * d.by_parameter[k].x + dj.y * d.by_parameter[k].y);
                }
            }
        }
        const double noise = sigma * sigma / 2;  // of one coordinate
        for (std::size_t j = 0; j < n; ++j) {
            if (std::isinf(prior[j])) continue;
            a[j * n + j] += noise / (prior[j] * prior[j]);
            b[j] -= noise / (prior[j] * prior[j]) * map.theta()[j];
        }
        const std::vector<double> step = solve_symmetric(a, b);
        if (step.empty()) fail(Fault::internal, "the points do not fix the map");
        Parameters theta = map.theta();
        for (std::size_t j = 0; j < n; ++j) theta[j] += step[j];
        const CameraMap next(map.model(), map.geometry(), theta);

        // Stop when nothing moves
        double moved = 0;
        for (const PointPair& p : points) {
            const PixelPoint t0 = map(p.wide), t1 = next(p.wide);
            moved = std::max(moved, std::hypot(t1.x - t0.x, t1.y - t0.y) / scale);
        }
        map = next;
        if (moved < 1e-5) break;
    }
    return map;
}

std::vector<PixelPoint> check_grid(const PixelRect& area) {
    std::vector<PixelPoint> grid;
    for (int row = 0; row < 9; ++row) {
        for (int column = 0; column < 13; ++column) {
            grid.push_back({area.x + column / 12.0 * (area.width - 1),
                            area.y + row / 8.0 * (area.height - 1)});
        }
    }
    return grid;
}

CameraMap convert_map(const CameraMap& map, MotionModel model, const PixelRect& area) {
    std::vector<PointPair> points;
    for (const PixelPoint& x : check_grid(area)) points.push_back({x, map(x)});
    return fit_map(CameraMap(model, map.geometry()), points);
}

double rms_between(const CameraMap& a, const CameraMap& b, const PixelRect& area) {
    double sum = 0;
    const auto grid = check_grid(area);
    for (const PixelPoint& x : grid) {
        const PixelPoint ta = a(x), tb = b(x);
        sum += (ta.x - tb.x) * (ta.x - tb.x) + (ta.y - tb.y) * (ta.y - tb.y);
    }
    return std::sqrt(sum / static_cast<double>(grid.size())) / a.geometry().scale;
}

}  // namespace ultrasr
