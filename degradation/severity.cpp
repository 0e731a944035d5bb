#include "degradation/severity.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "degradation/steps/resize.h"

namespace ultrasr {

Severity severity_of(const Planar& lr, const Planar& gt) {
    Severity out;
    const Planar up = resize_to(lr, gt.size(), ResizeMode::bicubic);
    double square = 0;
    for (int c = 0; c < gt.channels(); ++c) {
        for (int y = 0; y < gt.height(); ++y) {
            const float *a = up.row(c, y), *b = gt.row(c, y);
            float row = 0;
            for (int x = 0; x < gt.width(); ++x) {
                const float d = std::clamp(a[x], 0.0F, 1.0F) - b[x];
                row += d * d;
            }
            square += static_cast<double>(row);
        }
    }
    const double mse = square / static_cast<double>(gt.values());
    out.psnr = mse > 0 ? -10 * std::log10(mse) : std::numeric_limits<double>::infinity();

    double energy = 0, pairs = 0;
    for (int c = 0; c < lr.channels(); ++c) {
        for (int y = 0; y < lr.height(); ++y) {
            const float* row = lr.row(c, y);
            const float* next = y + 1 < lr.height() ? lr.row(c, y + 1) : nullptr;
            for (int x = 0; x < lr.width(); ++x) {
                if (x + 1 < lr.width()) {
                    energy += static_cast<double>((row[x + 1] - row[x]) * (row[x + 1] - row[x]));
                    ++pairs;
                }
                if (next) {
                    energy += static_cast<double>((next[x] - row[x]) * (next[x] - row[x]));
                    ++pairs;
                }
            }
        }
    }
    out.gradient_energy = pairs > 0 ? energy / pairs : 0;
    return out;
}

}  // namespace ultrasr
