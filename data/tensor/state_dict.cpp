#include "data/tensor/state_dict.h"

#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include <fmt/format.h>

#include <algorithm>

namespace ultrasr {

StateDict::StateDict(NamedTensors tensors, std::string what)
    : tensors_(std::move(tensors)), what_(std::move(what)) {}

StateDict::StateDict(Maker make) : make_(std::move(make)) {}

at::Tensor StateDict::take(const std::string& name, at::IntArrayRef shape) {
    if (make_) return make_(name, shape);
    taken_.insert(name);
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
        missing_.push_back(name);
    } else if (found->second.sizes() != shape) {
        misshapen_.push_back(fmt::format("{} {} instead of {}", name,
                                         shape_text(found->second.sizes()), shape_text(shape)));
    } else {
        at::Tensor values = found->second.to(at::kFloat);
        if (at::isfinite(values).all().item<bool>()) return values;
        not_finite_.push_back(name);
    }
    return at::zeros(shape, at::kFloat);
}

bool StateDict::contains(const std::string& name) const { return tensors_.contains(name); }

std::vector<std::int64_t> StateDict::shape_of(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? std::vector<std::int64_t>{} : found->second.sizes().vec();
}

void StateDict::ignore(std::string prefix) { ignored_.push_back(std::move(prefix)); }

void StateDict::finish() const {
    std::vector<std::string> surplus;
    for (const auto& [name, tensor] : tensors_) {
        const bool known = taken_.contains(name) || std::any_of(ignored_.begin(), ignored_.end(),
                                                                [&](const std::string& prefix) {
                                                                    return name.starts_with(prefix);
                                                                });
        if (!known) surplus.push_back(name);
    }
    fail_on_misfits(what_, {{"missing", missing_},
                            {"surplus", surplus},
                            {"of another shape", misshapen_},
                            {"with NaN or infinite values", not_finite_}});
}

}  // namespace ultrasr
