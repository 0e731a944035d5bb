// The stages of a run: what learns, what is minimised, what comes out.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/tensor/device.h"
#include "data/tensor/named_tensors.h"
#include "models/training/data.h"
#include "models/training/run_log.h"
#include "models/training/samples.h"
#include "models/training/settings.h"

namespace ultrasr {

/// In the order in which they build on each other.
constexpr std::array<std::string_view, 5> stage_names{"vae", "base", "teacher", "dml", "rsd"};

/// A micro-batch on the device.
struct MicroBatch {
    std::int64_t step = 0;           ///< before it is taken: 0 for the first
    std::uint64_t first = 0;         ///< sample index of the first picture, over the whole run
    at::Tensor hr;                   ///< N x 3 x P x P, [0,1]
    std::vector<at::Tensor> lr_up;   ///< the levels that levels() asked for
    std::vector<std::string> names;  ///< of the pictures
};

struct StageLoss {
    at::Tensor total;    ///< a scalar to be minimised, a mean over the pictures
    NamedNumbers parts;  ///< of which it is made, unweighted
    NamedNumbers more;   ///< what else is worth a line, means over pictures
};

/// Tensors that one optimiser steps and whose gradient is clipped as one.
struct ParameterGroup {
    std::string name;  ///< "" for the first; its tensors have the names of the networks' with
                       ///< "unet." or "vae." before them
    NamedTensors tensors;
};

struct Validation {
    NamedNumbers figures;                ///< names begin with val_
    std::vector<SampleColumn> pictures;  ///< one row a picture of the batch
};

class LearningStage {
  public:
    virtual ~LearningStage() = default;

    virtual std::vector<ParameterGroup> groups() const = 0;

    /// Scales of a step's pictures, s_t first; empty: HR alone.
    virtual SampleLevels levels(std::int64_t step) const = 0;

    /// Differentiable in all groups' tensors; each group's share of the total depends on that group
    /// alone, so that one backward pass serves all.
    virtual StageLoss loss(const MicroBatch& batch) = 0;

    /// On pictures that no step draws, without gradients.
    virtual Validation validate(const MicroBatch& batch) = 0;

    /// Called once at the end, with the pictures of validate() and the first group's tensors as
    /// they will be written.
    virtual void look_at(const MicroBatch&) {}

    /// Writes what the stage has made.
    ///
    /// learnt  the first group's tensors, or their averages
    virtual void write(const NamedTensors& learnt) = 0;
};

/// Where the parts of a run lie, and what a stage begins with.
struct RunFolders {
    explicit RunFolders(const TrainSettings& settings);

    std::filesystem::path base;               ///< the family that stages begin with
    std::filesystem::path teacher;            ///< what is given, or OUT/teacher
    std::filesystem::path encoder;            ///< what is given, or OUT/encoder
    std::filesystem::path own_base, student;  ///< OUT/base, OUT/student
};

/// throws Error(input) when what the stage builds on is missing or does not fit
std::unique_ptr<LearningStage> make_stage(std::string_view name, const TrainSettings& settings,
                                          const Placement& placement);

}  // namespace ultrasr
