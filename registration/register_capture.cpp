#include "registration/register_capture.h"

#include <malloc.h>
#include <tbb/global_control.h>
#include <tbb/parallel_pipeline.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <set>
#include <thread>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core/utility.hpp>

#include "acquisition/capture_set.h"
#include "data/base/error.h"
#include "data/base/log.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "registration/manifest.h"
#include "registration/session.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr double scene_memory = 450e6;  // bytes, a RAW scene in work (registration.md 13)

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

/// What an earlier session pass has said of a scene, by scale; nothing when there was none.
std::map<int, SessionVerdict> known_session(const fs::path& out, const std::string& scene) {
    const fs::path file = out / "scenes" / scene / "pair.json";
    std::map<int, SessionVerdict> session;
    if (!fs::exists(file)) return session;
    try {
        const Json record = parse_json(read_file(file), file.string());
        for (const auto& [name, verdict] : record.at("session").items()) {
            SessionVerdict v;
            if (!verdict.at("fixed_k").is_null()) {
                v.fixed_k = number_from_json(verdict.at("fixed_k"));
            }
            v.reject = verdict.at("reject");
            session[std::stoi(name.substr(1))] = v;
        }
    } catch (const std::exception&) {
        return {};  // a torn or foreign file
    }
    return session;
}

/// What a scene's pairs found before the session spoke, by scale.
std::map<int, Json> own_figures(const std::vector<Json>& records, const std::string& scene) {
    std::map<int, Json> figures;
    for (const Json& record : records) {
        if (record.at("scene") != scene) continue;
        for (const Json& pair : record.at("pairs")) {
            if (pair.contains("own_figures") && pair.at("window") == 0) {
                figures[pair.at("scale")] = pair.at("own_figures");
            }
        }
    }
    return figures;
}

/// The scenes that the session wants done again; none while some are not done at all.
std::vector<SceneJob> jobs_of_session(const RegisterRun& run, const CaptureSet& set,
                                      const std::function<SceneJob(const CaptureScene&)>& job_of) {
    for (const CaptureScene& scene : set.scenes) {
        if (fs::exists(run.out / "scenes" / scene.name / "done")) continue;
        if (run.merge) {
            warn("some scenes are not registered yet; run their shards, then --merge again");
        }
        return {};
    }
    const std::vector<Json> records = stored_records(run.out);
    const auto verdicts = judge_session(records, run.settings);
    std::vector<SceneJob> jobs;
    for (const CaptureScene& scene : set.scenes) {
        SceneJob job = job_of(scene);
        if (const auto at = verdicts.find(scene.name); at != verdicts.end()) {
            job.session = at->second;
        }
        job.own_figures = own_figures(records, scene.name);
        if (!finished_scene(job)) jobs.push_back(std::move(job));
    }
    return jobs;
}

/// Removes what killed runs and other captures have left in `out`, with --restart all of it.
void clean_folder(const RegisterRun& run, const CaptureSet& set) {
    if (run.shards == 1) remove_stale_everywhere(run.out);
    if (run.restart && !run.merge) {
        for (const CaptureScene& scene : set.scenes) {
            if (shard_of(scene.name, run.shards) == run.shard) {
                remove_scene_outputs(run.out, scene.name);
            }
        }
    }
    if (run.shards == 1) remove_foreign_scenes(run.out, set);
}

}  // namespace

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
    tell_skipped(set.skipped);
    make_folders(run.out);
    const FolderLock lock(
        run.out, run.shards > 1 ? fmt::format(".lock.{}of{}", run.shard, run.shards) : ".lock");
    clean_folder(run, set);
    if (!run.options.empty()) write_file(run.out / "settings.json", run.options);

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
        const Json manifest = manifest_of(run.out, run.settings, set.skipped);
        write_file(run.out / "manifest.json", dump_json(manifest));
        return manifest;
    };

    // Every scene by itself; what an earlier session pass has said of it is kept
    std::vector<SceneJob> jobs;
    for (const CaptureScene& scene : set.scenes) {
        if (run.merge || shard_of(scene.name, run.shards) != run.shard) continue;
        jobs.push_back(job_of(scene));
        jobs.back().session = known_session(run.out, scene.name);
    }
    const auto by_itself = [](SceneJob& job) { job.session.clear(); };
    run_jobs(run, jobs, progress, by_itself, write_manifest);

    // The scenes together, once all are there
    const FolderLock together =  // two shards that end at once do not do the same scenes again
        lock_patiently(run.out, ".lock.session", std::chrono::hours(24));
    std::vector<SceneJob> again = jobs_of_session(run, set, job_of);
    if (!again.empty()) run_jobs(run, again, progress, {}, write_manifest);

    if (run.shards == 1) remove_empty_folders(run.out);
    const Json manifest = write_manifest();
    tell_what_was_left_out(manifest);
    if (run.shards == 1) require_a_pair(manifest, run.raw);
    return manifest;
}

}  // namespace ultrasr
