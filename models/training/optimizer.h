// What turns gradients into new weights: AdamW, the gradients' norm, fp16's loss scale, the running
// average of weights, the learning rate over the steps.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/base/json.h"
#include "data/tensor/named_tensors.h"

namespace ultrasr {

/// The defaults but the learning rate (OSEDiff's) are torch's.
struct AdamWOptions {
    double learning_rate = 5e-5;
    double beta1 = 0.9;    ///< memory of the gradient's mean, [0,1)
    double beta2 = 0.999;  ///< memory of its square's mean, [0,1)
    double epsilon = 1e-8;
    double weight_decay = 1e-2;  ///< times the learning rate is what a weight loses in each step
};

/// Adam with decoupled weight decay. Same bits for any number of threads.
///
/// Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, alg. 2, with
/// torch's place for epsilon (outside of the root, after the bias correction).
class AdamW {
  public:
    /// parameters  leaves that stay where they are and are written into; float32, dense, all on one
    ///             device
    /// throws      Error(internal) on others; Error(usage) on options outside their range
    AdamW(NamedTensors parameters, const AdamWOptions& options);

    /// One step. Parameters without a gradient are left alone, decay included, and do not count it.
    void step(double learning_rate);
    void step() { step(options_.learning_rate); }

    /// Forgets the gradients: a parameter that the next step does not reach then has none.
    void zero_grad();

    const NamedTensors& parameters() const { return parameters_; }
    const AdamWOptions& options() const { return options_; }

    /// "<name>.exp_avg", "<name>.exp_avg_sq" (as the parameter) and "<name>.step" (one float32):
    /// copies on the CPU.
    NamedTensors state() const;

    /// The inverse. throws Error(input) that lists what is missing, surplus or of another shape or
    /// type; nothing has changed then.
    void restore(const NamedTensors& state);

  private:
    struct Slot {
        at::Tensor exp_avg, exp_avg_sq, step;
    };
    AdamWOptions options_;
    NamedTensors parameters_;
    std::map<std::string, Slot> slots_;
};

/// Euclidean norm of all gradients together, summed in double in an order that does not depend on
/// the number of threads. NaN or infinite when one of them is. Parameters without one count as 0.
///
/// parameters  gradients of any floating type, all on one device
double gradient_norm(const NamedTensors& parameters);

/// Multiplies all gradients, in place.
void scale_gradients(const NamedTensors& parameters, double factor);

/// Shortens the gradients to `max_norm` where they are longer: times min(1, max_norm / (norm +
/// 1e-6)), as torch does. Gradients that are not finite are left as they are: the step is lost.
///
/// returns  the norm before
double clip_gradients(const NamedTensors& parameters, double max_norm);

/// By how much the loss is multiplied before fp16's backward pass, so that small gradients do not
/// become zero: starts at 2^16, halved when a gradient is not finite (that step is skipped; not
/// below 1, where the scale is not what makes it so), doubled after 2000 good steps in a row.
///
/// Source: Micikevicius et al., "Mixed precision training", ICLR 2018; torch's GradScaler.
class LossScale {
  public:
    double value() const { return value_; }

    /// Tells how a step went.
    void update(bool gradients_finite);

    Json state() const;
    /// throws Error(input)
    void restore(const Json& state);

  private:
    double value_ = 65536.0;
    std::int64_t good_steps_ = 0;
};

/// Running average of weights: average = decay average + (1 - decay) weight after each step.
class Ema {
  public:
    /// Starts from the weights as they are. decay in [0,1), else Error(usage).
    Ema(const NamedTensors& parameters, double decay);

    /// parameters  the same names and shapes
    void update(const NamedTensors& parameters);

    /// Where the weights are, without gradient.
    const NamedTensors& averages() const { return averages_; }

    /// Copies on the CPU.
    NamedTensors state() const;
    /// throws Error(input) on misfits; nothing has changed then
    void restore(const NamedTensors& state);

  private:
    double decay_;
    NamedTensors averages_;
};

/// The learning rate at each step.
struct LearningRate {
    enum class Shape {
        constant,
        cosine,  ///< half a wave from the peak down to the end
        linear,
    };

    double peak = 5e-5;
    std::int64_t warmup_steps = 0;  ///< rising evenly to the peak, which the last of them has
    Shape shape = Shape::constant;
    std::int64_t total_steps = 0;  ///< where the fall ends; cosine and linear need it
    double end_fraction = 0;       ///< of the peak, at total_steps and after

    /// step  from 0
    double at(std::int64_t step) const;

    /// throws Error(usage) on settings that make no curve
    void check() const;
};

}  // namespace ultrasr
