// Resizing of planar pictures as PyTorch's interpolate does it, and OpenCV's and MATLAB's variants
// that the BSRGAN family uses.
#pragma once
#include <string_view>
#include <vector>

#include "degradation/steps/planar.h"

namespace ultrasr {

enum class ResizeMode {
    area,            ///< mean over integer bins (adaptive average pooling), up and down
    bilinear,        ///< two taps; with antialias a triangle as wide as the step
    bicubic,         ///< Keys, A = -0.75, four taps; with antialias A = -0.5 and stretched
    area_cv,         ///< OpenCV's INTER_AREA: partial pixels count by their share; linear on both
                     ///< axes when one of them grows
    bicubic_matlab,  ///< MATLAB's imresize: Keys, A = -0.5, stretched when shrinking, mirrored
                     ///< edges
};

/// throws Error(usage) that lists the known ones
ResizeMode resize_mode(std::string_view name);
std::string_view resize_mode_name(ResizeMode mode);

/// How n samples become m.
struct AxisSampling {
    int n = 1, m = 1;
    double step = 1;    ///< source pixels per output pixel
    bool copy = false;  ///< the axis stays as it is
};

/// The step is n / m: the whole of the input maps to the whole of the output.
AxisSampling sampling_to(int n, int m);

/// As interpolate(scale_factor = ratio) since PyTorch 1.6: m = floor(n ratio), and the step is
/// 1 / ratio although m may be cut off, so that up to an output pixel at the far end is lost (T1).
/// Bilinear copies an axis that keeps its length; area takes n / m.
AxisSampling sampling_by(int n, double ratio, ResizeMode mode);

/// The taps of every output of an axis: output i is the sum over t of weight[i * taps + t] times
/// input index[i * taps + t].
struct AxisTaps {
    int taps = 1;
    std::vector<int> index;
    std::vector<float> weight;
};

/// For every mode but area. throws Error(internal) for area.
AxisTaps axis_taps(const AxisSampling& axis, ResizeMode mode, bool antialias);

/// Both axes of a picture, for every mode but area: area_cv looks at the two together.
struct PictureTaps {
    AxisTaps rows, columns;
};
PictureTaps picture_taps(const AxisSampling& rows, const AxisSampling& columns, ResizeMode mode,
                         bool antialias);

/// Resizes by two axes. Values may leave [0,1] (bicubic).
///
/// Source: degradation.md 1.6 and its corrections 2 to 4; torch 2.11's
/// torch.nn.functional.interpolate with align_corners=False.
Planar resize(const Planar& picture, const AxisSampling& rows, const AxisSampling& columns,
              ResizeMode mode, bool antialias = false);

/// To a size, the step n / m.
Planar resize_to(const Planar& picture, PixelSize size, ResizeMode mode, bool antialias = false);

}  // namespace ultrasr
