// Whether a capture will give pairs, told before anybody drives home.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "acquisition/capture_set.h"
#include "acquisition/frame_shift.h"
#include "data/base/fwd.h"
#include "data/base/json.h"

namespace ultrasr {

/// Limits of registration.md 5, 7, 12 and 14.
struct CheckOptions {
    std::filesystem::path folder;
    GroupingOptions grouping;
    std::vector<double> scales{8, 10, 12, 14};
    double tripod_px = 0.05;       ///< first against last wide frame, RMS over the tele's footprint
    double burnt_share = 0.02;     ///< above: colours cannot be matched
    double burnt_reject = 0.20;    ///< above: the pair is rejected
    double highlight = 0.80;       ///< where the brightest 0.1 % shall end, of the coded range
    double textured_share = 0.02;  ///< least share of blocks with something in them
    double sharp_blocks = 0.10;    ///< least share of textured blocks as sharp as sigma 3 px
    double relative_detail = 0.5;  ///< of the best frame at the same focal length in the scene
};

/// problem: a pair will fail or be rejected. remark: against the capture guide (the pair may pass
/// all the same), or what cannot be told.
enum class Severity { problem, remark };

struct Finding {
    Severity severity = Severity::problem;
    std::string code;  ///< one word: missing_focal, no_focal, single_image, exposure_differs, ...
    std::string text;  ///< one sentence, what to do in it
};

/// What the pixels of the middle (half of the frame each way) say.
///
/// Sharpness, of a block of 64 x 64: the mean squared gradient after a Gaussian of 1 px, over that
/// after one of sqrt(5) px. A tenth of the gradient before any blur is taken off the former, which
/// is what noise leaves there: without it a frame out of focus looks sharp by its noise. A step
/// blurred by sigma gives sqrt(5 + sigma^2) (1 / sqrt(1 + sigma^2) - 0.1 / sigma): 1.06 for 3 px.
struct FrameLook {
    double burnt = 0;            ///< share of pixels with a channel at 252 of 255 or above
    double highlight = 0;        ///< 99.9th percentile of the brightest channel, [0,1], coded
    double textured_blocks = 0;  ///< share of blocks with a coded spread above 0.03
    double sharp_blocks = 0;     ///< share of those that reach 1.06
    double sharpness = 0;        ///< over the textured blocks
    double detail = 0;           ///< mean of the gradient after 1 px, less noise; all blocks
};

struct FrameReport {
    std::string file;  ///< name in its folder
    std::optional<double> focal_mm;
    std::string role;               ///< "wide", "x8", "x8 x10" or ""
    std::optional<FrameLook> look;  ///< nothing when the pixels cannot be read
};

struct TripodReport {
    std::string first, last;  ///< files
    FrameShift shift;
};

struct SceneReport {
    std::string name;
    std::vector<FrameReport> frames;  ///< in the order of the scene
    std::optional<TripodReport> tripod;
    std::vector<std::string> notes;
    std::vector<SkippedFile> skipped;
    std::vector<Finding> findings;
};

struct CheckReport {
    std::vector<SceneReport> scenes;
    std::vector<SkippedFile> skipped;
    std::size_t count(Severity severity) const;
};

/// Measures burnt spots and sharpness.
/// rgb  CV_8UC3, sRGB-encoded, at least 64 x 64
FrameLook look_at(const cv::Mat& rgb);

/// Groups, reads and judges a capture folder. A file that cannot be read is a finding.
/// throws Error(input) as find_capture_set does, and when there is no picture at all
CheckReport check_capture(const CheckOptions& options, Progress& progress);

/// For people: a paragraph a scene, the counts last.
std::string check_text(const CheckReport& report);

Json check_json(const CheckReport& report);

}  // namespace ultrasr
