#include "registration/register_capture.h"

#include <malloc.h>
#include <tbb/global_control.h>
#include <tbb/parallel_pipeline.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <exception>
#include <mutex>
#include <set>
#include <thread>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core/utility.hpp>

#include "acquisition/capture_set.h"
#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/base/log.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "registration/pair_record.h"
#include "registration/session.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr double scene_memory = 450e6;  // bytes, a RAW scene in work (registration.md 13)

bool accepted(const Json& pair) {
    return pair.at("verdict") == "ok" || pair.at("verdict") == "ok_masked";
}

int scenes_at_once(const RegisterRun& run) {
    if (run.scenes_at_once > 0) return run.scenes_at_once;
    const double memory =
        static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
    return std::max(1, std::min(run.threads, static_cast<int>(0.6 * memory / scene_memory)));
}

/// Stable over machines: which of n shards a scene belongs to, 1 to n.
int shard_of(const std::string& scene, int shards) {
    return static_cast<int>(std::stoul(sha256(scene).substr(0, 7), nullptr, 16) %
                            static_cast<unsigned long>(shards)) +
           1;
}

void remove_stale_everywhere(const fs::path& out) {
    std::error_code code;
    remove_stale_temporaries(out);
    for (auto at = fs::recursive_directory_iterator(out, code);
         at != fs::recursive_directory_iterator(); at.increment(code)) {
        if (code) break;
        if (at->is_directory()) remove_stale_temporaries(at->path());
    }
}

/// Removes results of scenes that are no longer in the capture.
void remove_foreign_scenes(const fs::path& out, const CaptureSet& set) {
    std::error_code code;
    std::set<std::string> known;
    for (const CaptureScene& scene : set.scenes) known.insert(scene.name);
    std::vector<std::string> gone;
    for (const auto& entry : fs::directory_iterator(out / "scenes", code)) {
        const std::string name = entry.path().filename().string();
        if (!known.contains(name)) gone.push_back(name);
    }
    for (const std::string& name : gone) {
        remove_scene_outputs(out, name);
        fs::remove_all(out / "scenes" / name, code);
    }
}

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

/// Takes a lock that other shards hold for a while.
FolderLock lock_patiently(const fs::path& folder, const std::string& name,
                          std::chrono::seconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    for (;;) {
        try {
            return FolderLock(folder, name);
        } catch (const Error&) {
            if (std::chrono::steady_clock::now() > deadline) throw;
        }
        Progress::throw_if_interrupted();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}

/// Folders in which other settings have left nothing would look like sets without pictures.
void remove_empty_folders(const fs::path& out) {
    std::vector<fs::path> folders{out / "h5", out / "qa", out / "rejected"};
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(out, code)) {
        if (!entry.path().filename().string().starts_with("x") || !entry.is_directory()) continue;
        for (const char* kind : {"LR", "HR", "LR16", "HR16"}) {
            folders.push_back(entry.path() / kind);
        }
        folders.push_back(entry.path());
    }
    for (const fs::path& folder : folders) {
        if (fs::is_directory(folder)) fs::remove(folder, code);  // fails where something is left
    }
}

/// Nobody needs to hear of each JPEG beside its RAW file.
bool worth_telling(const std::string& reason) {
    return !reason.starts_with("superseded") && !reason.starts_with("missing_focal");
}

/// On stderr: what was left out and why (registration.md 12).
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

double median_of(std::vector<double> values) {
    if (values.empty()) return std::nan("");
    std::sort(values.begin(), values.end());
    const std::size_t n = values.size();
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

/// Runs the jobs that are not finished, several scenes at once. An error lets the scenes in work
/// come to their end: thrown through the pipeline it would cancel their parallel loops half way,
/// and they would go on with what these had not filled.
///
/// before  called with a job that is going to be run; may be empty
void run_jobs(const RegisterRun& run, std::vector<SceneJob>& jobs, Progress& progress,
              const std::function<void(SceneJob&)>& before,
              const std::function<void()>& after_scene) {
    std::size_t next = 0;
    std::atomic<std::size_t> done{0};
    const tbb::global_control control(tbb::global_control::max_allowed_parallelism,
                                      static_cast<std::size_t>(run.threads));
    cv::setNumThreads(1);
#ifdef M_MMAP_THRESHOLD
    mallopt(M_MMAP_THRESHOLD, 4 << 20);  // pictures go back to the system when they are freed
#endif
    progress.step("register scenes", 0, jobs.size());
    std::mutex mutex;
    std::exception_ptr failure;  // the first
    std::atomic<bool> failed{false};
    tbb::parallel_pipeline(
        static_cast<std::size_t>(scenes_at_once(run)),
        tbb::make_filter<void, std::size_t>(tbb::filter_mode::serial_in_order,
                                            [&](tbb::flow_control& control_flow) {
                                                if (next < jobs.size() && !failed) return next++;
                                                control_flow.stop();
                                                return jobs.size();
                                            }) &
            tbb::make_filter<std::size_t, void>(tbb::filter_mode::parallel, [&](std::size_t i) {
                if (i >= jobs.size() || failed) return;
                try {
                    Progress::throw_if_interrupted();
                    if (!finished_scene(jobs[i])) {
                        if (before) before(jobs[i]);
                        while_doing(fmt::format("scene {}", jobs[i].scene->name),
                                    [&] { run_scene(jobs[i]); });
                        const std::lock_guard lock(mutex);
                        after_scene();
                    }
                    progress.step("register scenes", ++done, jobs.size());
                } catch (...) {
                    const std::lock_guard lock(mutex);
                    if (!failure) failure = std::current_exception();
                    failed = true;
                }
            }));
    if (failure) std::rethrow_exception(failure);
}

}  // namespace

Json manifest_of(const fs::path& out, const RegisterSettings& settings) {
    const std::vector<Json> records = stored_records(out);
    const auto session = judge_session(records, settings);
    Json manifest{
        {"format", "ultrasr-registration"},
        {"version", 1},
        {"tool", {{"version", tool_version().version}, {"commit", tool_version().commit}}},
        {"settings", settings_to_json(settings)},
        {"settings_hash", settings_hash(settings)},
        {"scenes", Json::array()},
        {"pairs", Json::array()},
        {"skipped", Json::array()}};
    std::map<std::string, int> verdicts{{"ok", 0}, {"ok_masked", 0}, {"reject", 0}, {"error", 0}};
    std::map<std::string, int> reasons;
    std::map<int, std::vector<double>> sigmas, errors;
    std::map<int, std::pair<int, int>> counts;  // by scale: accepted, tried
    for (const Json& record : records) {
        manifest["scenes"].push_back({{"name", record.at("scene")},
                                      {"notes", record.at("notes")},
                                      {"reason", record.at("reason")},
                                      {"skipped", record.at("skipped")}});
        for (const Json& pair : record.at("pairs")) {
            Json entry{{"scene", pair.at("scene")},         {"scale", pair.at("scale")},
                       {"window", pair.at("window")},       {"verdict", pair.at("verdict")},
                       {"reason", pair.at("reason")},       {"gates", pair.at("gates")},
                       {"sigma_est", pair.at("sigma_est")}, {"scale_true", pair.at("scale_true")},
                       {"seconds", pair.at("seconds")}};
            for (const char* key : {"true_error_lr_px", "crop", "files"}) {
                if (pair.contains(key)) entry[key] = pair.at(key);
            }
            const int scale = pair.at("scale");
            entry["notes"] = pair.at("notes");
            if (const auto scene = session.find(pair.at("scene")); scene != session.end()) {
                const auto verdict = scene->second.find(scale);
                if (verdict != scene->second.end() && !verdict->second.note.empty()) {
                    entry["notes"].push_back(verdict->second.note);
                }
            }
            ++verdicts[pair.at("verdict").get<std::string>()];
            ++counts[scale].second;
            if (accepted(pair)) {
                ++counts[scale].first;
                sigmas[scale].push_back(number_from_json(pair.at("sigma_est")));
                if (pair.contains("true_error_lr_px")) {
                    errors[scale].push_back(number_from_json(pair.at("true_error_lr_px")));
                }
            } else {
                const std::string reason = pair.at("reason");
                ++reasons[reason.substr(0, reason.find(':'))];
            }
            manifest["pairs"].push_back(std::move(entry));
        }
    }
    manifest["counts"] = verdicts;
    manifest["reasons"] = reasons;
    Json scales = Json::object();
    for (const auto& [scale, count] : counts) {
        Json entry{{"accepted", count.first},
                   {"tried", count.second},
                   {"median_sigma_est", short_number(median_of(sigmas[scale]))}};
        if (!errors[scale].empty()) {
            entry["median_true_error_lr_px"] = short_number(median_of(errors[scale]));
            entry["worst_true_error_lr_px"] =
                short_number(*std::max_element(errors[scale].begin(), errors[scale].end()));
        }
        scales[fmt::format("x{:02}", scale)] = entry;
    }
    manifest["scales"] = scales;
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

Json register_capture(const RegisterRun& run, Progress& progress) {
    const GroupingOptions grouping{run.settings.gap_s, run.settings.prefer_jpeg,
                                   run.settings.focal_mm};
    const CaptureSet set = find_capture_set(run.raw, grouping);
    std::vector<PairTruth> truth;
    std::string hash = settings_hash(run.settings);
    if (run.truth) {
        truth = read_truth(*run.truth);
        hash = sha256(hash + sha256_of_file(*run.truth));
    }
    if (!run.timing) hash = sha256(hash + "no timing");
    for (const SkippedFile& file : set.skipped) {
        if (worth_telling(file.reason)) warn("{}", file.reason);
    }

    make_folders(run.out);
    std::optional<FolderLock> lock;
    if (run.shards > 1) {
        lock.emplace(run.out, fmt::format(".lock.{}of{}", run.shard, run.shards));
    } else {
        lock.emplace(run.out);
        remove_stale_everywhere(run.out);
    }
    if (!run.options.empty()) write_file(run.out / "settings.json", run.options);
    if (run.restart && !run.merge) {
        for (const CaptureScene& scene : set.scenes) {
            if (shard_of(scene.name, run.shards) == run.shard) {
                remove_scene_outputs(run.out, scene.name);
            }
        }
    }
    if (run.shards == 1) remove_foreign_scenes(run.out, set);

    FileSums sums;
    const auto job_of = [&](const CaptureScene& scene) {
        SceneJob job;
        job.scene = &scene;
        job.raw = run.raw;
        job.out = run.out;
        job.settings = &run.settings;
        job.sums = &sums;
        job.settings_hash = hash;
        job.truth = run.truth ? &truth : nullptr;
        job.timing = run.timing;
        return job;
    };
    const auto write_manifest = [&] {
        const FolderLock writing =
            lock_patiently(run.out, ".lock.manifest", std::chrono::minutes(1));
        Json manifest = manifest_of(run.out, run.settings);
        for (const SkippedFile& file : set.skipped) {
            manifest["skipped"].push_back({{"file", file.name}, {"reason", file.reason}});
        }
        write_file(run.out / "manifest.json", dump_json(manifest));
        return manifest;
    };

    // Every scene by itself; what an earlier session pass has said of it is kept
    const auto known_session = [&](SceneJob& job) {
        const fs::path file = run.out / "scenes" / job.scene->name / "pair.json";
        if (!fs::exists(file)) return;
        try {
            const Json record = parse_json(read_file(file), file.string());
            for (const auto& [name, verdict] : record.at("session").items()) {
                SessionVerdict v;
                if (!verdict.at("fixed_k").is_null()) {
                    v.fixed_k = number_from_json(verdict.at("fixed_k"));
                }
                v.reject = verdict.at("reject");
                job.session[std::stoi(name.substr(1))] = v;
            }
        } catch (const std::exception&) {
            job.session.clear();
        }
    };
    std::vector<SceneJob> jobs;
    for (const CaptureScene& scene : set.scenes) {
        if (run.merge || shard_of(scene.name, run.shards) != run.shard) continue;
        SceneJob job = job_of(scene);
        known_session(job);
        jobs.push_back(std::move(job));
    }
    run_jobs(
        run, jobs, progress, [](SceneJob& job) { job.session.clear(); }, write_manifest);

    // The scenes together, once all are there
    const FolderLock together =  // two shards that end at once do not do the same scenes again
        lock_patiently(run.out, ".lock.session", std::chrono::hours(24));
    std::vector<SceneJob> again;
    bool complete = true;
    for (const CaptureScene& scene : set.scenes) {
        complete = complete && fs::exists(run.out / "scenes" / scene.name / "done");
    }
    if (complete) {
        const std::vector<Json> records = stored_records(run.out);
        const auto verdicts = judge_session(records, run.settings);
        for (const CaptureScene& scene : set.scenes) {
            SceneJob job = job_of(scene);
            if (const auto at = verdicts.find(scene.name); at != verdicts.end()) {
                job.session = at->second;
            }
            for (const Json& record : records) {
                if (record.at("scene") != scene.name) continue;
                for (const Json& pair : record.at("pairs")) {
                    if (pair.contains("own_figures") && pair.at("window") == 0) {
                        job.own_figures[pair.at("scale")] = pair.at("own_figures");
                    }
                }
            }
            if (!finished_scene(job)) again.push_back(std::move(job));
        }
        if (!again.empty()) run_jobs(run, again, progress, {}, write_manifest);
    } else if (run.merge) {
        warn("some scenes are not registered yet; run their shards, then --merge again");
    }

    if (run.shards == 1) remove_empty_folders(run.out);
    const Json manifest = write_manifest();
    tell_what_was_left_out(manifest);
    bool any = run.shards > 1;
    for (const Json& pair : manifest.at("pairs")) {
        const std::string reason = pair.at("reason");
        any = any || !(reason.starts_with("missing_focal") || reason.starts_with("unreadable") ||
                       reason.starts_with("no_focal") || reason.starts_with("size_differs"));
    }
    if (!any) {
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
        fail(Fault::input,
             "no pair found in {}{}; give one wide and at least one tele frame a scene",
             run.raw.string(), why);
    }
    return manifest;
}

}  // namespace ultrasr
