#include "tests/cli/disk.h"

#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>

#include "data/file.h"
#include "tests/test.h"

namespace ultrasr::test {
namespace fs = std::filesystem;

std::vector<std::string> files_in(const fs::path& out) {
    std::vector<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(out)) {
        const std::string name = entry.path().filename().string();
        if (entry.is_regular_file() && !name.starts_with(".lock")) {
            files.push_back(entry.path().lexically_relative(out).generic_string());
        }
    }
    std::sort(files.begin(), files.end());
    return files;
}

std::string tree_of(const fs::path& out) {
    std::string tree;
    for (const std::string& file : files_in(out)) {
        if (file != "settings.json") tree += file + " " + sha256_of_file(out / file) + "\n";
    }
    return tree;
}

std::vector<fs::path> temporary_files(const fs::path& out) {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(out)) {
        if (entry.path().extension() == ".tmp") found.push_back(entry.path());
    }
    return found;
}

bool holds(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
    return n;
}

SmallTmpfs::SmallTmpfs(const std::string& options) {
    std::string pattern = (fs::temp_directory_path() / "ultrasr-disk-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
    mounted_ = ::mount("ultrasr-test", path_.c_str(), "tmpfs", 0, options.c_str()) == 0;
    if (!mounted_) MESSAGE("skipped: mounting a small tmpfs needs root");
}

SmallTmpfs::~SmallTmpfs() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
    std::error_code ignored;
    fs::remove(path_, ignored);
}

void SmallTmpfs::remount(const std::string& options, bool read_only) const {
    const unsigned long flags = MS_REMOUNT | (read_only ? MS_RDONLY : 0);
    REQUIRE(::mount("", path_.c_str(), "", flags, options.c_str()) == 0);
}

}  // namespace ultrasr::test
