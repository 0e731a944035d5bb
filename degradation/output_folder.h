// What a run has finished, on disk: pictures, a journal while it runs, records when it is done.
#pragma once
#include <cstddef>
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
    struct Entry {
        Json record;         ///< null: skipped
        Json skipped;        ///< {source, reason, broken}
        Json files;          ///< {path below the folder: SHA-256 of the file}
        bool final = false;  ///< from records.jsonl: in an HDF5 file or checked
    };

    void read_journals();
    void take_line(const Json& line, const std::string& file);
    void append(const Json& line);
    void write_group(std::size_t n, const std::vector<Entry*>& items,
                     const std::vector<std::filesystem::path>& staged);
    void write_records(const std::vector<std::string>& keys);
    std::filesystem::path shard_path(std::size_t n) const;

    const DegradeRun& run_;
    std::unique_ptr<FolderLock> lock_;
    mutable std::mutex mutex_;
    std::map<std::string, Entry> entries_;
    std::optional<LineLog> log_;
};

}  // namespace ultrasr
