// The directory of a zip file whose entries are stored uncompressed, as torch.save writes them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace ultrasr {

/// Views into the bytes of a zip file, which must outlive it.
class ZipArchive {
  public:
    struct Entry {
        std::uint16_t flags = 0;
        std::uint16_t method = 0;  ///< 0: stored
        std::uint32_t crc = 0;     ///< 0: not recorded (torch.save can leave it out)
        std::uint64_t packed = 0, size = 0, header = 0;
    };

    /// Reads the central directory, zip64 included; entries are checked when they are opened.
    ///
    /// throws Error(input) when the directory is missing (the file is cut short), broken, split
    /// over
    ///        several files, or names an entry twice
    /// Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
    explicit ZipArchive(std::span<const std::byte> bytes);

    const std::map<std::string_view, Entry, std::less<>>& entries() const { return entries_; }
    bool contains(std::string_view name) const { return entries_.contains(name); }

    /// The bytes of an entry, its CRC-32 compared where one is recorded.
    ///
    /// throws Error(input) when there is no such entry, it is compressed or encrypted, lies outside
    ///        the file, or its checksum differs
    std::span<const std::byte> open(std::string_view name) const;

  private:
    std::span<const std::byte> bytes_;
    std::map<std::string_view, Entry, std::less<>> entries_;
};

}  // namespace ultrasr
