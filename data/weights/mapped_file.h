// A file as bytes in memory, without reading it: the kernel brings the pages that are touched.
#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace ultrasr {

/// The bytes of a file; they live as long as `holder` or a copy of it.
struct MappedFile {
    std::shared_ptr<const void> holder;  ///< null for an empty file
    std::span<const std::byte> bytes;
};

/// Maps a file read-only. Whoever shortens the file while it is mapped kills the program, so files
/// are replaced by rename only.
///
/// throws Error(input) when it is missing, not a regular file or not readable
MappedFile map_file(const std::filesystem::path& path);

/// Tells the kernel that bytes of a mapped file have been read and need no memory any more; touched
/// again they are read again. Bytes that lie in no map stay as they are. So a pass over a large
/// file keeps small.
void give_back_pages(std::span<const std::byte> bytes);

}  // namespace ultrasr
