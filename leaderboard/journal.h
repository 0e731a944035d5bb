// What of a run is finished, kept on disk line by line, so that nothing is done twice.
#pragma once
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "data/base/json.h"
#include "data/file.h"
#include "models/stage_times.h"

namespace ultrasr {

/// One folder's journal*.jsonl files. Reads all of them, appends to one; safe to use from several
/// threads, and several processes may each append to their own.
class Journal {
  public:
    /// folder    of the run; made if need be
    /// name      of the file to append to: "journal.jsonl", "journal.2of8.jsonl"
    /// settings  everything the finished pictures depend on
    /// throws    Error(input) when the folder holds work of other settings: says which differ;
    ///           Error(storage)
    Journal(const std::filesystem::path& folder, const std::string& name, const Json& settings);

    /// Seconds that restoring the picture took, if it is done. NaN when they say nothing.
    std::optional<double> restored(const std::string& stem) const;

    /// Seconds of the method's parts; empty where it has none or nobody noted them.
    StageTimes restored_split(const std::string& stem) const;

    /// A score, if it is done.
    std::optional<double> score(const std::string& stem, const std::string& metric) const;

    /// Seconds that scoring the picture took in the last call that scored it.
    std::optional<double> score_seconds(const std::string& stem) const;

    void add_restored(const std::string& stem, double seconds, const StageTimes& split = {});
    void add_scores(const std::string& stem, const std::map<std::string, double>& scores,
                    double seconds);

    /// Removes all journals below the folder.
    static void forget(const std::filesystem::path& folder);

  private:
    struct Entry {
        std::optional<double> restored;
        StageTimes split;
        std::optional<double> score_seconds;
        std::map<std::string, double> scores;
    };
    void take(const Json& line);

    mutable std::mutex mutex_;
    std::map<std::string, Entry> entries_;
    std::optional<LineLog> log_;
};

}  // namespace ultrasr
