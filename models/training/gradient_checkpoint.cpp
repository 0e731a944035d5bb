#include "models/training/gradient_checkpoint.h"

#include <ATen/core/ivalue.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

namespace ultrasr {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What the graph's node holds of a block beside the tensors.
struct HeldBlock : torch::CustomClassHolder {
    Block block;
    std::vector<bool> defined;  ///< which inputs there are; the node keeps those
};

/// All inputs of the block, given those that are defined.
std::vector<at::Tensor> with_gaps(const HeldBlock& held, const variable_list& defined) {
    std::vector<at::Tensor> inputs;
    std::size_t next = 0;
    for (const bool is_defined : held.defined) {
        inputs.push_back(is_defined ? defined[next++] : at::Tensor());
    }
    return inputs;
}

struct Checkpointed : torch::autograd::Function<Checkpointed> {
    /// Runs without gradient. `reason` needs one, so that backward() is called in any case.
    static at::Tensor forward(AutogradContext* context, const c10::intrusive_ptr<HeldBlock>& held,
                              const at::Tensor& /*reason*/, at::TensorList defined) {
        context->saved_data["block"] = c10::IValue::make_capsule(held);
        context->save_for_backward(defined.vec());
        const std::vector<at::Tensor> inputs = with_gaps(*held, defined.vec());
        return held->block(inputs);
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const c10::intrusive_ptr<torch::CustomClassHolder> capsule =
            context->saved_data.at("block").toCapsule();
        const HeldBlock& held = static_cast<const HeldBlock&>(*capsule);

        // The same inputs, cut off from what made them
        variable_list defined;
        for (const at::Tensor& saved : context->get_saved_variables()) {
            defined.push_back(saved.detach().requires_grad_(saved.requires_grad()));
        }

        // The block again; leaves inside it receive their gradients here
        {
            const at::AutoGradMode guard(true);
            const at::Tensor output = held.block(with_gaps(held, defined));
            if (output.requires_grad()) torch::autograd::backward({output}, gradients);
        }
        variable_list result(2);  // none for the block and the reason
        for (const at::Tensor& input : defined) result.push_back(input.grad());
        return result;
    }
};

}  // namespace

at::Tensor checkpointed(const Block& block, std::vector<at::Tensor> inputs) {
    if (!c10::GradMode::is_enabled()) return block(inputs);
    auto held = c10::make_intrusive<HeldBlock>();
    held->block = block;
    std::vector<at::Tensor> defined;
    for (at::Tensor& input : inputs) {
        held->defined.push_back(input.defined());
        if (input.defined()) defined.push_back(std::move(input));
    }
    const at::Tensor reason = at::zeros({0}).requires_grad_(true);
    return Checkpointed::apply(held, reason, at::TensorList(defined));
}

}  // namespace ultrasr
