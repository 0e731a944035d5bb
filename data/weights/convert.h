// Any checkpoint rewritten as safetensors, its floating-point tensors in another type if wished.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "data/weights/checkpoint.h"

namespace ultrasr {

/// One of the four types that numbers are rounded to: f64, f32, f16, bf16.
bool is_floating(Dtype dtype);

struct ConvertOptions {
    std::filesystem::path from;
    std::filesystem::path to;
    std::optional<Dtype> dtype;  ///< f32, f16 or bf16 for floating-point tensors; empty: as it is
};

/// What a conversion did.
struct Converted {
    CheckpointFormat from = CheckpointFormat::safetensors;
    std::string from_sha256;
    std::string to_sha256;
    std::uint64_t bytes = 0;       ///< size of the new file
    std::size_t tensors = 0;       ///< all
    std::size_t cast = 0;          ///< of them in another type than before
    std::uint64_t rounded = 0;     ///< finite elements whose value changed
    std::uint64_t overflowed = 0;  ///< finite elements that became infinite
};

/// One tensor's elements in another floating-point type, to nearest even; NaN and infinity stay.
///
/// tensor  f64, f32, f16 or bf16
/// dtype   f32, f16 or bf16
/// count   receives what was lost, added to what it has; only `rounded` and `overflowed`
/// returns row-major bytes
/// throws  Error(internal) for another type
std::vector<std::byte> cast_tensor(const TensorView& tensor, Dtype dtype, Converted& count);

/// The elements as float32, f64 rounded to nearest even.
///
/// tensor  f64, f32, f16 or bf16
/// throws  Error(internal) for another type
std::vector<float> floats_of(const TensorView& tensor);

/// Reads any checkpoint and writes its tensors, sorted as write_safetensors does. The metadata
/// names the source file and its SHA-256, keeps the source's own, and holds the extras as JSON
/// under "extras". Integers and truth values keep their type.
///
/// throws Error(input) as read_checkpoint does, or where the file has no tensor; Error(usage) when
///        `to` is `from`; Error(storage)
Converted convert_checkpoint(const ConvertOptions& options);

}  // namespace ultrasr
