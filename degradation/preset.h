// Published and own parameter sets of the degradation, by name, from JSON or from a Real-ESRGAN
// yml.
#pragma once
#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/json.h"
#include "degradation/extra_steps.h"
#include "degradation/steps/resize.h"
#include "degradation/steps/steps.h"

namespace ultrasr {

struct Range {
    double low = 0, high = 0;
    bool operator==(const Range&) const = default;
};

/// Which of a stage's draws make a kernel (degradation.md 1.2).
struct KernelDraws {
    /// Weights of iso, aniso, generalized_iso, generalized_aniso, plateau_iso, plateau_aniso.
    std::array<double, 6> type_weights{0.45, 0.25, 0.12, 0.03, 0.12, 0.03};
    double sinc_prob = 0.1;
    Range sigma{0.2, 3};
    Range beta_generalized{0.5, 4}, beta_plateau{1, 2};
    int fixed_size = 0;  ///< 0: drawn from 7, 9 ... 21
};

/// One of the two stages.
struct StageDraws {
    double blur_prob = 1;
    KernelDraws kernel;
    std::array<double, 3> resize_weights{0.2, 0.7, 0.1};  ///< up, down, keep
    Range resize{0.15, 1.5};
    double gaussian_noise_prob = 0.5;  ///< else Poisson
    Range noise{1, 30};                ///< sigma in 1/255
    Range poisson_scale{0.05, 3};
    double gray_noise_prob = 0.4;
    Range jpeg{30, 95};
};

/// The order of steps that a preset's draws fill in.
enum class Pipeline {
    second_order,  ///< Real-ESRGAN (degradation.md 1.1)
    bsrgan,        ///< seven operations shuffled (2.1)
    bsrgan_plus,   ///< thirteen operations shuffled
    femasr,        ///< bsrgan with a pre-step and LR cut to 8 bits
    one_order,     ///< blur, downscale, noise, JPEG: faces
};

enum class Antialias { off, on, drawn };  ///< drawn: with resize_antialias_prob
enum class Quantise {
    lr,                 ///< rounded to 8 bits at LR size
    after_resize_back,  ///< only after it was brought back to GT size (T12)
    none,               ///< clamped
    truncate,           ///< cut to 8 bits at LR size (T16)
};
enum class ResizeBack { none, drawn, area, bilinear, bicubic };
enum class LrSizeRule { floor, round, ceil, exact_crop, fixed_lr };
enum class BlurScale { none, bsrgan };
enum class GtSaved { plain, usm };
/// Stage 2's Gaussian fields of levels that share their draws (degradation.md 3.4).
enum class Noise2Field {
    independent,  ///< each level has its own
    nested,       ///< the largest picture's, averaged to the sizes of the others
};

/// Everything that the draws of one level depend on.
struct Preset {
    std::string name, title, source;
    Pipeline pipeline = Pipeline::second_order;
    StageDraws stage1, stage2;
    double final_sinc_prob = 0.8;
    double no_degradation_prob = 0;

    // What is not drawn
    bool usm = false;
    GtSaved gt_saved = GtSaved::plain;
    Quantise quantise = Quantise::lr;
    ResizeBack resize_back = ResizeBack::none;
    bool resize1_exact = false;   ///< true: step in / out; false: T1
    bool resize1_scaled = false;  ///< lower end of stage 1's factor becomes 0.6 / s
    int resize2_min_px = 0;       ///< least side after stage 2's resize, by a larger factor
    Antialias antialias = Antialias::off;
    double antialias_prob = 0.5;
    BlurScale blur_scale = BlurScale::none;
    JpegPadding jpeg_padding = JpegPadding::zero;
    JpegBackend jpeg_backend = JpegBackend::diff;
    PoissonVals poisson_vals = PoissonVals::content;  ///< fixed: 256
    /// Counts under the couplings stage1 and comonotone; the others have no field in common.
    Noise2Field noise2_field = Noise2Field::independent;
    LrSizeRule lr_size_rule = LrSizeRule::floor;
    double hflip_prob = 0.5, vflip_prob = 0, transpose_prob = 0;
    int patch = 512;  ///< GT side; 0: whole pictures
    std::vector<ExtraStep> extra_steps;
    int paired_crop = 0;  ///< GT side of a second crop after degrading (1.11); 0: none

    /// All options, keys as in Real-ESRGAN's files where those have one.
    Json json() const;
};

/// Keys that a file carried and nothing uses, for a notice.
struct ImportedPreset {
    Preset preset;
    std::vector<std::string> notices;
};

/// The names, in the order of degradation.md 3.3.
const std::vector<Preset>& presets();

/// A name of the list, a .json (keys over those of its "base" preset, default realesrgan) or a .yml
/// of Real-ESRGAN, StableSR, PiSA-SR ...
///
/// throws Error(usage) for an unknown name, listing the known; Error(input) for a file with unknown
///        keys, ranges with low > high, weights that sum to 0
ImportedPreset load_preset(const std::string& name_or_file);

/// From JSON with all or some keys of Preset::json(), over `base`.
ImportedPreset preset_from_json(const Json& json, const Preset& base, const std::string& what);

}  // namespace ultrasr
