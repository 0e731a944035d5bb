#include "models/lora.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>

#include <fmt/format.h>

#include "data/base/error.h"
#include "data/weights/diffusers_files.h"
#include "data/weights/lora_merge.h"

namespace ultrasr {

NetAdapters tensors_of(const LoraNet& net, const Checkpoint& file) {
    NetAdapters result;
    for (const auto& [module, updates] : net.modules) {
        for (const LoraUpdate& u : updates) {
            result.adapters[module].push_back({.a = tensor_of(u.a, file.holder()),
                                               .b = tensor_of(u.b, file.holder()),
                                               .scale = u.scale});
        }
    }
    for (const auto& [name, view] : net.replaced) {
        result.replaced.emplace(name, tensor_of(view, file.holder()));
    }
    return result;
}

at::Tensor lora_delta(const LoraPair& pair) {
    const at::Tensor &a = pair.a, &b = pair.b;
    require(a.dim() >= 2 && b.dim() >= 2 && a.size(0) == b.size(1) &&
                b.numel() == b.size(0) * b.size(1),
            "LoRA with lora_A {} and lora_B {} does not fit together", shape_text(a.sizes()),
            shape_text(b.sizes()));
    // A convolution's B is 1 x 1, so that the product runs over the rank alone
    std::vector<std::int64_t> shape = a.sizes().vec();
    shape[0] = b.size(0);
    const at::Tensor product =
        at::mm(b.to(at::kCPU, at::kFloat).flatten(1), a.to(at::kCPU, at::kFloat).flatten(1));
    return (pair.scale * product).view(shape);
}

LoraMerger::LoraMerger(LoraSet adapters, std::string what)
    : state_(std::make_shared<State>(State{std::move(adapters), std::move(what), {}})) {}

at::Tensor LoraMerger::operator()(const std::string& name, const at::Tensor& weight) const {
    const std::string module(module_of(name));
    const auto found = state_->adapters.find(module);
    if (found == state_->adapters.end()) return weight;
    state_->merged.insert(module);
    at::Tensor merged = weight;
    while_doing(state_->what, [&] {
        for (const LoraPair& pair : found->second) {
            check_lora_fits(weight.sizes(), pair.a.sizes(), pair.b.sizes(), module);
            merged = merged + lora_delta(pair).view(weight.sizes());
        }
    });
    return merged;
}

void LoraMerger::finish() const {
    std::vector<std::string> unused;
    for (const auto& [module, pairs] : state_->adapters) {
        if (!state_->merged.contains(module)) unused.push_back(module);
    }
    fail_on_misfits(state_->what, {{"for modules that the network has not", unused}});
}

}  // namespace ultrasr
