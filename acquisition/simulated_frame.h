// One whole frame of the simulated camera, in strips over the cores.
#pragma once
#include <array>
#include <opencv2/core/mat.hpp>

#include "acquisition/lens_render.h"
#include "acquisition/sensor.h"

namespace ultrasr {

/// The sensor's numbers: black + (white - black) x signal x response, clipped to [0, white].
struct RawFormat {
    enum class Kind { none, mosaic, whole };
    Kind kind = Kind::none;  ///< mosaic: RGGB, red in the left upper corner
    int black = 0, white = 65535;
    std::array<double, 3> response{0.51, 1, 0.69};  ///< to daylight, relative to green
};

/// A frame to be taken. `scene` is borrowed.
struct FrameJob {
    const SimulatedScene* scene = nullptr;
    LensView view;
    Blur blur;
    Exposure exposure;
    PictureLook look;
    int samples = 1;  ///< per pixel each way
    /// A part that is sampled more finely (empty: none), cut to the frame.
    PixelRect fine;
    int fine_samples = 1;
    RawFormat raw;
};

struct TakenFrame {
    cv::Mat rgb;  ///< CV_8UC3, the camera's own picture
    cv::Mat raw;  ///< CV_16UC1 (mosaic) or CV_16UC3 (whole), before white balance
};

/// Renders, exposes and develops. The result does not depend on the number of threads (TBB's).
/// throws Interrupted
TakenFrame take_frame(const FrameJob& job);

}  // namespace ultrasr
