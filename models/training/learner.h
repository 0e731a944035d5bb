// What a stage learns with: optimisers, averages and loss scale of its tensors, and how a step's
// pictures become their gradients.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "models/training/checkpoint.h"
#include "models/training/learning_stages.h"
#include "models/training/optimizer.h"
#include "models/training/processes.h"
#include "models/training/settings.h"

namespace ultrasr {

/// Everything of a stage that a checkpoint holds.
class Learner {
  public:
    /// half  scale the loss, for fp16
    Learner(LearningStage& stage, const TrainSettings& settings, const StageSettings& own,
            bool half);

    double loss_scale() const { return scale_ ? scale_->value() : 1.0; }
    bool scaled() const { return scale_.has_value(); }
    std::int64_t skipped() const { return skipped_; }
    double rate(std::int64_t step) const { return rate_.at(step); }
    std::int64_t parameters() const;

    /// Gradients of all groups as one list, for processes to average.
    std::vector<at::Tensor> gradients() const;

    /// Steps, unless the gradient or the loss is not finite. returns the first group's norm before
    /// clipping.
    double step(std::int64_t step, bool loss_finite);

    /// The first group's tensors, or their averages: what is written.
    const NamedTensors& learnt() const { return ema_ ? ema_->averages() : groups_[0].tensors; }

    TrainingCheckpoint checkpoint(std::string_view stage, std::int64_t step) const;
    /// throws Error(input) when it is of other tensors
    void restore(const TrainingCheckpoint& checkpoint);

  private:
    std::vector<ParameterGroup> groups_;
    double clip_;
    LearningRate rate_;
    std::vector<AdamW> optimisers_;
    std::optional<Ema> ema_;
    std::optional<LossScale> scale_;
    std::int64_t skipped_ = 0;
};

/// How a step's pictures are shared out.
struct Shares {
    std::int64_t batch = 0, own = 0, micro = 0;  ///< of a step, of this process, at once
    std::int64_t rank = 0;

    /// throws Error(usage) where one does not divide the other
    Shares(const StageSettings& stage, const Processes& processes, std::string_view name);

    /// The step's first sample of this process.
    std::uint64_t first(std::int64_t step) const {
        return static_cast<std::uint64_t>(step * batch + rank * own);
    }
};

/// Means over the pictures of a step.
struct StepSum {
    double total = 0.0;
    NamedNumbers parts, more;

    /// share  of the step that the loss is a mean of
    void add(const StageLoss& loss, double share);
    /// Over the pictures of all processes.
    void average_over(Processes& processes);
};

/// Forward and backward over this process's pictures of a step.
StepSum accumulate(LearningStage& stage, const TrainingBatch& batch, std::int64_t step,
                   const Shares& shares, double loss_scale, const c10::Device& device);

}  // namespace ultrasr
