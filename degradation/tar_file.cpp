#include "degradation/tar_file.h"

#include <fstream>
#include <system_error>
#include <fmt/format.h>

#include "data/base/error.h"
#include "data/file.h"
#include "data/image_io.h"

namespace ultrasr {
namespace {

constexpr std::size_t block = 512;

void put(std::string& header, std::size_t at, const std::string& text) {
    std::copy(text.begin(), text.end(), header.begin() + static_cast<std::ptrdiff_t>(at));
}

std::string member(const std::string& name, const std::string& bytes) {
    // ustar holds 100 bytes of name and 155 of folder
    require(name.size() <= 100,
            "{} is too long a name for a tar file (100 bytes); choose --names "
            "id",
            name);
    std::string header(block, '\0');
    put(header, 0, name);
    put(header, 100, "0000644");
    put(header, 108, "0000000");
    put(header, 116, "0000000");
    put(header, 124, fmt::format("{:011o}", bytes.size()));
    put(header, 136, "00000000000");
    put(header, 148, "        ");  // the checksum is taken with blanks in its place
    put(header, 156, "0");
    put(header, 257,
        std::string("ustar\0"
                    "00",
                    8));
    unsigned sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    put(header, 148, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
    return header + bytes + std::string((block - bytes.size() % block) % block, '\0');
}

}  // namespace

std::string tar_members(const DegradedItem& item, const std::string& record, int png_level) {
    std::string out;
    for (const auto& [picture, rgb] : item.pictures) {
        out += member(fmt::format("{}.{}.png", item.name, picture), encode_png(rgb, png_level));
    }
    return out + member(item.name + ".json", record + "\n");
}

void join_tar(const std::filesystem::path& path,
              const std::vector<std::filesystem::path>& members) {
    TemporaryFile temporary(path);
    std::ofstream to(temporary.path(), std::ios::binary);
    for (const auto& part : members) {
        const std::string bytes = read_file(part);
        to.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
    const std::string end(2 * block, '\0');
    to.write(end.data(), static_cast<std::streamsize>(end.size()));
    to.close();
    const int code = to ? temporary.become(path) : ENOSPC;
    if (code != 0) {
        fail(Fault::storage, "cannot write {}: {}; free space or choose another folder",
             path.string(), std::generic_category().message(code));
    }
}

}  // namespace ultrasr
