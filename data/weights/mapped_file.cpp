#include "data/weights/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <system_error>

#include "data/base/error.h"

namespace ultrasr {
namespace {

/// Sizes of the maps that live, by address: only their pages can come back from a file.
struct Maps {
    std::mutex mutex;
    std::map<std::uintptr_t, std::size_t> sizes;

    /// Never destroyed: maps may be held by objects that outlive it.
    static Maps& all() {
        static Maps* const maps = new Maps;
        return *maps;
    }
};

std::uintptr_t number_of(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }

}  // namespace

MappedFile map_file(const std::filesystem::path& path) {
    const auto reason = [] { return std::generic_category().message(errno); };
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    require(descriptor >= 0, "cannot read {}: {}", path.string(), reason());
    struct stat status {};
    const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    const auto size = static_cast<std::size_t>(regular ? status.st_size : 0);
    void* address = MAP_FAILED;
    if (size > 0) address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    const std::string why = address == MAP_FAILED ? reason() : "";
    ::close(descriptor);
    require(regular, "cannot read {}: it is not a regular file", path.string());
    if (size == 0) return {};
    require(address != MAP_FAILED, "cannot map {} into memory: {}", path.string(), why);
    const auto unmap = [size](const void* p) {
        const std::lock_guard lock(Maps::all().mutex);
        Maps::all().sizes.erase(number_of(p));
        ::munmap(const_cast<void*>(p), size);
    };
    const std::lock_guard lock(Maps::all().mutex);
    Maps::all().sizes.emplace(number_of(address), size);
    return {{address, unmap}, {static_cast<const std::byte*>(address), size}};
}

void give_back_pages(std::span<const std::byte> bytes) {
    static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const std::uintptr_t begin = (number_of(bytes.data()) + page - 1) / page * page;
    const std::uintptr_t end = number_of(bytes.data() + bytes.size()) / page * page;
    if (begin >= end) return;
    const std::lock_guard lock(Maps::all().mutex);
    auto after = Maps::all().sizes.upper_bound(begin);
    if (after == Maps::all().sizes.begin()) return;
    const auto& [map, size] = *--after;
    if (end > map + size) return;
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace ultrasr
