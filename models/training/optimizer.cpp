#include "models/training/optimizer.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include <nlohmann/json.hpp>

#include "data/base/error.h"

namespace ultrasr {
namespace {

/// A copy on the CPU that nobody else writes into.
at::Tensor kept(const at::Tensor& tensor) {
    return tensor.detach().to(at::kCPU, tensor.scalar_type(), false, /*copy=*/true).contiguous();
}

/// Demands the names and shapes of `expected`, and float32.
void check_state(const NamedTensors& state, const NamedTensors& expected, std::string_view what) {
    std::vector<std::string> missing, surplus, other_shape, other_type;
    for (const auto& [name, tensor] : expected) {
        const auto found = state.find(name);
        if (found == state.end()) {
            missing.push_back(name);
        } else if (found->second.sizes() != tensor.sizes()) {
            other_shape.push_back(fmt::format("{} {} instead of {}", name,
                                              shape_text(found->second.sizes()),
                                              shape_text(tensor.sizes())));
        } else if (found->second.scalar_type() != at::kFloat) {
            other_type.push_back(name);
        }
    }
    for (const auto& [name, tensor] : state) {
        if (!expected.contains(name)) surplus.push_back(name);
    }
    fail_on_misfits(what, {{"missing", missing},
                           {"surplus", surplus},
                           {"of another shape", other_shape},
                           {"not float32", other_type}});
}

/// The gradient laid out in memory as its parameter: the fused step walks both side by side.
at::Tensor aligned_gradient(const at::Tensor& parameter) {
    const at::Tensor& gradient = parameter.grad();
    if (gradient.strides() == parameter.strides() && gradient.scalar_type() == at::kFloat) {
        return gradient;
    }
    return at::empty_like(parameter).copy_(gradient);
}

constexpr std::int64_t block_size = 1 << 16;  // elements that one thread sums

/// Sum of squares of one block; eight sums side by side become vector code and stay in order.
double squares_of(const float* values, std::int64_t count) {
    double sums[8] = {};
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        for (int k = 0; k < 8; ++k) {
            const double value = values[i + k];
            sums[k] += value * value;
        }
    }
    for (; i < count; ++i) sums[i % 8] += double(values[i]) * double(values[i]);
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
           ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

double squares_on_cpu(const std::vector<at::Tensor>& gradients) {
    double total = 0;
    for (const at::Tensor& gradient : gradients) {
        const at::Tensor flat = gradient.to(at::kFloat).contiguous();
        const float* const values = flat.const_data_ptr<float>();
        const std::int64_t count = flat.numel(), blocks = (count + block_size - 1) / block_size;
        std::vector<double> sums(static_cast<std::size_t>(blocks));
        at::parallel_for(0, blocks, 4, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t b = begin; b < end; ++b) {
                const std::int64_t start = b * block_size;
                sums[static_cast<std::size_t>(b)] =
                    squares_of(values + start, std::min(block_size, count - start));
            }
        });
        for (const double sum : sums) total += sum;
    }
    return total;
}

}  // namespace

// ---- AdamW ----

AdamW::AdamW(NamedTensors parameters, const AdamWOptions& options)
    : options_(options), parameters_(std::move(parameters)) {
    const auto in_unit = [](double beta) { return beta >= 0 && beta < 1; };
    if (!in_unit(options.beta1) || !in_unit(options.beta2) || !(options.epsilon >= 0) ||
        !(options.weight_decay >= 0) || !(options.learning_rate >= 0)) {
        fail(Fault::usage,
             "AdamW needs a learning rate, epsilon and weight decay of at least 0 and betas in "
             "[0,1); got {}, {}, {}, {} and {}",
             options.learning_rate, options.epsilon, options.weight_decay, options.beta1,
             options.beta2);
    }
    const c10::NoGradGuard guard;
    for (const auto& [name, parameter] : parameters_) {
        if (parameter.scalar_type() != at::kFloat || !parameter.is_leaf() ||
            !parameter.is_non_overlapping_and_dense() ||
            parameter.device() != parameters_.begin()->second.device()) {
            fail(Fault::internal, "AdamW takes dense float32 leaves on one device; {} is not one",
                 name);
        }
        slots_[name] = {.exp_avg = at::zeros_like(parameter),
                        .exp_avg_sq = at::zeros_like(parameter),
                        .step = at::scalar_tensor(
                            0.0, at::TensorOptions(at::kFloat).device(parameter.device()))};
    }
}

void AdamW::step(double learning_rate) {
    const c10::NoGradGuard guard;
    std::vector<at::Tensor> parameters, gradients, exp_avgs, exp_avg_sqs, steps;
    for (const auto& [name, parameter] : parameters_) {
        if (!parameter.grad().defined() || parameter.numel() == 0) continue;
        const Slot& slot = slots_.at(name);
        parameters.push_back(parameter);
        gradients.push_back(aligned_gradient(parameter));
        exp_avgs.push_back(slot.exp_avg);
        exp_avg_sqs.push_back(slot.exp_avg_sq);
        steps.push_back(slot.step);
        slot.step.add_(1);
    }
    if (parameters.empty()) return;
    at::_fused_adamw_(parameters, gradients, exp_avgs, exp_avg_sqs, {}, steps, learning_rate,
                      options_.beta1, options_.beta2, options_.weight_decay, options_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
}

void AdamW::zero_grad() {
    for (const auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

NamedTensors AdamW::state() const {
    NamedTensors state;
    for (const auto& [name, slot] : slots_) {
        state[name + ".exp_avg"] = kept(slot.exp_avg);
        state[name + ".exp_avg_sq"] = kept(slot.exp_avg_sq);
        state[name + ".step"] = kept(slot.step);
    }
    return state;
}

void AdamW::restore(const NamedTensors& state) {
    NamedTensors own;
    for (const auto& [name, slot] : slots_) {
        own[name + ".exp_avg"] = slot.exp_avg;
        own[name + ".exp_avg_sq"] = slot.exp_avg_sq;
        own[name + ".step"] = slot.step;
    }
    check_state(state, own, "the optimiser's state");
    const c10::NoGradGuard guard;
    for (auto& [name, tensor] : own) tensor.copy_(state.at(name));
}

// ---- Gradients ----

double gradient_norm(const NamedTensors& parameters) {
    const c10::NoGradGuard guard;
    std::vector<at::Tensor> gradients;
    for (const auto& [name, parameter] : parameters) {
        if (parameter.grad().defined()) gradients.push_back(parameter.grad().detach());
    }
    if (gradients.empty()) return 0;
    if (gradients.front().is_cpu()) return std::sqrt(squares_on_cpu(gradients));
    // One number comes to the host
    std::vector<at::Tensor> squares;
    for (const at::Tensor& gradient : gradients) {
        squares.push_back(gradient.to(at::kDouble).square_().sum());
    }
    return std::sqrt(at::stack(squares).sum().item<double>());
}

void scale_gradients(const NamedTensors& parameters, double factor) {
    const c10::NoGradGuard guard;
    for (const auto& [name, parameter] : parameters) {
        if (parameter.grad().defined()) parameter.mutable_grad().mul_(factor);
    }
}

double clip_gradients(const NamedTensors& parameters, double max_norm) {
    const double norm = gradient_norm(parameters);
    const double factor = max_norm / (norm + 1e-6);
    if (std::isfinite(norm) && factor < 1) scale_gradients(parameters, factor);
    return norm;
}

// ---- Loss scale ----

void LossScale::update(bool gradients_finite) {
    if (!gradients_finite) {
        value_ = std::max(1.0, value_ / 2);
        good_steps_ = 0;
    } else if (++good_steps_ == 2000) {
        value_ *= 2;
        good_steps_ = 0;
    }
}

Json LossScale::state() const { return {{"value", value_}, {"good_steps", good_steps_}}; }

void LossScale::restore(const Json& state) {
    const auto number = [&](const char* key) {
        const auto found = state.is_object() ? state.find(key) : state.end();
        require(found != state.end() && found->is_number(),
                "the loss scale's state needs the number \"{}\"; got {}", key,
                dump_json_line(state));
        return found->get<double>();
    };
    const double value = number("value"), good_steps = number("good_steps");
    require(value >= 1 && std::isfinite(value) && good_steps >= 0 && good_steps < 2000,
            "a loss scale of {} after {} good steps cannot be; the checkpoint is damaged", value,
            good_steps);
    value_ = value;
    good_steps_ = static_cast<std::int64_t>(good_steps);
}

// ---- Running average ----

Ema::Ema(const NamedTensors& parameters, double decay) : decay_(decay) {
    if (!(decay >= 0 && decay < 1)) {
        fail(Fault::usage, "the decay of averaged weights is {}; it has to be in [0,1)", decay);
    }
    for (const auto& [name, parameter] : parameters) {
        averages_[name] = parameter.detach().clone();
    }
}

void Ema::update(const NamedTensors& parameters) {
    const c10::NoGradGuard guard;
    for (auto& [name, average] : averages_) average.lerp_(parameters.at(name), 1 - decay_);
}

NamedTensors Ema::state() const {
    NamedTensors state;
    for (const auto& [name, average] : averages_) state[name] = kept(average);
    return state;
}

void Ema::restore(const NamedTensors& state) {
    check_state(state, averages_, "the averaged weights");
    const c10::NoGradGuard guard;
    for (auto& [name, average] : averages_) average.copy_(state.at(name));
}

// ---- Learning rate ----

void LearningRate::check() const {
    const bool falls = shape != Shape::constant;
    if (!(peak >= 0) || !std::isfinite(peak) || warmup_steps < 0 || !(end_fraction >= 0) ||
        !(end_fraction <= 1) || (falls && total_steps <= warmup_steps)) {
        fail(Fault::usage,
             "a learning rate of {} with {} steps of warm-up, {} steps in all and an end at {} of "
             "it is no curve; the warm-up has to be shorter than the whole and the end in [0,1]",
             peak, warmup_steps, total_steps, end_fraction);
    }
}

double LearningRate::at(std::int64_t step) const {
    if (step < warmup_steps) return peak * double(step + 1) / double(warmup_steps);
    if (shape == Shape::constant) return peak;
    const double done =
        std::min(1.0, double(step - warmup_steps) /
                          double(std::max<std::int64_t>(1, total_steps - warmup_steps)));
    const double left =
        shape == Shape::linear ? 1 - done : (1 + std::cos(std::numbers::pi * done)) / 2;
    return peak * (end_fraction + (1 - end_fraction) * left);
}

}  // namespace ultrasr
