// Checkpoints as tensors by name, and the strictness with which networks take them.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/compute.h"
#include "data/weights/safetensors.h"

namespace ultrasr {

using NamedTensors = std::map<std::string, at::Tensor>;

/// Every tensor of a checkpoint of any format, on the CPU, in its stored type. Aligned tensors are
/// views of the mapped file: nothing may write into them.
///
/// throws Error(input) like read_checkpoint
NamedTensors load_tensors(const std::filesystem::path& path);

/// One of them: a view where it is aligned, which then holds `holder`, else a copy.
at::Tensor tensor_of(const TensorView& view, const std::shared_ptr<const void>& holder);

/// Writes tensors as safetensors. throws Error(storage).
void save_tensors(const std::filesystem::path& path, const NamedTensors& tensors,
                  const std::map<std::string, std::string>& metadata = {});

/// The state dict inside a checkpoint: of `params_ema.`, `params.`, `state_dict.` the first prefix
/// that occurs is kept and stripped, then a leading `module.`; bare names stay.
///
/// Source: peer_methods.md 1.2, "Loader rule".
NamedTensors state_dict_of(const NamedTensors& tensors);

/// Floating-point tensors widened (or narrowed) to float32; the others unchanged.
NamedTensors to_float32(const NamedTensors& tensors);

using Shapes = std::map<std::string, std::vector<std::int64_t>>;

/// Demands exactly these names with these shapes.
///
/// what    the network and the file, for the message
/// throws  Error(input) that lists missing, surplus and misshapen tensors, the first ten of each
void check_tensors(const NamedTensors& tensors, const Shapes& expected, std::string_view what);

/// A kind of misfit and the tensors it concerns.
struct Misfit {
    std::string_view kind;
    std::vector<std::string> names;
};

/// throws Error(input) that lists the first ten names of each kind; returns when all are empty
void fail_on_misfits(std::string_view what, const std::vector<Misfit>& misfits);

/// "[64, 3, 7, 7]"
std::string shape_text(at::IntArrayRef shape);

/// Sum of the elements of all tensors.
std::int64_t count_parameters(const NamedTensors& tensors);

struct KnownWeights {
    NamedTensors tensors;  ///< state dict, float32
    WeightRecord record;
};

/// A file of the weight store, looked for where the options say, verified and read.
///
/// throws Error(input) when it is missing, not the known file, or broken
KnownWeights load_known_weights(std::string_view file, const WeightOptions& options);

}  // namespace ultrasr
