// What may go wrong with a simulated pair, each fault with its size drawn.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "acquisition/frame_draw.h"
#include "acquisition/simulated_scene.h"

namespace ultrasr {

/// none and, by registration.md 15: moving, parallax, defocus_tele, defocus_wide, shake, other,
/// haze, depth, broken.
const std::vector<std::string>& fault_names();

/// A scene's fault, the part that its wide frame shows.
struct SceneFault {
    std::string name = "none";
    std::vector<Cutout> things;     ///< moving, parallax, depth: where they lie in the wide frame
    std::vector<double> distances;  ///< depth: of each thing, metres
    double wide_sigma_px = 0;       ///< defocus_wide
    double broken_scale = 0;        ///< broken: whose tele file is cut off
};

/// The part of a pair.
struct PairFault {
    std::string name = "none";
    Json details;                 ///< sizes, for truth.json
    std::vector<Cutout> cutouts;  ///< what the tele frame sees before the world
    std::optional<ShiftField> air;
    double tele_sigma_px = 0;  ///< defocus_tele, HR px
    double shake_dx_px = 0, shake_dy_px = 0;
    bool other_world = false;
    double kept_share = 1;  ///< broken: of the file
};

/// detail  the part of the world that tele frames may show
SceneFault draw_scene_fault(const SimulatorOptions& options, int scene, const FrameDraw& wide,
                            const WorldRect& detail);

/// tele  as drawn
PairFault draw_pair_fault(const SimulatorOptions& options, int scene, double scale,
                          const SceneFault& fault, const FrameDraw& wide, const FrameDraw& tele,
                          const WorldRect& detail);

}  // namespace ultrasr
