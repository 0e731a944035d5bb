#include "registration/true_error.h"

#include <cmath>

namespace ultrasr {

PixelPoint as_decoded(PixelPoint p, PixelSize decoded, int degrees) {
    if (degrees == 90) return {p.y, decoded.height - 1 - p.x};
    if (degrees == 180) return {decoded.width - 1 - p.x, decoded.height - 1 - p.y};
    if (degrees == 270) return {decoded.width - 1 - p.y, p.x};
    return p;
}

double true_error(const PairTruth& truth, const CameraMap& map, const PixelRect& crop, int turned) {
    double sum = 0;
    const auto grid = check_grid(crop);
    for (const PixelPoint& x : grid) {
        const PixelPoint a = as_decoded(map(x), truth.tele.size, turned), b = to_tele(truth, x);
        sum += (a.x - b.x) * (a.x - b.x) + (a.y - b.y) * (a.y - b.y);
    }
    return std::sqrt(sum / static_cast<double>(grid.size())) / truth.scale_true;
}

}  // namespace ultrasr
