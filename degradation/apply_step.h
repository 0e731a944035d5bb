// One primitive with everything given, tensors in and out: for comparison with other
// implementations.
#pragma once
#include <filesystem>
#include <string>
#include <nlohmann/json.hpp>

#include "data/base/json.h"

namespace ultrasr {

/// Runs `step` ("kernel", "sinc", or a name of the list of degradations; "batch": params is a list
/// of {step, params, tensors: {image: name ...}, name}) on float32 tensors of a safetensors file
/// and writes "out", or "<name>.out" for each of a batch.
///
/// in       may be empty for kernel and sinc
/// returns  {written: names}
/// throws   Error(input) that names the case, the tensor or the parameter; Error(usage)
Json apply_step(const std::string& step, const Json& params, const std::filesystem::path& in,
                const std::filesystem::path& out);

}  // namespace ultrasr
