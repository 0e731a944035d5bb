// Small simulated zoom series to register, and what is expected of the answers.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "acquisition/exif.h"
#include "data/base/json.h"
#include "tests/cli/program.h"

namespace ultrasr::test {

/// Two scenes of 2016 x 1342 pixels, wide and tele frames at x8 and x14, with truth.json; made by
/// ultrasr-acquire once in a process.
const std::filesystem::path& series();

/// A frame of it: scene 1 or 2; scale 8 or 14, or 1 for the wide frame.
std::filesystem::path frame_of(int scene, int scale);

/// Copies the wide frame and those at `scales` into `folder` as wide.jpg, tele8.jpg, tele14.jpg.
void copy_scene(int scene, const std::filesystem::path& folder,
                const std::vector<int>& scales = {8});

/// Four scenes at x8: `a` and `b`; `odd`, whose tele lens distorts more by 0.008; `soft`, whose
/// tele frame is blurred so that it fails session_sharpness=0.7 and nothing else.
void make_session(const std::filesystem::path& folder);

/// Writes a JPEG again with other tags, the pixels' bytes as they are.
void change_exif(const std::filesystem::path& jpeg, const std::function<void(Exif&)>& change);

/// Writes a JPEG again with other pixels (CV_8UC3, RGB, sensor order), tags as they are.
void change_pixels(const std::filesystem::path& jpeg, const std::function<void(cv::Mat&)>& change);

/// Any picture that OpenCV reads: RGB, depth as stored, no orientation applied.
cv::Mat pixels_of(const std::filesystem::path& picture);

/// ultrasr-register `raw` `out` at x8 without pictures to look at; more words may follow.
Ended register_run(const std::filesystem::path& raw, const std::filesystem::path& out,
                   const std::vector<std::string>& more = {});

/// The same with exactly these words behind the two folders.
Ended register_plain(const std::filesystem::path& raw, const std::filesystem::path& out,
                     const std::vector<std::string>& words = {});

Json json_in(const std::filesystem::path& file);
Json manifest_in(const std::filesystem::path& out);

/// The scene's record; the record of its first pair at a scale, window 0.
Json scene_in(const std::filesystem::path& out, const std::string& scene);
Json pair_in(const std::filesystem::path& out, const std::string& scene, int scale = 8);

/// Verdict and reason in one: "ok", "reject no_match: 3 inliers, correlation 0.11".
std::string verdict_in(const std::filesystem::path& out, const std::string& scene, int scale = 8);

}  // namespace ultrasr::test
