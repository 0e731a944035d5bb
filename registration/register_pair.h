// One wide and one tele frame become one LR-HR pair with everything that is known about it.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "acquisition/shot.h"
#include "registration/coarse.h"
#include "registration/own_error.h"
#include "registration/photometric.h"
#include "registration/refine.h"
#include "registration/settings.h"

namespace ultrasr {

/// The wide frame of a scene: its middle stays in memory, the rest is decoded again when asked for.
class WideFrame {
  public:
    /// throws Error(input) when the file is broken
    WideFrame(const Shot& shot, const std::optional<WhiteBalance>& white_balance);

    PixelSize size() const { return shot_.size; }
    const Shot& shot() const { return shot_; }
    bool is_16bit() const { return part_.is_16bit(); }

    /// The frame's pixels of `area` (cut to the frame), as a frame of their own.
    Frame part(const PixelRect& area);

    /// All of it, decoded again.
    Frame whole() const;

  private:
    Shot shot_;
    std::optional<WhiteBalance> white_balance_;
    PixelRect held_;
    Frame part_;
};

enum class Verdict { ok, ok_masked, reject, error };
std::string_view name_of(Verdict verdict);

/// One delivered window.
struct PairWindow {
    CropWindow crop;
    OwnError error;
    TeleSharpness sharpness;
    std::vector<Gate> gates;
    PhotometricFit photometric;
    double step = 1;  ///< tele pixels per HR pixel
    double hr_burnt_share = 0;
    Verdict verdict = Verdict::reject;
    std::string reason;  ///< of a rejection: the first gate, with its figure
    std::vector<std::string> notes;
    cv::Mat lr8, hr8;    ///< CV_8UC3, RGB, sRGB; empty when rejected and not to be kept
    cv::Mat lr16, hr16;  ///< CV_16UC3, RAW sources only
    cv::Mat weight;      ///< CV_32F, LR size
    cv::Mat hr_small;    ///< CV_32FC3, linear, HR at LR scale before photometric matching (QA)
};

struct PairResult {
    int scale = 0;
    PairGeometry geometry;
    CoarseEstimate coarse;
    PixelFit fit;             ///< fit.map is the result, also without pixel refinement
    bool registered = false;  ///< a map was found
    double scale_true = 0;    ///< map's scale at the window's middle
    std::vector<PairWindow> windows;
    std::string reason;  ///< when there is no window: why
    std::vector<std::string> notes;
    int turned = 0;  ///< degrees by which the tele frame's pixels were turned first
    std::map<std::string, double> seconds;
};

/// The prior: nominal tele pixels per wide pixel and the wide focal length (registration.md 4.1).
/// nullopt with `reason` when there is no focal length or the sensors do not go together.
std::optional<PairGeometry> prior_of(const Shot& wide, const Shot& tele, std::string& reason);

/// Registers one tele frame against the wide frame (registration.md 4 to 7).
///
/// tele     taken over, so that its pixels go as soon as they are not needed
/// fixed_k  hold the tele distortion at this value (--session-k)
/// throws   Error of the frames; what a pair may be refused for is in the result
PairResult register_pair(WideFrame& wide, Frame tele, const PairGeometry& geometry, int scale,
                         const RegisterSettings& settings,
                         const std::optional<double>& fixed_k = {});

}  // namespace ultrasr
