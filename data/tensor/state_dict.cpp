#include "data/tensor/state_dict.h"

#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "data/base/error.h"
#include "data/weights/mapped_file.h"

namespace ultrasr {

StateDict::StateDict(NamedTensors tensors, std::string what)
    : tensors_(std::move(tensors)), what_(std::move(what)) {}

StateDict::StateDict(Maker make) : make_(std::move(make)) {}

at::Tensor StateDict::take(const std::string& name, at::IntArrayRef shape) {
    if (make_) return edit_ ? edit_(name, make_(name, shape)) : make_(name, shape);
    if (taken_.contains(name)) fail(Fault::internal, "{} takes {} twice", what_, name);
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
        missing_.push_back(name);
        return at::zeros(shape, at::kFloat);
    }
    const at::Tensor stored = std::move(found->second);
    tensors_.erase(found);
    taken_.emplace(name, stored.sizes().vec());
    if (stored.sizes() != shape) {
        misshapen_.push_back(fmt::format("{} {} instead of {}", name, shape_text(stored.sizes()),
                                         shape_text(shape)));
        return at::zeros(shape, at::kFloat);
    }
    // A copy in any case: what looks into a mapped file keeps the file's pages in memory
    at::Tensor values = stored.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    give_back_pages({static_cast<const std::byte*>(stored.const_data_ptr()), stored.nbytes()});
    if (edit_) values = edit_(name, values);
    if (at::isfinite(values).all().item<bool>()) return values;
    not_finite_.push_back(name);
    return at::zeros(shape, at::kFloat);
}

void StateDict::edit(Edit change) { edit_ = std::move(change); }

bool StateDict::contains(const std::string& name) const {
    return tensors_.contains(name) || taken_.contains(name);
}

std::vector<std::int64_t> StateDict::shape_of(const std::string& name) const {
    if (const auto taken = taken_.find(name); taken != taken_.end()) return taken->second;
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? std::vector<std::int64_t>{} : found->second.sizes().vec();
}

void StateDict::ignore(std::string prefix) { ignored_.push_back(std::move(prefix)); }

void StateDict::finish() const {
    std::vector<std::string> surplus;
    for (const auto& [name, tensor] : tensors_) {
        const bool known =
            std::any_of(ignored_.begin(), ignored_.end(),
                        [&](const std::string& prefix) { return name.starts_with(prefix); });
        if (!known) surplus.push_back(name);
    }
    fail_on_misfits(what_, {{"missing", missing_},
                            {"surplus", surplus},
                            {"of another shape", misshapen_},
                            {"with NaN or infinite values", not_finite_}});
}

}  // namespace ultrasr
