#include "data/tensor/named_tensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fmt/ranges.h>

#include <array>
#include <cstring>

#include "data/base/error.h"
#include "data/weights/checkpoint.h"
#include "data/weights/weight_store.h"

namespace ultrasr {
namespace {

constexpr std::array dtypes{
    std::pair{Dtype::f64, at::kDouble}, std::pair{Dtype::f32, at::kFloat},
    std::pair{Dtype::f16, at::kHalf},   std::pair{Dtype::bf16, at::kBFloat16},
    std::pair{Dtype::i64, at::kLong},   std::pair{Dtype::i32, at::kInt},
    std::pair{Dtype::i16, at::kShort},  std::pair{Dtype::i8, at::kChar},
    std::pair{Dtype::u8, at::kByte},    std::pair{Dtype::boolean, at::kBool},
};

at::ScalarType scalar_type(Dtype dtype) {
    for (const auto& [ours, theirs] : dtypes) {
        if (ours == dtype) return theirs;
    }
    fail(Fault::internal, "no tensor type for {}", dtype_name(dtype));
}

Dtype dtype_of(at::ScalarType type) {
    for (const auto& [ours, theirs] : dtypes) {
        if (theirs == type) return ours;
    }
    fail(Fault::internal, "safetensors has no name for the tensor type {}", at::toString(type));
}

/// The first ten of a list, and how many more.
std::string listed(const std::vector<std::string>& names) {
    std::string text;
    for (std::size_t i = 0; i < names.size() && i < 10; ++i) {
        text += (i ? ", " : "") + names[i];
    }
    if (names.size() > 10) text += fmt::format(" and {} more", names.size() - 10);
    return text;
}

}  // namespace

std::string shape_text(at::IntArrayRef shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

NamedTensors load_tensors(const std::filesystem::path& path) {
    const Checkpoint file = read_checkpoint(path);
    NamedTensors tensors;
    for (const TensorView& view : file.tensors()) {
        tensors.emplace(view.name, tensor_of(view, file.holder()));
    }
    return tensors;
}

at::Tensor tensor_of(const TensorView& view, const std::shared_ptr<const void>& holder) {
    const auto options = at::TensorOptions().dtype(scalar_type(view.dtype));
    const auto address = reinterpret_cast<std::uintptr_t>(view.bytes.data());
    if (view.bytes.empty() || address % item_size(view.dtype) != 0) {
        at::Tensor tensor = at::empty(view.shape, options);
        if (!view.bytes.empty()) {
            std::memcpy(tensor.data_ptr(), view.bytes.data(), view.bytes.size());
        }
        return tensor;
    }
    // The deleter's copy of the holder keeps the bytes; from_blob wants a writable pointer
    return at::from_blob(
        const_cast<std::byte*>(view.bytes.data()), view.shape, [holder](void*) {}, options);
}

void save_tensors(const std::filesystem::path& path, const NamedTensors& tensors,
                  const std::map<std::string, std::string>& metadata) {
    std::vector<at::Tensor> kept;
    std::vector<TensorView> views;
    for (const auto& [name, tensor] : tensors) {
        const at::Tensor& t = kept.emplace_back(tensor.to(at::kCPU).contiguous());
        views.push_back({.name = name,
                         .dtype = dtype_of(t.scalar_type()),
                         .shape = t.sizes().vec(),
                         .bytes = {static_cast<const std::byte*>(t.const_data_ptr()), t.nbytes()}});
    }
    write_safetensors(path, views, metadata);
}

NamedTensors state_dict_of(const NamedTensors& tensors) {
    std::string wrapper;
    for (const char* candidate : {"params_ema.", "params.", "state_dict."}) {
        const auto first = tensors.lower_bound(candidate);
        if (first != tensors.end() && first->first.starts_with(candidate)) {
            wrapper = candidate;
            break;
        }
    }
    NamedTensors result;
    for (const auto& [name, tensor] : tensors) {
        if (!name.starts_with(wrapper)) continue;
        std::string bare = name.substr(wrapper.size());
        if (bare.starts_with("module.")) bare.erase(0, 7);
        require(result.emplace(bare, tensor).second, "the weights hold {} twice", bare);
    }
    return result;
}

NamedTensors to_float32(const NamedTensors& tensors) {
    NamedTensors result;
    for (const auto& [name, tensor] : tensors) {
        result.emplace(name, tensor.is_floating_point() ? tensor.to(at::kFloat) : tensor);
    }
    return result;
}

void check_tensors(const NamedTensors& tensors, const Shapes& expected, std::string_view what) {
    std::vector<std::string> missing;
    std::vector<std::string> surplus;
    std::vector<std::string> misshapen;
    for (const auto& [name, shape] : expected) {
        const auto found = tensors.find(name);
        if (found == tensors.end()) {
            missing.push_back(name);
        } else if (found->second.sizes() != at::IntArrayRef(shape)) {
            misshapen.push_back(fmt::format("{} {} instead of {}", name,
                                            shape_text(found->second.sizes()), shape_text(shape)));
        }
    }
    for (const auto& [name, tensor] : tensors) {
        if (!expected.contains(name)) surplus.push_back(name);
    }
    fail_on_misfits(what,
                    {{"missing", missing}, {"surplus", surplus}, {"of another shape", misshapen}});
}

void fail_on_misfits(std::string_view what, const std::vector<Misfit>& misfits) {
    std::string text;
    for (const auto& [kind, names] : misfits) {
        if (names.empty()) continue;
        text += fmt::format("{}{} {} ({})", text.empty() ? "" : "; ", names.size(), kind,
                            listed(names));
    }
    require(text.empty(), "the weights do not fit {}: {}; check that this is the right file", what,
            text);
}

std::int64_t count_parameters(const NamedTensors& tensors) {
    std::int64_t sum = 0;
    for (const auto& [name, tensor] : tensors) sum += tensor.numel();
    return sum;
}

KnownWeights load_known_weights(std::string_view file, const WeightOptions& options) {
    const FoundWeights found = find_weights(file, options);
    return {.tensors = to_float32(state_dict_of(load_tensors(found.path))),
            .record = {std::string(file), found.sha256, found.verified}};
}

}  // namespace ultrasr
