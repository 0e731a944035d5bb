// A zip file in memory, entries stored, made for tests: right by default, wrong where asked.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <zlib.h>

namespace ultrasr::test {

struct ZipOptions {
    bool crc = true;           ///< else 0: not recorded
    bool wide = false;         ///< zip64 records and numbers throughout
    std::uint16_t method = 0;  ///< what the entries claim
    std::uint16_t flags = 0;   ///< the same
    std::string comment;       ///< at the file's end
};

inline std::string little(std::uint64_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i, value >>= 8) out += static_cast<char>(value & 0xff);
    return out;
}

inline std::string zip_file(const std::vector<std::pair<std::string, std::string>>& entries,
                            const ZipOptions& options = {}) {
    std::string out, directory;
    for (const auto& [name, content] : entries) {
        const std::uint64_t crc =
            options.crc
                ? ::crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size())
                : 0;
        const std::uint64_t narrow = options.wide ? 0xffffffff : content.size();
        const std::string common = little(options.flags, 2) + little(options.method, 2) +
                                   little(0, 4) + little(crc, 4) + little(narrow, 4) +
                                   little(narrow, 4) + little(name.size(), 2);
        const std::string wide = little(1, 2) + little(24, 2) + little(content.size(), 8) +
                                 little(content.size(), 8) + little(out.size(), 8);
        directory += "PK\x01\x02" + little(45, 2) + little(45, 2) + common +
                     little(options.wide ? wide.size() : 0, 2) + little(0, 10) +
                     little(options.wide ? 0xffffffff : out.size(), 4) + name +
                     (options.wide ? wide : "");
        out += "PK\x03\x04" + little(45, 2) + common + little(0, 2) + name + content;
    }
    const std::uint64_t offset = out.size();
    out += directory;
    if (options.wide) {
        const std::uint64_t end = out.size();
        out += "PK\x06\x06" + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8) +
               little(entries.size(), 8) + little(entries.size(), 8) + little(directory.size(), 8) +
               little(offset, 8);
        out += "PK\x06\x07" + little(0, 4) + little(end, 8) + little(1, 4);
    }
    const auto narrow = [&](std::uint64_t value, int bytes) {
        return little(options.wide ? ~std::uint64_t{0} : value, bytes);
    };
    return out + "PK\x05\x06" + little(0, 4) + narrow(entries.size(), 2) +
           narrow(entries.size(), 2) + narrow(directory.size(), 4) + narrow(offset, 4) +
           little(options.comment.size(), 2) + options.comment;
}

}  // namespace ultrasr::test
