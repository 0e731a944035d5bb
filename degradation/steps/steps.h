// The steps of second-order degradation with their parameters in the open, for the plan that makes
// them and for the twin that runs them on a GPU.
#pragma once
#include <optional>

#include "degradation/degradation.h"
#include "degradation/steps/blur.h"
#include "degradation/steps/jpeg.h"
#include "degradation/steps/noise.h"
#include "degradation/steps/resize.h"

namespace ultrasr {

class JsonFields;

struct UsmStep : Step {
    UsmOptions options;

    explicit UsmStep(UsmOptions o = {}) : options(o) {}
    Planar apply(Planar picture, StepContext& context) const override;
    Json params() const override;
};

struct BlurStep : Step {
    KernelSpec spec;    ///< unless the kernel was given
    BlurKernel kernel;  ///< made for the tier
    bool given = false;

    BlurStep(const KernelSpec& s, Tier tier) : spec(s), kernel(make_kernel(s, tier)) {}
    explicit BlurStep(BlurKernel k) : kernel(std::move(k)), given(true) {}
    Planar apply(Planar picture, StepContext& context) const override;
    Json params() const override;
};

struct ResizeStep : Step {
    ResizeMode mode = ResizeMode::bicubic;
    bool antialias = false;
    /// By a factor as interpolate(scale_factor) does it (T1), else to a size.
    std::optional<double> ratio;
    PixelSize size;

    Planar apply(Planar picture, StepContext& context) const override;
    Json params() const override;
    AxisSampling rows(int n) const;
    AxisSampling columns(int n) const;
};

/// The field that a noise step draws: slot and level of its stream.
struct FieldName {
    std::uint32_t slot = 128;
    std::uint32_t level = 0;

    /// Takes "field" and "level" of a step's parameters. throws Error(input) out of range
    static FieldName from_fields(JsonFields& fields, std::uint32_t slot_otherwise);
    StreamKey key(const Stream& stream) const {
        return {stream.seed, stream.id, stream.variant, slot, level};
    }
};

struct GaussianNoiseStep : Step {
    double sigma = 0;  ///< in 1/255
    bool gray = false;
    FieldName field;
    /// The field is drawn at this size, no side smaller than the picture's, and brought to the
    /// picture's by nested_field; none: drawn at the picture's.
    std::optional<PixelSize> nested_from;
    std::optional<Planar> z;  ///< given instead of drawn

    Planar apply(Planar picture, StepContext& context) const override;
    Json params() const override;
};

/// Where Poisson noise takes its number of photons from (T7).
enum class PoissonVals {
    content,  ///< the picture's distinct levels
    shared,   ///< those of the mildest level
    fixed,    ///< a given number
};

struct PoissonNoiseStep : Step {
    double scale = 1;
    bool gray = false;
    PoissonVals source = PoissonVals::content;
    int vals = 0;  ///< when fixed
    FieldName field;
    std::optional<Planar> counts;  ///< given instead of drawn

    Planar apply(Planar picture, StepContext& context) const override;
    Json params() const override;
};

enum class JpegBackend { diff, turbo };

struct JpegStep : Step {
    double quality = 90;
    JpegBackend backend = JpegBackend::diff;
    JpegPadding padding = JpegPadding::zero;

    Planar apply(Planar picture, StepContext& context) const override;
    Json params() const override;
};

/// To [0,1], and to the 256 levels k / 255: half to even, or cut (FeMaSR, T16).
enum class Levels { any, rounded, truncated };

struct ClampStep : Step {
    Levels levels = Levels::any;

    explicit ClampStep(Levels l = Levels::any) : levels(l) {}
    Planar apply(Planar picture, StepContext& context) const override;
    Json params() const override;
};

}  // namespace ultrasr
