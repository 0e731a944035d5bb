#include "models/layers/adapted.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>

#include <optional>

namespace ultrasr {

void attach_lora(const AdapterTable& table, const LoraSet& adapters, const Placement& placement,
                 std::string_view what) {
    std::vector<std::string> unknown;
    for (const auto& [module, pairs] : adapters) {
        if (!table.contains(module)) unknown.push_back(module);
    }
    fail_on_misfits(what, {{"adapters for modules it has not", unknown}});
    for (const auto& [module, pairs] : adapters) {
        for (LoraPair pair : pairs) {
            for (at::Tensor* part : {&pair.a, &pair.b}) {
                if (!part->requires_grad()) *part = part->to(placement.device, placement.dtype);
            }
            table.at(module)->push_back(std::move(pair));
        }
    }
}

Shapes shapes_taken(const std::function<void(StateDict&, const Placement&)>& build) {
    Shapes shapes;
    StateDict weights([&](const std::string& name, at::IntArrayRef shape) {
        shapes[name] = shape.vec();
        return at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(at::kMeta));
    });
    build(weights, {.device = c10::Device(c10::kMeta)});
    return shapes;
}

AdapterSlot Builder::slot(const std::string& key) const {
    if (!adapters) return nullptr;
    auto& slot = (*adapters)[key];
    slot = std::make_shared<std::vector<LoraPair>>();
    return slot;
}

// ---- AdaptedLinear ----

AdaptedLinear::AdaptedLinear(const Builder& builder, const std::string& key, std::int64_t out,
                             std::int64_t in, bool bias, bool as_conv)
    : slot_(builder.slot(key)) {
    // A 1 x 1 convolution over channels-last pixels is a linear layer
    StateDict& weights = builder.weights;
    const std::size_t dimensions = weights.shape_of(key + ".weight").size();
    const bool four = dimensions == 4 || (dimensions != 2 && as_conv);
    const at::Tensor weight = four ? weights.take(key + ".weight", {out, in, 1, 1}).flatten(1)
                                   : weights.take(key + ".weight", {out, in});
    linear_ =
        Linear(weight, bias ? weights.take(key + ".bias", {out}) : at::Tensor(), builder.placement);
}

at::Tensor AdaptedLinear::extra(const at::Tensor& x) const {
    at::Tensor sum;
    for (const LoraPair& pair : *slot_) {
        const at::Tensor narrow = at::linear(x, pair.a.flatten(1).to(x.scalar_type()));
        const at::Tensor y = at::linear(narrow, pair.b.flatten(1).to(x.scalar_type())) * pair.scale;
        sum = sum.defined() ? sum + y : y;
    }
    return sum;
}

at::Tensor AdaptedLinear::operator()(const at::Tensor& x) const {
    return adapted() ? linear_(x) + extra(x) : linear_(x);
}

at::Tensor AdaptedLinear::gelu(const at::Tensor& x) const {
    return adapted() ? at::gelu((*this)(x)) : linear_.gelu(x);
}

at::Tensor AdaptedLinear::add(const at::Tensor& x, const at::Tensor& other) const {
    return adapted() ? linear_.add(x, other) + extra(x) : linear_.add(x, other);
}

// ---- AdaptedConv ----

AdaptedConv::AdaptedConv(const Builder& builder, const std::string& key, std::int64_t out,
                         std::int64_t in, std::int64_t kernel, const ConvShape& shape)
    : conv_(take_conv(builder.weights, key, {out, in, kernel, kernel}, true, shape,
                      builder.placement)),
      shape_(shape),
      slot_(builder.slot(key)) {}

at::Tensor AdaptedConv::extra(const at::Tensor& x) const {
    at::Tensor sum;  // of x's type: a network's head and tail are float32 among narrower layers
    for (const LoraPair& pair : *slot_) {
        const at::Tensor narrow =
            at::conv2d(x, pair.a.to(x.scalar_type()), std::nullopt, shape_.stride, shape_.padding);
        const at::Tensor y = at::conv2d(narrow, pair.b.to(x.scalar_type())) * pair.scale;
        sum = sum.defined() ? sum + y : y;
    }
    return sum;
}

at::Tensor AdaptedConv::operator()(const at::Tensor& x) const {
    return adapted() ? conv_(x) + extra(x) : conv_(x);
}

at::Tensor AdaptedConv::add_(const at::Tensor& x, at::Tensor other) const {
    return adapted() ? (*this)(x) + other : conv_.add_(x, std::move(other));
}

}  // namespace ultrasr
