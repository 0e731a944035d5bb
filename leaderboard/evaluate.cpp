#include "leaderboard/evaluate.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"
#include "leaderboard/feature_rows.h"
#include "leaderboard/job.h"
#include "leaderboard/journal.h"
#include "leaderboard/scoring.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

struct LoadedMethod {
    MethodSpec spec;
    MethodPtr method;
    double load_seconds = 0;
};

std::vector<MethodSpec> parse_methods(const std::vector<std::string>& texts) {
    std::vector<MethodSpec> specs;
    for (const std::string& text : texts) {
        MethodSpec spec = parse_method(text);
        for (const MethodSpec& other : specs) {
            if (other.label == spec.label) {
                fail(Fault::usage, "two methods are called {}; name one of them NAME@LABEL",
                     spec.label);
            }
        }
        specs.push_back(std::move(spec));
    }
    if (specs.empty()) fail(Fault::usage, "--method names no method; --list-methods shows them");
    return specs;
}

std::vector<LoadedMethod> load_methods(const std::vector<MethodSpec>& specs,
                                       const MethodOptions& options) {
    std::vector<LoadedMethod> methods;
    for (const MethodSpec& spec : specs) {
        const Stopwatch watch;
        methods.push_back({spec, make_method(spec, options), watch.seconds()});
    }
    return methods;
}

fs::path set_folder(const BenchOptions& options, const PairSet& set) {
    return options.out / set.name / fmt::format("x{}", set.scale.ratio);
}

/// "2of8", or empty for the whole.
std::string shard_name(const BenchOptions& options) {
    const Shard& shard = options.shard;
    return shard.count == 1 ? "" : fmt::format("{}of{}", shard.index, shard.count);
}

/// Features by LoadedMetric::key.
using RowsByMetric = std::map<std::string, FeatureRows>;

/// side  "sr" or "hr", of which pictures
RowsByMetric open_rows(const BenchOptions& options, const std::vector<LoadedMetric>& metrics,
                       const fs::path& folder, const std::string& side,
                       const std::string& set_sha256) {
    RowsByMetric rows;
    for (const LoadedMetric& m : metrics) {
        if (!m.set) continue;
        rows.emplace(
            m.key,
            FeatureRows(folder, fmt::format("{}.{}", side, m.info->name), shard_name(options),
                        fmt::format("{} {}", set_sha256, m.key), m.set->features()));
    }
    return rows;
}

/// One method on one set at one scale.
class BenchRun {
  public:
    /// hr_rows  features of the set's HR pictures by metric, shared by all methods
    /// several  there are other runs than this one
    BenchRun(const BenchOptions& options, const PairSet& set, const std::string& set_sha256,
             const LoadedMethod& method, const std::vector<LoadedMetric>& metrics,
             RowsByMetric& hr_rows, bool several)
        : options_(options),
          several_(several),
          dumps_(!options.dump.empty() && reads_option(*method.spec.info, "--dump")),
          set_(set),
          set_sha256_(set_sha256),
          method_(method),
          metrics_(metrics),
          hr_rows_(hr_rows),
          folder_(set_folder(options, set) / method.spec.label),
          where_(fmt::format("{} x{}, {}", set.name, set.scale.ratio, method.spec.label)),
          journal_(open_journal()),
          rows_(open_rows(options, metrics, folder_, "sr", set_sha256)) {}

    void restore(Progress& progress);
    void score(Progress& progress);

    std::size_t missing() const {
        return static_cast<std::size_t>(
            std::count_if(set_.pairs.begin(), set_.pairs.end(),
                          [&](const ImagePair& pair) { return !is_scored(pair); }));
    }

    /// Writes scores.csv and gives what the tables and the page need.
    PageRun finish() const;
    RunTiming timing() const;

  private:
    fs::path picture(const ImagePair& pair) const {
        return folder_ / "images" / (pair.stem + ".png");
    }
    bool is_restored(const ImagePair& pair) const {
        const fs::path dump = dump_file(pair);
        return journal_.restored(pair.stem) && fs::exists(picture(pair)) &&
               (dump.empty() || fs::exists(dump));
    }
    /// Below a folder of its own where several runs would write the same names.
    fs::path dump_file(const ImagePair& pair) const {
        if (!dumps_) return {};
        const fs::path file = pair.stem + ".safetensors";
        if (!several_) return options_.dump / file;
        return options_.dump / fs::relative(folder_, options_.out) / file;
    }
    bool is_scored(const ImagePair& pair) const {
        return is_restored(pair) &&
               std::all_of(metrics_.begin(), metrics_.end(), [&](const LoadedMetric& m) {
                   if (m.metric) return journal_.score(pair.stem, m.key).has_value();
                   return rows_.at(m.key).has(pair.stem) &&
                          (m.set->has_reference() || hr_rows_.at(m.key).has(pair.stem));
               });
    }
    Journal open_journal() const {
        if (options_.restart) {
            Journal::forget(folder_);
            FeatureRows::forget(folder_);
            fs::remove_all(folder_ / "images");
        }
        const std::string shard = shard_name(options_);
        const std::string name =
            shard.empty() ? "journal.jsonl" : fmt::format("journal.{}.jsonl", shard);
        return {folder_, name,
                settings_of(set_sha256_, set_.scale.ratio, method_.spec.info->name,
                            method_.method->provenance())};
    }

    const BenchOptions& options_;
    bool several_, dumps_;
    const PairSet& set_;
    const std::string& set_sha256_;
    const LoadedMethod& method_;
    const std::vector<LoadedMetric>& metrics_;
    RowsByMetric& hr_rows_;
    fs::path folder_;
    std::string where_;
    Journal journal_;
    RowsByMetric rows_;
    std::mutex rows_mutex_;
};

void BenchRun::restore(Progress& progress) {
    std::vector<const ImagePair*> todo;
    for (const ImagePair& pair : set_.pairs) {
        if (options_.shard.owns(pair.stem) && !is_restored(pair)) todo.push_back(&pair);
    }
    OddFiles odd;
    std::atomic<std::size_t> done{0};
    const bool parallel = method_.method->parallel_over_images();
    for_each(todo.size(), parallel ? options_.threads : 1, [&](std::size_t i) {
        const ImagePair& pair = *todo[i];
        StageTimes split;
        const double seconds = while_doing(fmt::format("{}, {}", where_, pair.stem), [&] {
            const DecodedImage lr = read_picture(pair.lr);
            odd.count(lr.origin);
            const Stopwatch watch;
            const Image sr = method_.method->restore(
                lr.image, {pair.stem, pair.hr_size, set_.scale, &split, dump_file(pair)});
            const double taken = watch.seconds();
            if (sr.size() != pair.hr_size) {
                fail(Fault::internal, "the method returned {} x {} for {} x {}", sr.width(),
                     sr.height(), pair.hr_size.width, pair.hr_size.height);
            }
            write_png(picture(pair), sr);
            return taken;
        });
        {
            const std::lock_guard lock(rows_mutex_);
            for (auto& [key, rows] : rows_) rows.drop(pair.stem);
        }
        journal_.add_restored(pair.stem, method_.method->timeless() ? nan : seconds, split);
        progress.step(fmt::format("restore {}", where_), ++done, todo.size());
    });
    odd.tell(fmt::format("the LR pictures of {} x{}", set_.name, set_.scale.ratio));
}

void BenchRun::score(Progress& progress) {
    OddFiles odd;
    ScoringTask task;
    task.what = fmt::format("score {}", where_);
    for (std::size_t i = 0; i < set_.pairs.size(); ++i) {
        const ImagePair& pair = set_.pairs[i];
        task.sizes.push_back(pair.hr_size);
        if (options_.shard.owns(pair.stem) && !is_scored(pair)) task.todo.push_back(i);
    }
    task.name = [&](std::size_t i) { return fmt::format("{}, {}", where_, set_.pairs[i].stem); };
    task.read = [&](std::size_t i) -> SrHr {
        const DecodedImage hr = read_picture(set_.pairs[i].hr);
        odd.count(hr.origin);
        return {read_image(picture(set_.pairs[i])).image, hr.image};
    };
    task.wanted = [&](std::size_t i, const LoadedMetric& m) -> Wanted {
        const std::string& stem = set_.pairs[i].stem;
        if (m.metric) return {.score = !journal_.score(stem, m.key)};
        return {.sr_row = !rows_.at(m.key).has(stem),
                .hr_row = !m.set->has_reference() && !hr_rows_.at(m.key).has(stem)};
    };
    task.done = [&](std::size_t i, const PictureScores& result) {
        const std::string& stem = set_.pairs[i].stem;
        for (const auto& [key, row] : result.sr_rows) rows_.at(key).add(stem, row);
        for (const auto& [key, row] : result.hr_rows) hr_rows_.at(key).add(stem, row);
        if (!result.scores.empty()) journal_.add_scores(stem, result.scores, result.seconds);
    };
    const auto keep_rows = [&] {
        for (auto& [key, rows] : rows_) rows.flush();
        for (auto& [key, rows] : hr_rows_) rows.flush();
    };
    try {
        score_pictures(task, metrics_, options_.threads, progress);
    } catch (...) {
        keep_rows();
        throw;
    }
    keep_rows();
    const std::string hr_pictures =
        fmt::format("the HR pictures of {} x{}", set_.name, set_.scale.ratio);
    odd.tell(hr_pictures);
    odd.tell_lossy(hr_pictures);
}

PageRun BenchRun::finish() const {
    PageRun result;
    Run& run = result.run;
    run.set = set_.name;
    run.scale = set_.scale.ratio;
    run.set_sha256 = set_sha256_;
    run.pictures = set_.pairs.size();
    run.label = method_.spec.label;
    run.method = method_.spec.info->name;
    run.provenance = method_.method->provenance();
    std::vector<std::string> stems;
    for (const ImagePair& pair : set_.pairs) {
        stems.push_back(pair.stem);
        result.scores.images.push_back(pair.stem + ".png");
    }
    result.scores.values.resize(stems.size());
    for (const LoadedMetric& m : metrics_) {
        if (m.set) {
            const auto hr =
                m.set->has_reference() ? std::vector<float>{} : hr_rows_.at(m.key).in_order(stems);
            run.metrics.push_back(summary_of_set(m, rows_.at(m.key).in_order(stems), hr, where_));
            continue;
        }
        result.scores.metrics.push_back(m.info->name);
        std::vector<double> column;
        for (const std::string& stem : stems) column.push_back(*journal_.score(stem, m.key));
        for (std::size_t i = 0; i < stems.size(); ++i) {
            result.scores.values[i].push_back(column[i]);
        }
        run.metrics.push_back(summary_of(m, column, options_.seed, where_));
    }
    result.images = folder_ / "images";
    write_file(folder_ / "scores.csv", to_csv(result.scores));
    return result;
}

RunTiming BenchRun::timing() const {
    std::vector<double> restoring, scoring;
    std::vector<StageTimes> splits;
    for (const ImagePair& pair : set_.pairs) {
        restoring.push_back(journal_.restored(pair.stem).value_or(nan));
        scoring.push_back(journal_.score_seconds(pair.stem).value_or(nan));
        splits.push_back(journal_.restored_split(pair.stem));
    }
    return {set_.name,         set_.scale.ratio, method_.spec.label,  method_.load_seconds,
            median(restoring), median(scoring),  median_split(splits)};
}

std::vector<PairSet> find_sets(const BenchOptions& options) {
    std::vector<PairSet> sets;
    for (const std::string& spec : options.data) {
        for (PairSet& set : find_pair_sets(spec)) {
            for (const PairSet& other : sets) {
                require(other.name != set.name || other.scale != set.scale,
                        "two sets are called {} x{}; name one of them PATH@NAME", set.name,
                        set.scale.ratio);
            }
            sets.push_back(std::move(set));
        }
    }
    return sets;
}

}  // namespace

bool Shard::owns(std::string_view stem) const {
    // FNV-1a, 64 bits (Fowler, Noll, Vo): the same on every machine
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char c : stem) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return hash % count == index - 1;
}

Shard parse_shard(std::string_view text) {
    Shard shard;
    char rest = 0;
    const int read =
        std::sscanf(std::string(text).c_str(), "%u/%u%c", &shard.index, &shard.count, &rest);
    if (read != 2 || shard.count == 0 || shard.index == 0 || shard.index > shard.count) {
        fail(Fault::usage, "--shard takes i/n with 1 <= i <= n, not {}", text);
    }
    return shard;
}

BenchOutcome run_benchmark(const BenchOptions& options, Progress& progress) {
    // Refuse what can be refused before any work
    const auto metrics = load_metrics(options.metrics, options.metric);
    const auto specs = parse_methods(options.methods);
    if (!options.published.empty()) read_published(options.published);
    const auto sets = find_sets(options);
    for (const PairSet& set : sets) {
        for (const ImagePair& pair : set.pairs) {
            for (const LoadedMetric& m : metrics) check_side(m, pair.hr_size, pair.hr.string());
        }
        for (const LoadedMetric& m : metrics) {
            require(!m.set || set.pairs.size() >= 2,
                    "{} compares sets of pictures and {} x{} holds only one; leave the metric out",
                    m.info->name, set.name, set.scale.ratio);
        }
    }
    const auto methods = load_methods(specs, options.method);
    make_folders(options.out);
    const FolderLock lock(options.out, options.shard.count == 1
                                           ? ".lock"
                                           : fmt::format(".lock.{}", shard_name(options)));

    BenchOutcome outcome;
    outcome.results.command = options.command;
    for (const PairSet& set : sets) {
        const std::string set_sha256 = hash_of_set(set);
        RowsByMetric hr_rows =
            open_rows(options, metrics, set_folder(options, set), "hr", set_sha256);
        for (const LoadedMethod& method : methods) {
            BenchRun run(options, set, set_sha256, method, metrics, hr_rows,
                         sets.size() * methods.size() > 1);
            if (!options.merge) {
                run.restore(progress);
                run.score(progress);
            }
            const std::size_t missing = run.missing();
            outcome.missing += missing;
            if (missing > 0) continue;
            outcome.page_runs.push_back(run.finish());
            outcome.results.runs.push_back(outcome.page_runs.back().run);
            outcome.timing.push_back(run.timing());
        }
        for (const ImagePair& pair : set.pairs) {
            outcome.pictures.push_back({set.name, set.scale.ratio, pair.stem, pair.lr, pair.hr});
        }
    }
    if (outcome.missing > 0) {
        require(!options.merge, "{} pictures are not done yet; let the other shards finish",
                outcome.missing);
        outcome.results.runs.clear();
        return outcome;
    }
    write_outcome(options, outcome);
    return outcome;
}

void write_outcome(const BenchOptions& options, const BenchOutcome& outcome) {
    const auto published =
        options.published.empty() ? std::vector<Run>{} : read_published(options.published);
    std::vector<Run> rows = outcome.results.runs;
    rows.insert(rows.end(), published.begin(), published.end());
    write_file(options.out / "results.json", dump_json(to_json(outcome.results)));

    Json timing = Json::array();
    for (const RunTiming& t : outcome.timing) {
        Json entry{{"set", t.set},
                   {"scale", t.scale},
                   {"method", t.label},
                   {"load_seconds", json_number(t.load_seconds)},
                   {"restore_median_seconds", json_number(t.restore_median)},
                   {"score_median_seconds", json_number(t.score_median)}};
        for (const auto& [part, seconds] : t.restore_split.stages()) {
            entry["restore_split_seconds"][part] = json_number(seconds);
        }
        timing.push_back(std::move(entry));
    }
    write_file(options.out / "timing.json",
               dump_json({{"threads", options.threads}, {"runs", timing}}));

    const fs::path tables = options.out / "tables";
    write_file(tables / "results.md", render_table(rows, TableFormat::markdown, options.table));
    write_file(tables / "results.tex", render_table(rows, TableFormat::latex, options.table));
    write_file(tables / "results.csv", render_table(rows, TableFormat::csv, options.table));
    write_file(options.out / "report.html",
               render_page("Super-resolution benchmark", options.command, outcome.page_runs,
                           published, outcome.pictures, options.table));
}

}  // namespace ultrasr
