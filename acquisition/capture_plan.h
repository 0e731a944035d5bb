// What to set on the camera before a zoom series: focal lengths, depth, the checklist.
#pragma once
#include <string>
#include <vector>

#include "data/base/json.h"

namespace ultrasr {

struct PlanOptions {
    double wide_mm = 28;
    double longest_mm = 400;  ///< the lens' longest focal length
    std::vector<double> scales{8, 10, 12, 14};
    double f_number = 8;
    double distance_m = 30;       ///< of the thing in the middle of the picture
    double pixel_um = 5.936;      ///< pixel pitch: Z 6 II, 35.9 mm / 6048
    double pupil_shift_m = 0.1;   ///< how far the entrance pupil moves from wide to tele (assumed)
    double parallax_lr_px = 0.1;  ///< what it may move in the corner of the crop
};

/// From `near_m` to `far_m`, which may be infinite.
struct DepthRange {
    double near_m = 0;
    double far_m = 0;
    double depth_m() const { return far_m - near_m; }
};

/// One position of the zoom ring.
struct PlannedFrame {
    double scale = 1;               ///< 1 = the wide frame
    double from_mm = 0, to_mm = 0;  ///< set the ring between them; rather longer than shorter
    bool reachable = true;          ///< false when the lens ends before `from_mm`
    DepthRange sharp;               ///< blur circle within one pixel, focused at the distance
    DepthRange parallax;            ///< depth within the limit about the distance; tele frames only
    double anything_from_m = 0;     ///< with nothing nearer than this the depth is free
    double crop_width_m = 0, crop_height_m = 0;  ///< what the delivered crop shows
};

struct CapturePlan {
    PlanOptions options;
    std::vector<PlannedFrame> frames;  ///< wide, then the scales in ascending order
};

/// Computes a plan.
///
/// sharp     thin lens: H = f^2 / (N c) + f, c = one pixel; Z (H - f) / (H + Z - 2 f) to
///           Z (H - f) / (H - Z)
/// parallax  r t |1/Z1 - 1/Z2| <= limit, r = half the diagonal of the crop in LR pixels, t the
///           pupil's shift
/// throws    Error(usage) for values without sense
/// Source: registration.md 14
CapturePlan plan_capture(const PlanOptions& options);

/// For people: a table and the checklist.
std::string plan_text(const CapturePlan& plan);

Json plan_json(const CapturePlan& plan);

}  // namespace ultrasr
