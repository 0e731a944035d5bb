// Tar shards for streaming loaders: <name>.gt.png, <name>.lr_x8.png, <name>.json side by side.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "degradation/degrade_run.h"

namespace ultrasr {

/// The members of one output, headers and padding included, without the end of an archive. No
/// times, no owners: the same bytes for the same output.
/// Source: POSIX.1-2001, ustar interchange format.
std::string tar_members(const DegradedItem& item, const std::string& record, int png_level);

/// Joins members of several files into one archive, by temporary file and rename.
/// throws Error(storage), Error(input)
void join_tar(const std::filesystem::path& path, const std::vector<std::filesystem::path>& members);

}  // namespace ultrasr
