// The file that torch.save wrote before version 1.6: pickles in a row, then the raw storages.
#pragma once
#include <cstddef>
#include <map>
#include <span>
#include <string>

#include "data/weights/pickle.h"

namespace ultrasr {

struct LegacyCheckpoint {
    Pickle object;  ///< what was saved; its storages are persistent nodes
    std::map<std::string, std::span<const std::byte>> storages;  ///< by key
};

/// True when the bytes begin like such a file: with its magic number as a pickle.
bool is_legacy_checkpoint(std::span<const std::byte> bytes);

/// Reads magic number, protocol, system information, object, list of storage keys, and the place
/// of each storage, in the order of that list: a count of elements, then the elements.
///
/// bytes   the whole file, which the result points into
/// throws  Error(input): a broken pickle, big-endian data, another protocol, a storage that is
///         missing, differs in length from what the object says, or is cut short
/// Source: metrics.md 1.4 and 0.6; one_step_models.md 5.4.
LegacyCheckpoint read_legacy_checkpoint(std::span<const std::byte> bytes);

}  // namespace ultrasr
