// One scene from its files to its finished outputs (registration.md 10, 11).
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "acquisition/capture_set.h"
#include "acquisition/truth.h"
#include "data/base/json.h"
#include "registration/settings.h"

namespace ultrasr {

/// What the whole session says of one pair, from its other scenes.
struct SessionVerdict {
    std::optional<double> fixed_k;  ///< refit with this tele distortion
    std::string reject;             ///< reason to refuse the pair, or empty
    std::string note;               ///< e.g. `k_odd`, or empty; for the manifest
    bool changes_pair() const { return fixed_k || !reject.empty(); }
};

/// SHA-256 of files, each read once for all that ask for it, from any thread.
class FileSums {
  public:
    /// What the file held when it was first asked for. throws Error(input).
    std::string of(const std::filesystem::path& file);

  private:
    std::mutex mutex_;
    std::map<std::filesystem::path, std::string> sums_;
};

struct SceneJob {
    const CaptureScene* scene = nullptr;
    std::filesystem::path raw;  ///< file names in the record are relative to it
    std::filesystem::path out;
    const RegisterSettings* settings = nullptr;
    FileSums* sums = nullptr;   ///< of the run
    std::string settings_hash;  ///< with the truth's, when one is given
    const std::vector<PairTruth>* truth = nullptr;
    bool timing = true;                     ///< write seconds
    std::map<int, SessionVerdict> session;  ///< by scale
    std::map<int, Json> own_figures;  ///< by scale: what the pair found before the session spoke
};

/// Registers all pairs of a scene and writes pictures, HDF5, QA, pair.json and at last `done`.
///
/// What goes wrong with a file or a pair stands in the record; returns the record.
/// throws  Error(storage) when the outputs cannot be written, Interrupted
Json run_scene(const SceneJob& job);

/// The stored record of a scene when it is finished: `done` is there and settings, session and
/// sources are the same; else nothing.
std::optional<Json> finished_scene(const SceneJob& job);

/// Removes everything a scene has left in `out`.
void remove_scene_outputs(const std::filesystem::path& out, const std::string& scene);

/// A picture as the EXIF orientation (1 to 8) wants it to be seen.
cv::Mat oriented(const cv::Mat& picture, int orientation);

/// Name of a window's files: the scene's, with _w1 to _w4 when a pair has four.
std::string window_stem(const std::string& scene, int window, int windows);

}  // namespace ultrasr
