// Which files of a folder are one scene, which of them is the wide frame and which the tele frames.
#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "acquisition/shot.h"

namespace ultrasr {

/// A file or folder that was left out, and why.
struct SkippedFile {
    std::string name;  ///< relative to the capture folder
    /// `not_an_image: FILE`, `unreadable: FILE (why)`, `superseded: FILE (by FILE)` for a JPEG
    /// beside a RAW file, `no_scene: FILE (why)`, `no_time: FILE (...)`
    std::string reason;
};

/// The shots of one scene, ordered by time, then by name (natural order).
struct CaptureScene {
    std::string name;
    std::vector<Shot> shots;
    std::vector<SkippedFile> skipped;
    /// `orientation_differs`, `duplicate_scene_name`, `colour_profile_unknown: FILE`, `no_time`
    std::vector<std::string> notes;
};

struct CaptureSet {
    std::vector<CaptureScene> scenes;  ///< by name, natural order
    std::vector<SkippedFile> skipped;  ///< files that belong to no scene
};

struct GroupingOptions {
    double gap_s = 120;                      ///< a longer pause starts a new scene
    bool prefer_jpeg = false;                ///< of RAW and JPEG with one stem take the JPEG
    std::map<std::string, double> focal_mm;  ///< file name -> focal length, over EXIF
};

/// Groups the files of a capture folder (registration.md 9).
///
/// * Folders below it, at any depth, that hold shots are a scene each, named as the folder; a name
///   that comes again gets `_2`.
/// * Otherwise by scenes.csv (`file,scene,role`; role wide, tele, skip or empty).
/// * Otherwise by time. A new scene begins after a pause above `gap_s`, and where the focal length
///   falls back to the wide end after a longer one. Wide frames at the end of a series check the
///   tripod (registration.md 14), so the cut is put at the longest pause before the last of the
///   wide frames that lie between two series. A scene is named after its first file. Shots
///   without a time are left out, unless none has one: then all are one scene.
///
/// Hidden files, *.tmp, sidecars (.xmp, .json, ...) and scenes.csv are passed over in silence. A
/// file that cannot be read never stops the others.
///
/// throws Error(input) when the folder is missing or unreadable, when scenes.csv is broken, or it
///        or `focal_mm` names files that are not there
CaptureSet find_capture_set(const std::filesystem::path& folder,
                            const GroupingOptions& options = {});

/// Focal ratio of a tele shot to a wide one, by FocalLength, else by the 35 mm equivalents; nothing
/// when either lacks both.
std::optional<double> focal_ratio(const Shot& tele, const Shot& wide);

/// "9" before "10": runs of digits compare by value, the rest by bytes.
bool natural_less(std::string_view a, std::string_view b);

/// The roles in one scene: indices into scene.shots, in its order.
struct SceneRoles {
    std::vector<std::size_t> wide;                    ///< all frames at the shortest focal length
    std::map<double, std::vector<std::size_t>> tele;  ///< scale -> frames near it, best first
    std::vector<std::size_t> no_focal;                ///< shots without any focal length
};

/// Assigns roles (registration.md 9): each scale takes the focal length with |f/f_wide/s - 1|
/// smallest, at most 0.10, preferring f/f_wide >= s among those within 0.03 of the best; several
/// frames at that focal length (within 1 %) are all listed. Scales without a frame have an empty
/// list. A role given in scenes.csv wins over the focal length. Where some shots have FocalLength
/// and others only the 35 mm equivalent, the one that more of them have counts.
SceneRoles assign_roles(const CaptureScene& scene, const std::vector<double>& scales);

}  // namespace ultrasr
