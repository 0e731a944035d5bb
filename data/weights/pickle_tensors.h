// From the nodes of a pickle to named tensors: walks the structure and joins the keys.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/weights/pickle.h"
#include "data/weights/pickle_storage.h"
#include "data/weights/safetensors.h"

namespace ultrasr {

struct PickledTensors {
    std::vector<TensorView> tensors;            ///< in the order of the walk
    Json extras;                                ///< an object: what else has a name
    std::deque<std::vector<std::byte>> copies;  ///< of strided tensors; the others are views
};

/// Limits that bound what shared nodes can unfold to; no checkpoint comes near.
struct WalkLimits {
    std::size_t depth = 1000;
    std::size_t values = std::size_t{1} << 20;
    std::size_t text = std::size_t{1} << 26;  ///< bytes of names and texts together
};

/// Names and checks all tensors of a pickle.
///
/// Names are the keys on the way from the root, joined by dots; positions in lists and decimal
/// integers count as keys, keys that are neither count by their position ("#3"). Objects give what
/// BUILD gave them; torch.nn.Module's dictionaries of parameters, buffers and modules add nothing
/// to a name. A tensor or value that is the root itself is called "root". Foreign objects are
/// entered once; where a structure holds itself, the way back is left out.
///
/// Extras are numbers, texts, truth values, None and lists of those, by the same names; bytes,
/// classes and integers beyond 64 bits are left out.
///
/// pickle     the structure
/// storages   where the bytes are; called for each tensor
/// file_size  of the whole checkpoint, see TensorCopies
/// throws     Error(input) that names the tensor (see read_tensor); a name twice; a limit
PickledTensors collect_tensors(const Pickle& pickle, const StorageBytes& storages,
                               std::uint64_t file_size, const WalkLimits& limits = {});

}  // namespace ultrasr
