#include "degradation/degrade_run.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <numeric>
#include <unordered_map>
#include <fmt/format.h>

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"
#include "degradation/draws.h"
#include "degradation/output_folder.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

/// One output to make: a file of the list and a patch of it.
struct Item {
    std::size_t file = 0;
    int variant = 0;
    std::string key;  ///< of the journal: the source's name, and the patch's number
};

/// Seconds of all threads by stage.
class StageTimes {
  public:
    template <class Work>
    auto time(std::size_t stage, Work&& work) {
        const auto start = std::chrono::steady_clock::now();
        struct Stop {
            std::atomic<std::int64_t>& sum;
            std::chrono::steady_clock::time_point from;
            ~Stop() {
                sum += std::chrono::duration_cast<std::chrono::nanoseconds>(
                           std::chrono::steady_clock::now() - from)
                           .count();
            }
        } stop{nanoseconds_[stage], start};
        return work();
    }
    Json json() const {
        Json out = Json::object();
        for (std::size_t i = 0; i < names.size(); ++i) {
            out[std::string(names[i])] = static_cast<double>(nanoseconds_[i].load()) * 1e-9;
        }
        return out;
    }
    static constexpr std::array<std::string_view, 3> names{"read", "degrade", "write"};

  private:
    std::array<std::atomic<std::int64_t>, 3> nanoseconds_{};
};

std::uint64_t id_of(const DegradeRun& run, const SourceList& list, std::size_t file) {
    return run.id_by_index ? file : path_id(list.files[file].name);
}

/// Two sources with one stream would share their noise, two with one name their files.
void check_ids(const DegradeRun& run, const SourceList& list) {
    std::unordered_map<std::uint64_t, std::size_t> ids;
    std::map<std::string, std::size_t> names;
    for (std::size_t i = 0; i < list.files.size(); ++i) {
        const auto [at, is_new] = ids.try_emplace(id_of(run, list, i), i);
        require(is_new, "{} and {} have the same id; choose --id index",
                list.files[at->second].name, list.files[i].name);
        if (!run.name_by_path) continue;
        std::string name = fs::path(list.files[i].name).replace_extension().generic_string();
        std::replace(name.begin(), name.end(), '/', '_');
        const auto [same, fresh] = names.try_emplace(name, i);
        require(fresh, "{} and {} would both be written as {}.png; choose --names id",
                list.files[same->second].name, list.files[i].name, name);
    }
}

/// The work of a run, cut into groups that are finished one after the other (HDF5 files).
class Work {
  public:
    Work(const DegradeRun& run, OutputFolder& folder)
        : run_(run), folder_(folder), list_(list_sources(run.in)) {
        check_ids(run, list_);
        for (std::size_t file = 0; file < list_.files.size(); ++file) {
            for (int v = 0; v < run.per_image; ++v) {
                items_.push_back({file, v, OutputFolder::key(list_.files[file].name, v)});
            }
        }
    }

    const SourceList& list() const { return list_; }
    const std::vector<Item>& items() const { return items_; }

    bool is_mine(const Item& item) const {
        return id_of(run_, list_, item.file) % static_cast<std::uint64_t>(run_.shards) ==
               static_cast<std::uint64_t>(run_.shard - 1);
    }

    /// Does what is left of this shard's items.
    void run(Progress& progress) {
        std::vector<std::size_t> left;
        for (std::size_t i = 0; i < items_.size(); ++i) {
            if (is_mine(items_[i])) ++mine_;
        }
        const std::size_t group =
            run_.format != OutputFormat::folder ? run_.shard_size : items_.size();
        for (std::size_t begin = 0; begin < items_.size(); begin += group) {
            const std::size_t end = std::min(begin + group, items_.size());
            do_items(begin, end, progress);
            if (run_.format != OutputFormat::folder && run_.shards == 1)
                folder_.pack(begin / group, keys(begin, end));
        }
    }

    std::vector<std::string> keys(std::size_t begin, std::size_t end) const {
        std::vector<std::string> out;
        for (std::size_t i = begin; i < end; ++i) out.push_back(items_[i].key);
        return out;
    }
    const StageTimes& times() const { return times_; }
    std::size_t made() const { return made_; }

  private:
    void do_items(std::size_t begin, std::size_t end, Progress& progress) {
        // By file, so that each is decoded once
        std::vector<std::vector<const Item*>> files;
        for (std::size_t i = begin; i < end; ++i) {
            if (!is_mine(items_[i])) continue;
            if (folder_.is_done(items_[i].key)) {
                ++done_;
                continue;
            }
            if (files.empty() || files.back().front()->file != items_[i].file) files.emplace_back();
            files.back().push_back(&items_[i]);
        }
        progress.step("degrade", done_, mine_);
        tbb::parallel_for(std::size_t{0}, files.size(), [&](std::size_t i) {
            tbb::this_task_arena::isolate([&] { do_file(files[i], progress); });
        });
    }

    void do_file(const std::vector<const Item*>& items, Progress& progress) {
        const SourceFile& file = list_.files[items.front()->file];
        SourcePicture source;
        std::string broken;
        times_.time(0, [&] {
            try {
                source = read_source(file, run_.patch, run_.source);
            } catch (const Error& error) {
                if (run_.source.small == SmallPolicy::error || error.fault() != Fault::input) throw;
                broken = error.sentence();
            }
        });
        for (const Item* item : items) {
            Progress::throw_if_interrupted();
            if (!broken.empty() || !source.skipped.empty()) {
                folder_.add_skipped(item->key, file.name, broken.empty() ? source.skipped : broken,
                                    !broken.empty());
            } else {
                const std::uint64_t id = id_of(run_, list_, item->file);
                const DegradedItem made = times_.time(1, [&] {
                    return while_doing(file.name, [&] {
                        return degrade_picture(run_, id, file, source, item->variant);
                    });
                });
                times_.time(2, [&] { folder_.add(item->key, made); });
                ++made_;
            }
            progress.step("degrade", ++done_, mine_);
        }
    }

    const DegradeRun& run_;
    OutputFolder& folder_;
    SourceList list_;
    std::vector<Item> items_;
    StageTimes times_;
    std::size_t mine_ = 0;
    std::atomic<std::size_t> done_{0}, made_{0};
};

Json level_options(const LevelRequest& level) {
    Json out{{"scale", level.scale}, {"preset", level.preset.json()}};
    return out;
}

}  // namespace

Json options_of(const DegradeRun& run) {
    Json out{{"format", "ultrasr-degrade-options"}, {"version", 1}};
    out["seed"] = run.seed;
    out["levels"] = Json::array();
    for (const LevelRequest& level : run.levels) out["levels"].push_back(level_options(level));
    out["couple"] = couple_name(run.couple);
    out["tier"] = run.tier == Tier::exact ? "exact" : "fast";
    out["patch"] = run.patch;
    out["paired_crop"] = run.paired_crop;
    out["per_image"] = run.per_image;
    out["id"] = run.id_by_index ? "index" : "path";
    out["names"] = run.name_by_path ? "path" : "id";
    out["gray_lr"] = run.gray_lr;
    out["triplet_filter"] = run.filter_order ? "order" : "none";
    constexpr std::array formats{"folder", "hdf5", "tar"};
    out["output"] = formats[static_cast<std::size_t>(run.format)];
    if (run.format != OutputFormat::folder) out["shard_size"] = run.shard_size;
    if (run.format != OutputFormat::hdf5) out["png_level"] = run.png_level;
    out["save"] = run.save;
    out["folder_names"] = run.folder_names;
    const DecodeOptions& decode = run.source.decode;
    constexpr std::array policies{"skip", "pad", "upscale", "error"};
    out["small"] = policies[static_cast<std::size_t>(run.source.small)];
    out["parity8"] = !decode.keep_16_bits;
    out["ignore_exif"] = !decode.orient;
    out["allow_truncated"] = decode.allow_truncated;
    if (decode.over) out["alpha_over"] = *decode.over;
    out["max_pixels"] = decode.max_pixels;
    const GtGate& gate = run.source.gate;
    out["gate"] = {{"min_side", gate.min_side},
                   {"min_kilobytes", gate.min_kilobytes},
                   {"min_bytes_per_pixel", gate.min_bytes_per_pixel},
                   {"max_blockiness", gate.max_blockiness},
                   {"min_sharpness", gate.min_sharpness}};
    return out;
}

Json degrade_folder(const DegradeRun& run, Progress& progress) {
    const auto start = std::chrono::steady_clock::now();
    OutputFolder folder(run);
    Work work(run, folder);
    folder.check_finished(progress);
    if (!run.merge) {
        tbb::task_arena arena(run.threads);
        arena.execute([&] { work.run(progress); });
    }

    // Whoever finds everything done writes the final records
    std::vector<std::string> keys = work.keys(0, work.items().size());
    Json summary = folder.finish(keys, run.merge);
    summary["files"] = work.list().files.size();
    summary["other_files"] = work.list().others;
    summary["made_now"] = work.made();
    summary["seconds"] = work.times().json();
    summary["wall_seconds"] =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const auto broken = summary["broken"].get<double>();
    const double share = broken / static_cast<double>(keys.size());
    require(share <= run.max_bad,
            "{} of {} pictures are broken, more than the {:.0f} % of --max-bad; {} lists them, the "
            "others are done",
            summary["broken"].get<int>(), keys.size(), 100 * run.max_bad,
            (run.out / "skipped.jsonl").string());
    require(!summary["complete"].get<bool>() || summary["done"].get<std::size_t>() > 0,
            "none of the {} pictures could be used; {} says why", keys.size(),
            (run.out / "skipped.jsonl").string());
    return summary;
}

Json estimate_run(const DegradeRun& run, Progress& progress) {
    const SourceList list = list_sources(run.in);
    check_ids(run, list);
    const std::size_t tries = std::min<std::size_t>(list.files.size(), 8);
    std::size_t bytes = 0, made = 0, unusable = 0;
    StageTimes times;
    for (std::size_t t = 0; t < tries; ++t) {
        progress.step("try", t, tries);
        const std::size_t i = t * list.files.size() / tries;  // spread over the list
        SourcePicture source;
        try {
            source =
                times.time(0, [&] { return read_source(list.files[i], run.patch, run.source); });
        } catch (const Error&) {
            ++unusable;
            continue;
        }
        if (!source.skipped.empty()) {
            ++unusable;
            continue;
        }
        const DegradedItem item = times.time(
            1, [&] { return degrade_picture(run, id_of(run, list, i), list.files[i], source, 0); });
        times.time(2, [&] {
            for (const auto& [name, rgb] : item.pictures) {
                bytes += run.format == OutputFormat::hdf5 ? rgb.total() * 3
                                                          : encode_png(rgb, run.png_level).size();
            }
        });
        ++made;
    }
    require(made > 0, "none of {} pictures tried could be used", tries);
    const Json seconds = times.json();
    // A picture is read once for all its patches
    const double each = (seconds["degrade"].get<double>() + seconds["write"].get<double>()) /
                            static_cast<double>(made) +
                        seconds["read"].get<double>() / static_cast<double>(tries) / run.per_image;
    const double outputs = static_cast<double>(list.files.size()) * run.per_image *
                           static_cast<double>(made) / static_cast<double>(tries);
    return {
        {"dry_run", true},
        {"files", list.files.size()},
        {"tried", tries},
        {"unusable_of_tried", unusable},
        {"outputs", std::llround(outputs)},
        {"images_per_second", run.threads / each},
        {"wall_seconds", outputs * each / run.threads},
        {"bytes", std::llround(outputs * static_cast<double>(bytes) / static_cast<double>(made))},
        {"seconds", seconds}};
}

std::string summary_text(const Json& s) {
    if (s.contains("dry_run")) {
        return fmt::format(
            "about {} outputs of {} files, {:.1f} a second, {:.0f} s in all, {:.2f} GB ({} of {} "
            "tried files cannot be used); nothing was written\n",
            s["outputs"].get<long long>(), s["files"].get<std::size_t>(),
            s["images_per_second"].get<double>(), s["wall_seconds"].get<double>(),
            static_cast<double>(s["bytes"].get<long long>()) * 1e-9,
            s["unusable_of_tried"].get<int>(), s["tried"].get<int>());
    }
    std::string text = fmt::format("{} outputs done ({} now), {} skipped, {} broken",
                                   s["done"].get<std::size_t>(), s["made_now"].get<std::size_t>(),
                                   s["skipped"].get<std::size_t>(), s["broken"].get<std::size_t>());
    const auto made = s["made_now"].get<double>();
    if (made > 0) {
        std::string slowest;
        double most = -1;
        for (const auto& [stage, seconds] : s["seconds"].items()) {
            if (seconds.get<double>() > most) {
                most = seconds.get<double>();
                slowest = stage;
            }
        }
        text += fmt::format("; {:.1f} a second, slowest: {}",
                            made / std::max(s["wall_seconds"].get<double>(), 1e-3), slowest);
    }
    if (!s["complete"].get<bool>()) {
        text += fmt::format("; {} are left to other shards", s["left"].get<std::size_t>());
    }
    return text + "\n";
}

}  // namespace ultrasr
