// Bytes of a fuzzer as data.pkl inside an otherwise sound zip file.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/data/zip_file.h"
#include "tests/fuzz/fuzz.h"

namespace ultrasr::fuzz {

/// Reads a zip file as it is; takes anything else as data.pkl of one. Half of the seeds are of each
/// kind.
inline void read_zip(std::string_view bytes, bool torchscript) {
    if (bytes.starts_with("PK")) return read(bytes);
    std::vector<std::pair<std::string, std::string>> entries{
        {"archive/data.pkl", std::string(bytes)}, {"archive/byteorder", "little"}};
    for (int i = 0; i < storage_count; ++i) {
        entries.emplace_back("archive/data/" + std::to_string(i), storage_bytes(i));
    }
    if (torchscript) entries.emplace_back("archive/constants.pkl", "\x80\x02).");
    test::ZipOptions options;
    options.crc = false;  // costs time and finds nothing here
    read(test::zip_file(entries, options));
}

}  // namespace ultrasr::fuzz
