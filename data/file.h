// Whole files: read at once, written so that a reader never sees half of one.
#pragma once
#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>

namespace ultrasr {

/// Reads a file into memory.
///
/// throws Error(input) when it is missing, not a regular file or not readable
std::string read_file(const std::filesystem::path& path);

/// Writes beside `path`, syncs, renames; folders above are made. An earlier file stays whole until
/// the rename.
///
/// throws Error(storage) when the disk is full or the folder not writable; nothing is left behind
void write_file(const std::filesystem::path& path, std::string_view bytes);

/// A file written piece by piece beside `path`, which takes its place as a whole or not at all.
class OutputFile {
  public:
    /// Makes the folders above. throws Error(storage), as the others do.
    explicit OutputFile(std::filesystem::path path);
    /// Removes what was written unless finish() was reached.
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;

    void append(std::string_view bytes);

    /// Syncs and renames.
    void finish();

  private:
    std::filesystem::path path_, temporary_;
    int descriptor_ = -1;
};

/// A file beside another that goes away with the object unless it took the other's name: for
/// libraries that want a path to write to.
class TemporaryFile {
  public:
    /// Makes nothing yet; path() is where to write.
    explicit TemporaryFile(const std::filesystem::path& beside);
    ~TemporaryFile();
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    const std::filesystem::path& path() const { return path_; }

    /// Syncs and renames; errno, or 0.
    int become(const std::filesystem::path& path);

  private:
    std::filesystem::path path_;
};

/// Removes what a killed process left half written in `folder` (not below it); files of processes
/// that still run stay.
void remove_stale_temporaries(const std::filesystem::path& folder);

/// Makes a folder and those above it. throws Error(storage).
void make_folders(const std::filesystem::path& path);

/// Lower-case hexadecimal SHA-256 of bytes in memory.
std::string sha256(std::string_view bytes);

/// The same of a file, read in pieces. throws Error(input).
std::string sha256_of_file(const std::filesystem::path& path);

/// Appends whole lines to a file and survives being killed: a torn last line is cut away when the
/// file is opened again. Synced to the disk once a second.
class LineLog {
  public:
    /// Opens or makes the file. throws Error(storage).
    explicit LineLog(const std::filesystem::path& path);
    ~LineLog();
    LineLog(const LineLog&) = delete;
    LineLog& operator=(const LineLog&) = delete;

    /// `line` without its newline. Callers serialise. throws Error(storage); then no part of the
    /// line stays.
    void append(std::string_view line);

  private:
    std::filesystem::path path_;
    int descriptor_;
    std::chrono::steady_clock::time_point synced_;
};

/// Holds a folder for one process as long as the object lives.
class FolderLock {
  public:
    /// throws Error(storage) when another run holds it
    explicit FolderLock(const std::filesystem::path& folder, const std::string& name = ".lock");
    ~FolderLock();
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

  private:
    int descriptor_;
};

}  // namespace ultrasr
