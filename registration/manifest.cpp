#include "registration/manifest.h"

#include <algorithm>
#include <map>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/base/log.h"
#include "data/file.h"
#include "registration/median.h"
#include "registration/pair_record.h"
#include "registration/session.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

bool accepted(const Json& pair) {
    return pair.at("verdict") == "ok" || pair.at("verdict") == "ok_masked";
}

/// Nobody needs to hear of each JPEG beside its RAW file.
bool worth_telling(const std::string& reason) {
    return !reason.starts_with("superseded") && !reason.starts_with("missing_focal");
}

/// What the manifest says of a pair.
Json entry_of(const Json& pair) {
    Json entry{{"scene", pair.at("scene")},         {"scale", pair.at("scale")},
               {"window", pair.at("window")},       {"verdict", pair.at("verdict")},
               {"reason", pair.at("reason")},       {"gates", pair.at("gates")},
               {"sigma_est", pair.at("sigma_est")}, {"scale_true", pair.at("scale_true")},
               {"seconds", pair.at("seconds")},     {"notes", pair.at("notes")}};
    for (const char* key : {"true_error_lr_px", "crop", "files"}) {
        if (pair.contains(key)) entry[key] = pair.at(key);
    }
    return entry;
}

/// Counts and figures of all pairs.
struct Tally {
    struct Scale {
        int accepted = 0, tried = 0;
        std::vector<double> sigmas, errors;  ///< of the accepted pairs, LR px
    };
    std::map<std::string, int> verdicts{{"ok", 0}, {"ok_masked", 0}, {"reject", 0}, {"error", 0}};
    std::map<std::string, int> reasons;
    std::map<int, Scale> scales;

    void add(const Json& pair) {
        ++verdicts[pair.at("verdict").get<std::string>()];
        Scale& scale = scales[pair.at("scale").get<int>()];
        ++scale.tried;
        if (!accepted(pair)) {
            const std::string reason = pair.at("reason");
            ++reasons[reason.substr(0, reason.find(':'))];
            return;
        }
        ++scale.accepted;
        scale.sigmas.push_back(number_from_json(pair.at("sigma_est")));
        if (pair.contains("true_error_lr_px")) {
            scale.errors.push_back(number_from_json(pair.at("true_error_lr_px")));
        }
    }

    Json scales_json() const {
        Json result = Json::object();
        for (const auto& [scale, figures] : scales) {
            Json entry{{"accepted", figures.accepted},
                       {"tried", figures.tried},
                       {"median_sigma_est", short_number(median_of(figures.sigmas))}};
            if (!figures.errors.empty()) {
                entry["median_true_error_lr_px"] = short_number(median_of(figures.errors));
                entry["worst_true_error_lr_px"] =
                    short_number(*std::max_element(figures.errors.begin(), figures.errors.end()));
            }
            result[fmt::format("x{:02}", scale)] = entry;
        }
        return result;
    }
};

}  // namespace

std::vector<Json> stored_records(const fs::path& out) {
    std::vector<fs::path> files;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(out / "scenes", code)) {
        if (fs::exists(entry.path() / "done") && fs::exists(entry.path() / "pair.json")) {
            files.push_back(entry.path() / "pair.json");
        }
    }
    std::sort(files.begin(), files.end());
    std::vector<Json> records;
    for (const fs::path& file : files) {
        try {
            records.push_back(parse_json(read_file(file), file.string()));
        } catch (const Error&) {  // another shard may be doing the scene again
            if (fs::exists(file.parent_path() / "done")) throw;
        }
    }
    return records;
}

Json manifest_of(const fs::path& out, const RegisterSettings& settings,
                 const std::vector<SkippedFile>& skipped) {
    const std::vector<Json> records = stored_records(out);
    const auto session = judge_session(records, settings);
    const auto session_note = [&](const Json& pair) -> std::string {
        const auto scene = session.find(pair.at("scene"));
        if (scene == session.end()) return {};
        const auto verdict = scene->second.find(pair.at("scale"));
        return verdict == scene->second.end() ? "" : verdict->second.note;
    };
    Json manifest{
        {"format", "ultrasr-registration"},
        {"version", 1},
        {"tool", {{"version", tool_version().version}, {"commit", tool_version().commit}}},
        {"settings", settings_to_json(settings)},
        {"settings_hash", settings_hash(settings)},
        {"scenes", Json::array()},
        {"pairs", Json::array()},
        {"skipped", Json::array()}};
    Tally tally;
    for (const Json& record : records) {
        manifest["scenes"].push_back({{"name", record.at("scene")},
                                      {"notes", record.at("notes")},
                                      {"reason", record.at("reason")},
                                      {"skipped", record.at("skipped")}});
        for (const Json& pair : record.at("pairs")) {
            Json entry = entry_of(pair);
            if (const std::string note = session_note(pair); !note.empty()) {
                entry["notes"].push_back(note);
            }
            manifest["pairs"].push_back(std::move(entry));
            tally.add(pair);
        }
    }
    for (const SkippedFile& file : skipped) {
        manifest["skipped"].push_back({{"file", file.name}, {"reason", file.reason}});
    }
    manifest["counts"] = tally.verdicts;
    manifest["reasons"] = tally.reasons;
    manifest["scales"] = tally.scales_json();
    return sorted(manifest);
}

std::string summary_of(const Json& manifest) {
    std::string text;
    for (const auto& [name, scale] : manifest.at("scales").items()) {
        text += fmt::format("x{:<3} {:3} of {:3} pairs accepted", std::stoi(name.substr(1)),
                            scale.at("accepted").get<int>(), scale.at("tried").get<int>());
        if (scale.at("accepted").get<int>() > 0) {
            text += fmt::format(", estimated error {:.3f} LR px (median)",
                                number_from_json(scale.at("median_sigma_est")));
        }
        if (scale.contains("median_true_error_lr_px")) {
            text += fmt::format(", true error {:.3f} (median), {:.3f} (worst)",
                                number_from_json(scale.at("median_true_error_lr_px")),
                                number_from_json(scale.at("worst_true_error_lr_px")));
        }
        text += "\n";
    }
    std::string refused;
    for (const auto& [reason, count] : manifest.at("reasons").items()) {
        refused += fmt::format("{}{} {}", refused.empty() ? "" : ", ", count.get<int>(), reason);
    }
    if (!refused.empty()) text += "not accepted: " + refused + "\n";
    std::size_t skipped = manifest.at("skipped").size(), without = 0;
    for (const Json& scene : manifest.at("scenes")) {
        skipped += scene.at("skipped").size();
        without += scene.at("reason") != "" ? 1 : 0;
    }
    const Json& counts = manifest.at("counts");
    text += fmt::format(
        "{} scenes ({} without a pair), {} pairs ok, {} ok with a mask, {} rejected, "
        "{} errors, {} files skipped\n",
        manifest.at("scenes").size(), without, counts.at("ok").get<int>(),
        counts.at("ok_masked").get<int>(), counts.at("reject").get<int>(),
        counts.at("error").get<int>(), skipped);
    return text;
}

void tell_skipped(const std::vector<SkippedFile>& skipped) {
    for (const SkippedFile& file : skipped) {
        if (worth_telling(file.reason)) warn("{}", file.reason);
    }
}

void tell_what_was_left_out(const Json& manifest) {
    for (const Json& scene : manifest.at("scenes")) {
        const std::string name = scene.at("name"), reason = scene.at("reason");
        for (const Json& file : scene.at("skipped")) {
            const std::string why = file.at("reason");
            if (worth_telling(why)) warn("scene {}: {}", name, why);
        }
        if (!reason.empty()) warn("scene {} gives no pair: {}", name, reason);
    }
    for (const Json& pair : manifest.at("pairs")) {
        const std::string reason = pair.at("reason");
        if (accepted(pair) || !worth_telling(reason)) continue;
        if (reason.starts_with("unreadable")) continue;  // told with the scene's files
        info("scene {} x{}: {}", pair.at("scene").get<std::string>(), pair.at("scale").get<int>(),
             reason);
    }
}

void require_a_pair(const Json& manifest, const fs::path& raw) {
    for (const Json& pair : manifest.at("pairs")) {
        const std::string reason = pair.at("reason");
        if (!(reason.starts_with("missing_focal") || reason.starts_with("unreadable") ||
              reason.starts_with("no_focal") || reason.starts_with("size_differs"))) {
            return;
        }
    }
    std::string why;
    for (const Json& scene : manifest.at("scenes")) {
        if (scene.at("reason") != "" && why.empty()) {
            why = fmt::format(" ({}: {})", scene.at("name").get<std::string>(),
                              scene.at("reason").get<std::string>());
        }
    }
    for (const Json& pair : manifest.at("pairs")) {
        if (why.empty()) why = fmt::format(" ({})", pair.at("reason").get<std::string>());
    }
    fail(Fault::input, "no pair found in {}{}; give one wide and at least one tele frame a scene",
         raw.string(), why);
}

}  // namespace ultrasr
