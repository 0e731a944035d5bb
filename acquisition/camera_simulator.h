// A zoom series with known truth: draws the cameras, takes the frames, writes files and truth.json.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/base/fwd.h"
#include "data/base/geometry.h"

namespace ultrasr {

enum class TeleLens { corrected, uncorrected, mixed };
enum class RawFiles { none, bayer, linear };  ///< beside the JPEGs, as DNG
enum class Orientations {
    upright,  ///< every frame is tagged 1
    rolling,  ///< a tag a scene, and some frames differ; the pixels stay in sensor order
};

struct SimulatorOptions {
    std::filesystem::path out;
    std::vector<double> scales{8, 10, 12, 14};
    int count = 4;  ///< scenes
    std::uint64_t seed = 0;
    std::filesystem::path photos;             ///< folder of photographs; empty: dead leaves
    std::vector<std::string> faults{"none"};  ///< one a scene, in turn
    PixelSize size{6048, 4024};               ///< of every frame
    TeleLens tele = TeleLens::uncorrected;
    RawFiles raw = RawFiles::none;
    Orientations orientations = Orientations::upright;
    double exposure_ev = 1.5;   ///< tele frames are a third of this to this lighter or darker
    double chromatic_px = 0.3;  ///< lateral, in the corner of the wide frame; the tele's is drawn
    double haze_lr_px = 0;  ///< RMS of local shifts in every tele frame; fault `haze` draws its own
    bool s_curve = true;    ///< the camera's tone curve is S-shaped, by a drawn strength
    bool sharpening = true;  ///< the camera sharpens, by a drawn amount
    bool restart = false;    ///< redo finished scenes
};

struct SimulatorResult {
    std::filesystem::path truth;
    int scenes_made = 0;
    int scenes_kept = 0;  ///< finished earlier, left as they were
    int pairs = 0;
};

/// Names for `faults`: none, then those of simulated_faults.h.
const std::vector<std::string>& simulator_faults();

/// Simulates a series (registration.md 15).
///
/// Scene i is a function of the seed, i and the options (count apart); the number of threads
/// changes nothing. Finished scenes of the same options are kept; truth.json is rewritten after
/// each scene and says `complete` after the last.
///
/// throws Error(usage) for names, scales or sizes that this lens or model cannot have, Error(input)
///        for photographs, Error(storage), Interrupted
SimulatorResult simulate_series(const SimulatorOptions& options, Progress& progress);

}  // namespace ultrasr
