#include "leaderboard/journal.h"

#include <vector>
#include <nlohmann/json.hpp>

#include "data/base/error.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

std::vector<fs::path> journals_in(const fs::path& folder) {
    std::vector<fs::path> files;
    if (!fs::is_directory(folder)) return files;
    for (const auto& entry : fs::directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with("journal") && name.ends_with(".jsonl")) files.push_back(entry.path());
    }
    return files;
}

/// Names of the settings in which two records differ.
std::string differences(const Json& a, const Json& b) {
    std::string names;
    for (const auto& [key, value] : a.items()) {
        if (!b.contains(key) || b[key] != value) names += (names.empty() ? "" : ", ") + key;
    }
    for (const auto& [key, value] : b.items()) {
        if (!a.contains(key)) names += (names.empty() ? "" : ", ") + key;
    }
    return names;
}

}  // namespace

Journal::Journal(const fs::path& folder, const std::string& name, const Json& settings) {
    for (const fs::path& file : journals_in(folder)) {
        const std::string text = read_file(file);
        std::size_t at = 0;
        bool first = true;
        for (std::size_t end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
            const Json line = parse_json(text.substr(at, end - at), file.string());
            if (first) {
                const Json old = line.value("settings", Json::object());
                require(old == settings,
                        "{} holds results of other settings ({} differ); give --restart to replace "
                        "them or choose another --out",
                        folder.string(), differences(old, settings));
                first = false;
            } else {
                take(line);
            }
        }
    }
    const fs::path own = folder / name;
    log_.emplace(own);
    if (fs::file_size(own) == 0) log_->append(dump_json_line({{"settings", settings}}));
}

void Journal::take(const Json& line) {
    Entry& entry = entries_[line.at("stem").get<std::string>()];
    if (line.contains("restored")) {
        entry = {};  // other pixels than before: earlier scores speak of others
        entry.restored = number_from_json(line["restored"]);
        if (line.contains("split")) {
            for (const auto& [part, seconds] : line["split"].items()) {
                entry.split.add(part, number_from_json(seconds));
            }
        }
    }
    if (line.contains("scores")) {
        for (const auto& [metric, value] : line["scores"].items()) {
            entry.scores[metric] = number_from_json(value);
        }
        entry.score_seconds = number_from_json(line.at("seconds"));
    }
}

std::optional<double> Journal::restored(const std::string& stem) const {
    const std::lock_guard lock(mutex_);
    const auto at = entries_.find(stem);
    return at == entries_.end() ? std::nullopt : at->second.restored;
}

StageTimes Journal::restored_split(const std::string& stem) const {
    const std::lock_guard lock(mutex_);
    const auto at = entries_.find(stem);
    return at == entries_.end() ? StageTimes() : at->second.split;
}

std::optional<double> Journal::score(const std::string& stem, const std::string& metric) const {
    const std::lock_guard lock(mutex_);
    const auto at = entries_.find(stem);
    if (at == entries_.end()) return std::nullopt;
    const auto value = at->second.scores.find(metric);
    return value == at->second.scores.end() ? std::nullopt : std::optional(value->second);
}

std::optional<double> Journal::score_seconds(const std::string& stem) const {
    const std::lock_guard lock(mutex_);
    const auto at = entries_.find(stem);
    return at == entries_.end() ? std::nullopt : at->second.score_seconds;
}

void Journal::add_restored(const std::string& stem, double seconds, const StageTimes& split) {
    Json line{{"stem", stem}, {"restored", json_number(seconds)}};
    for (const auto& [part, taken] : split.stages()) line["split"][part] = json_number(taken);
    const std::lock_guard lock(mutex_);
    log_->append(dump_json_line(line));
    take(line);
}

void Journal::add_scores(const std::string& stem, const std::map<std::string, double>& scores,
                         double seconds) {
    Json values = Json::object();
    for (const auto& [metric, value] : scores) values[metric] = json_number(value);
    const Json line{{"stem", stem}, {"scores", values}, {"seconds", json_number(seconds)}};
    const std::lock_guard lock(mutex_);
    log_->append(dump_json_line(line));
    take(line);
}

void Journal::forget(const fs::path& folder) {
    for (const fs::path& file : journals_in(folder)) fs::remove(file);
}

}  // namespace ultrasr
