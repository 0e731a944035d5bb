// What a run has finished, on disk: pictures, a journal while it runs, records when it is done.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>
#include <nlohmann/json.hpp>

#include "data/base/fwd.h"
#include "data/file.h"
#include "degradation/degrade_run.h"

namespace ultrasr {

/// One output folder, held by one process (a shard holds its own part). Every finished output is a
/// journal line, written after its pictures; the final records.jsonl has them in the order of the
/// list, whoever made them and when.
class OutputFolder {
  public:
    /// Opens or makes the folder.
    /// throws Error(input) when it holds results of other options, naming them; Error(storage) when
    ///        it is locked or not writable
    explicit OutputFolder(const DegradeRun& run);

    /// "dir/photo.png" or "dir/photo.png#3".
    static std::string key(const std::string& source, int variant);

    /// Looks whether the pictures of finished outputs are still what was written; those that are
    /// not count as not done.
    void check_finished(Progress& progress);

    bool is_done(const std::string& key) const;

    /// Thread-safe. throws Error(storage)
    void add(const std::string& key, const DegradedItem& item);
    void add_skipped(const std::string& key, const std::string& source, const std::string& why,
                     bool broken);

    /// Gathers the staged pictures of a group into OUT/shard_<n>.h5 or .tar; does nothing when it
    /// is there.
    void pack(std::size_t n, const std::vector<std::string>& keys);

    /// If all keys are done: packs what is not packed, writes records.jsonl and skipped.jsonl and
    /// removes journals. Returns counts: done, skipped, broken, left, complete.
    /// must  throws Error(input) when something is left (--merge)
    Json finish(const std::vector<std::string>& keys, bool must);

  private:
    enum class Kind : std::uint8_t { done, skipped, broken };
    /// Where a finished output's line lies: a run of millions must not hold their records.
    struct Entry {
        std::uint64_t offset = 0;
        std::uint32_t length = 0;
        std::uint32_t file = 0;  ///< of line_files_
        Kind kind = Kind::done;
    };

    void read_journals();
    void read_lines(const std::filesystem::path& path);
    std::uint32_t file_number(const std::filesystem::path& path);
    std::string line_of(const Entry& entry) const;
    Json json_of(const Entry& entry) const;
    void open_log(const std::string& name);
    void append(const std::string& key, Kind kind, const Json& line);
    void write_group(std::size_t n, const std::vector<Entry>& items,
                     const std::vector<std::filesystem::path>& staged);
    void write_lines(const std::string& name, const std::vector<std::string>& keys, bool done);
    std::filesystem::path shard_path(std::size_t n) const;

    const DegradeRun& run_;
    std::unique_ptr<FolderLock> lock_;
    mutable std::mutex mutex_;
    std::map<std::string, Entry> entries_;
    std::vector<std::filesystem::path> line_files_;
    std::optional<LineLog> log_;
    std::uint32_t log_file_ = 0;
    std::uint64_t log_size_ = 0;
};

}  // namespace ultrasr
