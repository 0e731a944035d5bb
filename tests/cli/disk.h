// What a program left on a disk, and small disks to fill or to make read-only.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace ultrasr::test {

/// The files below a folder, relative, sorted; locks are left out.
std::vector<std::string> files_in(const std::filesystem::path& out);

/// Name and SHA-256 of each file but settings.json, which names the threads.
std::string tree_of(const std::filesystem::path& out);

/// Temporary files that were left behind.
std::vector<std::filesystem::path> temporary_files(const std::filesystem::path& out);

bool holds(const std::string& text, const std::string& part);

/// How often the part is in the text.
std::size_t count(const std::string& text, const std::string& part);

/// A small file system of its own; not usable where mounting is not allowed.
class SmallTmpfs {
  public:
    explicit SmallTmpfs(const std::string& options);
    ~SmallTmpfs();
    SmallTmpfs(const SmallTmpfs&) = delete;
    SmallTmpfs& operator=(const SmallTmpfs&) = delete;
    bool usable() const { return mounted_; }
    const std::filesystem::path& path() const { return path_; }
    /// With other options ("size=20m"), or read-only.
    void remount(const std::string& options, bool read_only = false) const;

  private:
    std::filesystem::path path_;
    bool mounted_ = false;
};

}  // namespace ultrasr::test
