#include "registration/crop.h"

#include <algorithm>
#include <cmath>

#include "data/base/error.h"

namespace ultrasr {
namespace {

constexpr double spare = 8;  // HR px between a corner and the tele frame's border

/// How far, in whole LR pixels, a window must move so that its HR corners lie inside; nothing when
/// it cannot.
std::optional<CropWindow> moved_inside(const CameraMap& map, CropWindow window, int scale) {
    const PixelSize tele = map.geometry().tele;
    const PixelSize wide = map.geometry().wide;
    for (int attempt = 0; attempt < 200; ++attempt) {
        // Overshoot of the four corners beyond each side, tele pixels
        double left = 0, right = 0, above = 0, below = 0;
        for (const int i : {0, window.hr.width - 1}) {
            for (const int j : {0, window.hr.height - 1}) {
                const PixelPoint t = map(
                    {window.lr.x - 0.5 + (i + 0.5) / scale, window.lr.y - 0.5 + (j + 0.5) / scale});
                left = std::max(left, spare - t.x);
                right = std::max(right, t.x - (tele.width - 1 - spare));
                above = std::max(above, spare - t.y);
                below = std::max(below, t.y - (tele.height - 1 - spare));
            }
        }
        if (window.lr.x < 0) left = std::max(left, -window.lr.x * static_cast<double>(scale));
        if (window.lr.y < 0) above = std::max(above, -window.lr.y * static_cast<double>(scale));
        const int over_x = window.lr.x + window.lr.width - wide.width;
        const int over_y = window.lr.y + window.lr.height - wide.height;
        if (over_x > 0) right = std::max(right, over_x * static_cast<double>(scale));
        if (over_y > 0) below = std::max(below, over_y * static_cast<double>(scale));
        if ((left > 0 && right > 0) || (above > 0 && below > 0)) return std::nullopt;
        if (left == 0 && right == 0 && above == 0 && below == 0) return window;
        const auto pixels = [&](double amount) {
            return amount > 0 ? std::max(1, static_cast<int>(amount / scale)) : 0;
        };
        window.lr.x += pixels(left) - pixels(right);
        window.lr.y += pixels(above) - pixels(below);
    }
    return std::nullopt;
}

}  // namespace

CropMode crop_mode(std::string_view name) {
    if (name == "multiple") return CropMode::multiple;
    if (name == "keep") return CropMode::keep;
    fail(Fault::usage, "unknown crop mode '{}'; known: multiple, keep", name);
}

std::string_view name_of(CropMode mode) { return mode == CropMode::keep ? "keep" : "multiple"; }

CropWindow crop_sizes(PixelSize tele, int scale, CropMode mode) {
    const PixelSize half{tele.width / 2 / 8 * 8, tele.height / 2 / 8 * 8};
    const PixelSize down{half.width / scale, half.height / scale};
    const PixelSize up{(half.width + scale - 1) / scale, (half.height + scale - 1) / scale};
    const PixelSize multiple{down.width * scale, down.height * scale};
    if (mode == CropMode::keep) return {{0, 0, up.width, up.height}, half, multiple};
    return {{0, 0, down.width, down.height}, multiple, half};
}

std::vector<CropWindow> place_crops(const CameraMap& map, int scale, CropMode mode, int windows) {
    const CropWindow sizes = crop_sizes(map.geometry().tele, scale, mode);
    const PixelSize tele = map.geometry().tele;
    std::vector<CropWindow> placed;
    const int side = windows == 4 ? 2 : 1;
    for (int k = 0; k < windows; ++k) {
        // The tele place the window is centred on: the middle, or that of a quadrant
        const double share_x = side == 1 ? 0.5 : 0.25 + 0.5 * (k % side);
        const double share_y = side == 1 ? 0.5 : 0.25 + 0.5 * (k / side);
        const PixelPoint centre =
            map.inverse({share_x * tele.width - 0.5, share_y * tele.height - 0.5});
        CropWindow window = sizes;
        // `keep`: HR begins at the corner of LR pixel (0, 0); LR may reach further
        const double lr_width =
            mode == CropMode::keep ? static_cast<double>(sizes.hr.width) / scale : sizes.lr.width;
        const double lr_height =
            mode == CropMode::keep ? static_cast<double>(sizes.hr.height) / scale : sizes.lr.height;
        window.lr.x = static_cast<int>(std::lround(centre.x + 0.5 - lr_width / 2));
        window.lr.y = static_cast<int>(std::lround(centre.y + 0.5 - lr_height / 2));
        if (const auto inside = moved_inside(map, window, scale)) placed.push_back(*inside);
    }
    return placed;
}

}  // namespace ultrasr
