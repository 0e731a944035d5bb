// Units and frames: pixel (0,0) covers [0,1) x [0,1), its centre is (0.5, 0.5).
#pragma once
#include <compare>

namespace ultrasr {

/// Width and height in pixels.
struct PixelSize {
    int width = 0;
    int height = 0;
    bool operator==(const PixelSize&) const = default;
};

/// Half-open rectangle [x, x + width) x [y, y + height), corner-based pixel coordinates.
struct PixelRect {
    int x = 0;
    int y = 0;
    int width = 0;
    int height = 0;
    bool operator==(const PixelRect&) const = default;
};

/// A place in a picture. The frame is the function's to state: corner-based as above, or, in
/// acquisition and registration, with pixel centres at whole numbers (what OpenCV, truth.json and
/// pair.json use): x_corner = x_whole + 0.5.
struct PixelPoint {
    double x = 0;
    double y = 0;
    bool operator==(const PixelPoint&) const = default;
};

/// HR pixels per LR pixel on one axis.
struct Scale {
    double ratio = 1.0;
    auto operator<=>(const Scale&) const = default;
};

}  // namespace ultrasr
