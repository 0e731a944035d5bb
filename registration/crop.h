// Where the delivered windows sit: LR in the wide frame, HR on its lattice times s.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "registration/camera_map.h"

namespace ultrasr {

/// How LR and HR sizes go together (registration.md 6).
enum class CropMode {
    multiple,  ///< HR = LR x s, the largest inside half the tele frame
    keep,      ///< HR 3024 x 2008 for all s (half the tele frame), LR rounded up
};

/// By name: multiple, keep. throws Error(usage).
CropMode crop_mode(std::string_view name);
std::string_view name_of(CropMode mode);

/// LR and HR of one window. HR pixel (i, j) has its centre at LR place
/// (lr.x - 0.5 + (i + 0.5) / s, lr.y - 0.5 + (j + 0.5) / s), whole-number centres.
struct CropWindow {
    PixelRect lr;     ///< of the wide frame
    PixelSize hr;     ///< HR size
    PixelSize other;  ///< HR size of the other mode, for the record
};

/// Sizes for a tele frame at scale s: windows of half the frame each way, 3024 x 2008 for 6048 x
/// 4024 (the half is rounded down to a multiple of 8, as the paper's is).
CropWindow crop_sizes(PixelSize tele, int scale, CropMode mode);

/// The windows of a pair (registration.md 6): one about the tele frame's centre, or the four
/// quadrant windows.
///
/// windows  1 or 4
/// returns  windows whose HR corners lie inside the tele frame with 8 px to spare and whose LR
///          window lies inside the wide frame, moved by whole LR pixels where necessary; those that
///          do not fit are left out
std::vector<CropWindow> place_crops(const CameraMap& map, int scale, CropMode mode, int windows);

}  // namespace ultrasr
