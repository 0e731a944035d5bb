#include "models/training/learner.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "models/training/stage_parts.h"
#include "models/training/step_data.h"

namespace ultrasr {
namespace {

void add_to(NamedNumbers& sum, const NamedNumbers& values, double share) {
    for (const auto& [name, value] : values) {
        const auto there = std::ranges::find(sum, name, &NamedNumbers::value_type::first);
        if (there == sum.end()) {
            sum.emplace_back(name, share * value);
        } else {
            there->second += share * value;
        }
    }
}
}  // namespace

// ---- Learner ----

Learner::Learner(LearningStage& stage, const TrainSettings& settings, const StageSettings& own,
                 bool half)
    : groups_(stage.groups()), clip_(settings.clip) {
    rate_ = {.peak = own.learning_rate,
             .warmup_steps = settings.warmup,
             .shape = settings.schedule == RateAfterWarmup::constant ? LearningRate::Shape::constant
                      : settings.schedule == RateAfterWarmup::cosine ? LearningRate::Shape::cosine
                                                                     : LearningRate::Shape::linear,
             .total_steps = own.steps,
             .end_fraction = settings.final_rate};
    rate_.check();
    for (const ParameterGroup& group : groups_) {
        optimisers_.emplace_back(group.tensors,
                                 AdamWOptions{.learning_rate = own.learning_rate,
                                              .beta1 = settings.beta1,
                                              .beta2 = settings.beta2,
                                              .epsilon = settings.epsilon,
                                              .weight_decay = settings.weight_decay});
    }
    if (settings.ema > 0) ema_.emplace(groups_[0].tensors, settings.ema);
    if (half) scale_.emplace();
}

std::int64_t Learner::parameters() const {
    std::int64_t n = 0;
    for (const ParameterGroup& group : groups_) n += count_parameters(group.tensors);
    return n;
}

std::vector<at::Tensor> Learner::gradients() const {
    std::vector<at::Tensor> all;
    for (const ParameterGroup& group : groups_) {
        for (const auto& [name, tensor] : group.tensors) {
            // A tensor that no picture of this process reached still takes part
            if (!tensor.grad().defined()) tensor.mutable_grad() = at::zeros_like(tensor);
            all.push_back(tensor.grad());
        }
    }
    return all;
}

double Learner::step(std::int64_t step, bool loss_finite) {
    double first_norm = 0.0;
    bool finite = loss_finite;
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        if (scale_) scale_gradients(groups_[i].tensors, 1.0 / scale_->value());
        const double norm = clip_ > 0 ? clip_gradients(groups_[i].tensors, clip_)
                                      : gradient_norm(groups_[i].tensors);
        if (i == 0) first_norm = norm;
        finite = finite && std::isfinite(norm);
    }
    if (scale_) scale_->update(finite);
    for (AdamW& optimiser : optimisers_) {
        if (finite) optimiser.step(rate(step));
        optimiser.zero_grad();
    }
    if (finite && ema_) ema_->update(groups_[0].tensors);
    if (!finite) ++skipped_;
    return first_norm;
}

TrainingCheckpoint Learner::checkpoint(std::string_view stage, std::int64_t step) const {
    TrainingCheckpoint c{.stage = std::string(stage), .step = step, .tensors = {}, .state = {}};
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        for (const auto& [name, tensor] : groups_[i].tensors) {
            c.tensors.emplace(fmt::format("weights.{}.{}", i, name), tensor.detach().to(at::kCPU));
        }
        c.tensors.merge(with_prefix(optimisers_[i].state(), fmt::format("adamw.{}.", i)));
    }
    if (ema_) c.tensors.merge(with_prefix(ema_->state(), "ema."));
    c.state = {{"skipped", skipped_}};
    if (scale_) c.state["loss_scale"] = scale_->state();
    return c;
}

void Learner::restore(const TrainingCheckpoint& c) {
    const c10::NoGradGuard no_gradient;
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        const std::string prefix = fmt::format("weights.{}.", i);
        for (auto& [name, tensor] : groups_[i].tensors) {
            const auto stored = c.tensors.find(prefix + name);
            require(stored != c.tensors.end() && stored->second.sizes() == tensor.sizes(),
                    "the checkpoint of step {} has no {} of this shape; --restart begins anew",
                    c.step, name);
            at::Tensor(tensor).copy_(stored->second);
        }
        optimisers_[i].restore(without_prefix(c.tensors, fmt::format("adamw.{}.", i)));
    }
    if (ema_) ema_->restore(without_prefix(c.tensors, "ema."));
    skipped_ = c.state.value("skipped", std::int64_t{0});
    if (scale_) scale_->restore(c.state.at("loss_scale"));
}

// ---- a step ----

Shares::Shares(const StageSettings& stage, const Processes& processes, std::string_view name)
    : batch(stage.batch), rank(processes.rank()) {
    if (batch % processes.size() != 0) {
        fail(Fault::usage,
             "a batch of {} does not divide among {} processes (stage {}); choose a multiple of "
             "their number",
             batch, processes.size(), name);
    }
    own = batch / processes.size();
    micro = stage.micro_batch == 0 ? own : std::min(stage.micro_batch, own);
    if (own % micro != 0) {
        fail(Fault::usage,
             "{} pictures a process do not divide into micro-batches of {} (stage {}); choose "
             "a micro_batch that divides them, or 0",
             own, micro, name);
    }
}

void StepSum::add(const StageLoss& loss, double share) {
    total += share * loss.total.item<double>();
    add_to(parts, loss.parts, share);
    add_to(more, loss.more, share);
}

void StepSum::average_over(Processes& processes) {
    if (processes.size() == 1) return;
    std::vector<double*> all{&total};
    for (NamedNumbers* numbers : {&parts, &more}) {
        for (auto& [name, value] : *numbers) all.push_back(&value);
    }
    const at::Tensor flat = at::empty({static_cast<std::int64_t>(all.size())}, at::kDouble);
    double* const values = flat.mutable_data_ptr<double>();
    for (std::size_t i = 0; i < all.size(); ++i) values[i] = *all[i];
    processes.average_(flat);
    for (std::size_t i = 0; i < all.size(); ++i) *all[i] = values[i];
}

StepSum accumulate(LearningStage& stage, const TrainingBatch& batch, std::int64_t step,
                   const Shares& shares, double loss_scale, const c10::Device& device) {
    StepSum sum;
    for (std::int64_t from = 0; from < shares.own; from += shares.micro) {
        const MicroBatch part =
            part_of(batch, shares.first(step), step, from, shares.micro, device);
        const double share = static_cast<double>(shares.micro) / static_cast<double>(shares.own);
        const StageLoss loss = stage.loss(part);
        sum.add(loss, share);
        (loss.total * (share * loss_scale)).backward();
    }
    return sum;
}

}  // namespace ultrasr
