// What can be chosen about a registration run.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "data/base/json.h"
#include "registration/alignment.h"
#include "registration/camera_map.h"
#include "registration/crop.h"
#include "registration/keypoints.h"
#include "registration/own_error.h"
#include "registration/photometric.h"

namespace ultrasr {

/// How a pair is registered and judged. Everything here changes results and is part of the hash.
struct RegisterSettings {
    std::vector<int> scales{8, 10, 12, 14};
    CropMode crop = CropMode::multiple;
    Normalisation norm = Normalisation::local;
    MotionModel model = MotionModel::camera;
    bool refine_pixels = true;  ///< false: the fit to the keypoints is the result (the paper's way)
    Brightness brightness = Brightness::basis;
    Photometric photometric = Photometric::curve;
    bool warp_lr = false;  ///< resample LR instead of HR, as RealSR does
    int windows = 1;       ///< 1 or 4 a tele frame
    bool strict = false;   ///< no `ok_masked`
    bool keep_rejected = false;
    bool qa = true;
    bool near = false;        ///< focus breathing: scale may be off by 15 %
    bool try_turned = false;  ///< tags differ: try turned frames when nothing matches
    bool prefer_jpeg = false;
    bool session_k = false;  ///< refit odd tele distortions with the session's median
    std::uint64_t seed = 0;  ///< of the samples that MAGSAC draws
    double gap_s = 120;
    std::map<std::string, double> focal_mm;  ///< by file name
    GateLimits limits = known_limits();
};

/// All settings with their values; its SHA-256 tells whether a stored scene is still valid.
Json settings_to_json(const RegisterSettings& settings);
std::string settings_hash(const RegisterSettings& settings);

}  // namespace ultrasr
