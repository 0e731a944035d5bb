// One tensor of a pickle: its storage, offset, sizes and strides, checked and laid out.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/weights/pickle.h"
#include "data/weights/safetensors.h"

namespace ultrasr {

/// A storage as its persistent id describes it: ("storage", type, key, location, count[, view]).
/// The location ("cuda:0") is of no interest.
struct PickledStorage {
    std::string key;
    std::string type;            ///< as the file says, such as "torch.FloatStorage"
    std::optional<Dtype> dtype;  ///< empty for an UntypedStorage and for types we do not read
    bool typed = true;
    std::size_t unit = 0;     ///< bytes that `count` counts; 1 when untyped, 0 when not known
    std::uint64_t count = 0;  ///< elements of the whole storage
    std::uint64_t view_offset = 0, view_count = 0;  ///< the elements meant; normally all of them
};

/// Checks and reads the persistent id of a PickleKind::persistent node.
///
/// throws Error(input) when it is no storage or makes no sense
PickledStorage read_storage_id(const Pickle& pickle, PickleRef ref);

/// Gives all bytes of a storage; throws Error(input) when there are none.
using StorageBytes = std::function<std::span<const std::byte>(const PickledStorage&)>;

/// Memory for the tensors that are no plain piece of their storage.
class TensorCopies {
  public:
    /// At most 16 times the checkpoint's own size, or 64 MiB where that is more.
    explicit TensorCopies(std::uint64_t file_size);

    /// Fresh memory; throws Error(input) beyond the limit.
    std::vector<std::byte>& add(std::uint64_t bytes);

    std::deque<std::vector<std::byte>> take() { return std::move(made_); }

  private:
    std::uint64_t left_;
    std::deque<std::vector<std::byte>> made_;
};

/// Lays out the tensor of a PickleKind::tensor node: a view of its storage where that is
/// contiguous, else a row-major copy (transposed, expanded, channels-last).
///
/// returns  the tensor, its name empty
/// throws   Error(input): an unsupported kind or type, arguments that make no sense, elements
///          outside of the storage
/// Source: torch._utils._rebuild_tensor and its versions 2 and 3, which share their first four
/// arguments: storage, offset, sizes, strides.
TensorView read_tensor(const Pickle& pickle, PickleRef ref, const StorageBytes& storages,
                       TensorCopies& copies);

}  // namespace ultrasr
