// doctest and what tests share. Include it last: LibTorch's CHECK replaces doctest's otherwise.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <unistd.h>

#undef CHECK  // LibTorch's logging defines it
#include <doctest/doctest.h>

namespace ultrasr::test {

/// A folder that goes away with the object.
class TemporaryFolder {
  public:
    TemporaryFolder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "ultrasr-XXXXXX").string();
        path_ = ::mkdtemp(pattern.data());
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

/// The checkout.
inline std::filesystem::path source_folder() {
    const char* path = std::getenv("ULTRASR_SOURCE");
    return path ? path : std::filesystem::current_path();
}

inline std::filesystem::path golden(const std::string& name) {
    return source_folder() / "tests" / "golden" / name;
}

/// A file or folder of the shared reference data ($ULTRASR_SHARED, else ../shared beside the
/// checkout); empty, with a message, where it is absent. Callers return early then.
inline std::optional<std::filesystem::path> shared(const std::string& name) {
    const char* root = std::getenv("ULTRASR_SHARED");
    const auto path =
        (root ? std::filesystem::path(root) : source_folder() / ".." / "shared") / name;
    if (std::filesystem::exists(path)) return path;
    MESSAGE("skipped: no " << path.string() << " (set ULTRASR_SHARED)");
    return std::nullopt;
}

}  // namespace ultrasr::test
