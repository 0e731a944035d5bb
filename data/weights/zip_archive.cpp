#include "data/weights/zip_archive.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "data/base/error.h"
#include "data/weights/mapped_file.h"
#include "data/weights/shown_name.h"

namespace ultrasr {
namespace {

// Signatures and lengths of the fixed parts (APPNOTE 4.3.7, 4.3.12, 4.3.14 to 4.3.16)
constexpr std::uint32_t local_signature = 0x04034b50;
constexpr std::uint32_t central_signature = 0x02014b50;
constexpr std::uint32_t end_signature = 0x06054b50;
constexpr std::uint32_t end64_signature = 0x06064b50;
constexpr std::uint32_t locator64_signature = 0x07064b50;
constexpr std::uint64_t local_length = 30, central_length = 46, end_length = 22;
constexpr std::uint64_t end64_length = 56, locator64_length = 20;
constexpr std::uint64_t max_comment = 65535;
constexpr std::uint32_t in_zip64 = 0xffffffff;  // "see the zip64 record"

/// A little-endian number at `at`; the caller has checked that it lies inside.
template <class Number>
Number number_at(std::span<const std::byte> bytes, std::uint64_t at) {
    Number value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
}

bool fits(std::span<const std::byte> bytes, std::uint64_t at, std::uint64_t length) {
    return at <= bytes.size() && length <= bytes.size() - at;
}

struct Directory {
    std::uint64_t count = 0, size = 0, offset = 0;
};

/// The last end record whose comment reaches exactly to the file's end.
std::optional<std::uint64_t> find_end(std::span<const std::byte> bytes) {
    if (bytes.size() < end_length) return std::nullopt;
    const std::uint64_t last = bytes.size() - end_length;
    for (std::uint64_t back = 0; back <= std::min(last, max_comment); ++back) {
        const std::uint64_t at = last - back;
        if (number_at<std::uint32_t>(bytes, at) == end_signature &&
            number_at<std::uint16_t>(bytes, at + 20) == back) {
            return at;
        }
    }
    return std::nullopt;
}

Directory find_directory(std::span<const std::byte> bytes) {
    const auto end = find_end(bytes);
    require(end.has_value(),
            "the zip directory at the file's end is missing, so the file is cut short; fetch it "
            "again");
    require(number_at<std::uint32_t>(bytes, *end + 4) == 0,
            "the zip file is one part of several; join them first");
    Directory found{number_at<std::uint16_t>(bytes, *end + 10),
                    number_at<std::uint32_t>(bytes, *end + 12),
                    number_at<std::uint32_t>(bytes, *end + 16)};

    // A locator in front of the end record leads to the wide numbers
    const bool wide =
        *end >= locator64_length &&
        number_at<std::uint32_t>(bytes, *end - locator64_length) == locator64_signature;
    if (!wide) return found;
    const auto at = number_at<std::uint64_t>(bytes, *end - locator64_length + 8);
    require(fits(bytes, at, end64_length) && number_at<std::uint32_t>(bytes, at) == end64_signature,
            "the zip64 end record is not where the file says; fetch it again");
    return {number_at<std::uint64_t>(bytes, at + 32), number_at<std::uint64_t>(bytes, at + 40),
            number_at<std::uint64_t>(bytes, at + 48)};
}

/// Puts the 64-bit numbers of the extra field where the narrow ones say so (APPNOTE 4.5.3).
void widen(ZipArchive::Entry& entry, std::span<const std::byte> extra, std::string_view name) {
    std::array<std::uint64_t*, 3> wanted{&entry.size, &entry.packed, &entry.header};
    const auto narrow = [](const std::uint64_t* n) { return *n == in_zip64; };
    if (std::none_of(wanted.begin(), wanted.end(), narrow)) return;
    for (std::uint64_t at = 0; fits(extra, at, 4);) {
        const auto id = number_at<std::uint16_t>(extra, at);
        const std::uint64_t length = number_at<std::uint16_t>(extra, at + 2);
        at += 4;
        if (!fits(extra, at, length)) break;
        if (id == 1) {
            std::uint64_t from = at;
            for (std::uint64_t* n : wanted) {
                if (!narrow(n)) continue;
                require(from + 8 <= at + length, "the zip64 numbers of entry {} are missing",
                        shown_name(name));
                *n = number_at<std::uint64_t>(extra, from);
                from += 8;
            }
            return;
        }
        at += length;
    }
    // Without the field the number is meant as it stands
}

}  // namespace

ZipArchive::ZipArchive(std::span<const std::byte> bytes) : bytes_(bytes) {
    const Directory directory = find_directory(bytes);
    require(fits(bytes, directory.offset, directory.size),
            "the zip directory lies outside the file, so the file is cut short; fetch it again");
    const std::span<const std::byte> list = bytes.subspan(directory.offset, directory.size);
    std::uint64_t at = 0;
    for (std::uint64_t i = 0; i < directory.count; ++i) {
        // One entry: fixed part, name, extra field, comment
        require(fits(list, at, central_length) &&
                    number_at<std::uint32_t>(list, at) == central_signature,
                "entry {} of the zip directory is broken; fetch the file again", i);
        Entry entry{.flags = number_at<std::uint16_t>(list, at + 8),
                    .method = number_at<std::uint16_t>(list, at + 10),
                    .crc = number_at<std::uint32_t>(list, at + 16),
                    .packed = number_at<std::uint32_t>(list, at + 20),
                    .size = number_at<std::uint32_t>(list, at + 24),
                    .header = number_at<std::uint32_t>(list, at + 42)};
        const std::uint64_t name_length = number_at<std::uint16_t>(list, at + 28);
        const std::uint64_t extra_length = number_at<std::uint16_t>(list, at + 30);
        const std::uint64_t comment_length = number_at<std::uint16_t>(list, at + 32);
        at += central_length;
        require(fits(list, at, name_length + extra_length + comment_length),
                "entry {} of the zip directory is broken; fetch the file again", i);
        const std::string_view name(reinterpret_cast<const char*>(list.data() + at), name_length);
        widen(entry, list.subspan(at + name_length, extra_length), name);
        at += name_length + extra_length + comment_length;
        require(entries_.emplace(name, entry).second, "the zip entry {} occurs twice",
                shown_name(name));
    }
}

std::span<const std::byte> ZipArchive::open(std::string_view name) const {
    const auto found = entries_.find(name);
    require(found != entries_.end(), "the zip file has no entry {}", shown_name(name));
    const Entry& entry = found->second;
    const std::string shown = shown_name(name);
    require((entry.flags & 1) == 0, "the zip entry {} is encrypted; save the checkpoint again",
            shown);
    require(entry.method == 0,
            "the zip entry {} is compressed, which torch.save never does; unpack and zip it again "
            "with zip -0",
            shown);
    require(entry.packed == entry.size, "the zip entry {} has two different sizes", shown);

    // The local header repeats name and extra field, with lengths of its own
    require(fits(bytes_, entry.header, local_length) &&
                number_at<std::uint32_t>(bytes_, entry.header) == local_signature,
            "the zip entry {} is not where the directory says; fetch the file again", shown);
    const std::uint64_t begin = entry.header + local_length +
                                number_at<std::uint16_t>(bytes_, entry.header + 26) +
                                number_at<std::uint16_t>(bytes_, entry.header + 28);
    require(fits(bytes_, begin, entry.size),
            "the zip entry {} reaches beyond the file's end; fetch it again", shown);
    const std::span<const std::byte> content = bytes_.subspan(begin, entry.size);

    // In pieces, so that a large file is not in memory as a whole
    uLong crc = 0;
    constexpr std::size_t piece = std::size_t{1} << 24;
    for (std::size_t at = 0; at < content.size(); at += piece) {
        const auto part = content.subspan(at, std::min(piece, content.size() - at));
        crc = ::crc32_z(crc, reinterpret_cast<const Bytef*>(part.data()), part.size());
        give_back_pages(part);
    }
    require(entry.crc == 0 || entry.crc == crc,
            "the checksum of the zip entry {} is wrong, so the file is damaged; fetch it again",
            shown);
    return content;
}

}  // namespace ultrasr
