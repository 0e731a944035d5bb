#include "data/weights/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "data/base/error.h"

namespace ultrasr {

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
    return {{address, [size](const void* p) { ::munmap(const_cast<void*>(p), size); }},
            {static_cast<const std::byte*>(address), size}};
}

}  // namespace ultrasr
