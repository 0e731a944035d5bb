// What a degradation step is, and the list of all of them. The contents page of this folder.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/json.h"
#include "degradation/steps/blur_kernel.h"
#include "degradation/steps/planar.h"

namespace ultrasr {

/// Whose random fields a step draws: one output of one source picture.
struct Stream {
    std::uint64_t seed = 0;
    std::uint64_t id = 0;       ///< 48 bits: the source
    std::uint32_t variant = 0;  ///< 16 bits: epoch, crop or try
};

/// What a step may look at beside the picture, and what it may tell.
struct StepContext {
    Stream stream;
    /// Poisson vals of the mildest level, for steps that share them; set by the first such step.
    std::optional<int>* shared_vals = nullptr;
    /// Receives what was found in the picture (distinct levels, vals) or computed (a kernel's
    /// hash), for the record; null = nobody asks.
    Json* measured = nullptr;
};

/// One primitive with everything drawn: a pure function of the picture, its parameters and the
/// stream.
class Step {
  public:
    virtual ~Step() = default;
    /// picture  3 planes, RGB; may be taken over
    virtual Planar apply(Planar picture, StepContext& context) const = 0;
    /// What `make` would take to build this step again.
    virtual Json params() const = 0;
};
using StepPtr = std::shared_ptr<const Step>;

/// Arrays that are given instead of drawn ("kernel", "z", "counts"), for comparison with other
/// implementations.
using StepInputs = std::map<std::string, Planar, std::less<>>;

/// One entry of the list.
struct DegradationInfo {
    std::string_view name;     ///< as in records and apply-step
    std::string_view title;    ///< one line for people
    std::string_view source;   ///< paper, equation, section
    std::string_view example;  ///< parameters as JSON, for the help and the tests
    /// throws Error(input) that names the step and the key
    std::function<StepPtr(const Json& params, const StepInputs& given, Tier tier)> make;
};

/// All steps, in the order of the list.
std::span<const DegradationInfo* const> degradations();

/// throws Error(usage) that lists the known ones
const DegradationInfo& degradation(std::string_view name);

}  // namespace ultrasr
