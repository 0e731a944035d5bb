// Many scenes' pairs in one HDF5 file, for training.
#pragma once
#include <cstddef>
#include <filesystem>

namespace ultrasr {

/// Gathers the accepted pairs of a finished run, a group a scene, without compressing anything
/// again; written by temporary file and rename.
///
/// out      folder of `ultrasr-register`
/// returns  number of pairs
/// throws   Error(input) when there is nothing to pack, Error(storage)
std::size_t pack_pairs(const std::filesystem::path& out, const std::filesystem::path& file);

}  // namespace ultrasr
