#include "leaderboard/folder_jobs.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"
#include "data/pair_dataset.h"
#include "leaderboard/job.h"
#include "leaderboard/journal.h"
#include "leaderboard/scoring.h"
#include "metrics/fid.h"

namespace ultrasr {
namespace fs = std::filesystem;

namespace {

/// The HR picture of each restored one; the HR folder may hold no others.
std::vector<fs::path> partners(const ScoreOptions& options, const std::vector<fs::path>& sr_files) {
    std::vector<std::string> stems;
    for (const fs::path& file : sr_files) stems.push_back(file.stem().string());
    auto match = match_stems(stems, list_images(options.hr),
                             fmt::format("HR picture in {}", options.hr.string()));
    require(match.extra.empty(), "{} has no restored partner in {}",
            match.extra.empty() ? "" : match.extra.front().string(), options.sr.string());
    return std::move(match.files);
}

}  // namespace

ScoreOutcome score_folders(const ScoreOptions& options, Progress& progress) {
    const auto metrics = load_metrics(options.metrics, options.metric);
    const auto sr_files = list_images(options.sr);
    require(!sr_files.empty(), "{} holds no pictures", options.sr.string());

    // Find the HR pictures: partners by name, or for metrics of sets any other set
    bool pairs = false, set_of_hr = false;
    for (const LoadedMetric& m : metrics) {
        const bool full = m.info->reference == Reference::full;
        if (options.hr.empty() && (full || (m.set && !m.set->has_reference()))) {
            fail(Fault::usage, "{} compares with HR pictures; give --hr DIR{}", m.info->name,
                 m.set ? " or --fid-stats FILE" : "");
        }
        pairs = pairs || full;
        set_of_hr = set_of_hr || (m.set && !m.set->has_reference());
        require(!m.set || sr_files.size() >= 2,
                "{} compares sets of pictures and {} holds only one; leave the metric out",
                m.info->name, options.sr.string());
    }
    std::vector<fs::path> hr_files;
    if (!options.hr.empty()) {
        hr_files = pairs ? partners(options, sr_files) : list_images(options.hr);
        require(!set_of_hr || hr_files.size() >= 2, "{} holds fewer than two pictures",
                options.hr.string());
    }

    // Score
    ScoreOutcome outcome;
    outcome.table.values.resize(sr_files.size());
    std::map<std::string, std::vector<float>> sr_rows, hr_rows;  // by LoadedMetric::key
    OddFiles odd;
    ScoringTask task;
    task.what = "score";
    for (std::size_t i = 0; i < sr_files.size(); ++i) {
        task.todo.push_back(i);
        task.sizes.push_back(read_image_size(sr_files[i]));
        for (const LoadedMetric& m : metrics) check_side(m, task.sizes[i], sr_files[i].string());
    }
    const auto read = [&odd](const fs::path& file) {
        const DecodedImage decoded = read_image(file);
        odd.count(decoded.origin);
        return decoded.image;
    };
    task.name = [&](std::size_t i) { return sr_files[i].filename().string(); };
    task.read = [&](std::size_t i) -> SrHr {
        return {read(sr_files[i]), pairs ? read(hr_files[i]) : Image()};
    };
    task.wanted = [&](std::size_t, const LoadedMetric& m) -> Wanted {
        return {.score = m.metric != nullptr,
                .sr_row = m.set != nullptr,
                .hr_row = pairs && m.set && !m.set->has_reference()};
    };
    const auto append = [](std::vector<float>& all, const std::vector<float>& row) {
        all.insert(all.end(), row.begin(), row.end());
    };
    task.done = [&](std::size_t i, const PictureScores& result) {
        for (const LoadedMetric& m : metrics) {
            if (m.metric) outcome.table.values[i].push_back(result.scores.at(m.key));
        }
        for (const auto& [key, row] : result.sr_rows) append(sr_rows[key], row);
        for (const auto& [key, row] : result.hr_rows) append(hr_rows[key], row);
    };
    score_pictures(task, metrics, options.threads, progress);

    // The HR set by itself, where its pictures are nobody's partners
    if (set_of_hr && !pairs) {
        ScoringTask hr_task = task;
        hr_task.what = "HR pictures";
        hr_task.todo.clear();
        hr_task.sizes.clear();
        for (std::size_t i = 0; i < hr_files.size(); ++i) {
            hr_task.todo.push_back(i);
            hr_task.sizes.push_back(read_image_size(hr_files[i]));
        }
        hr_task.name = [&](std::size_t i) { return hr_files[i].filename().string(); };
        hr_task.read = [&](std::size_t i) -> SrHr { return {Image(), read(hr_files[i])}; };
        hr_task.wanted = [](std::size_t, const LoadedMetric& m) -> Wanted {
            return {.hr_row = m.set && !m.set->has_reference()};
        };
        hr_task.done = [&](std::size_t, const PictureScores& result) {
            for (const auto& [key, row] : result.hr_rows) append(hr_rows[key], row);
        };
        score_pictures(hr_task, metrics, options.threads, progress);
    }
    odd.tell("the scored pictures");
    odd.tell_lossy("the scored pictures");

    // Summarise
    for (const fs::path& file : sr_files) outcome.table.images.push_back(file.filename().string());
    std::size_t column = 0;
    for (const LoadedMetric& m : metrics) {
        if (m.set) {
            outcome.summaries.push_back(
                summary_of_set(m, sr_rows[m.key], hr_rows[m.key], options.sr.string()));
            continue;
        }
        outcome.table.metrics.push_back(m.info->name);
        std::vector<double> values;
        for (const auto& row : outcome.table.values) values.push_back(row[column]);
        outcome.summaries.push_back(summary_of(m, values, options.seed, options.sr.string()));
        ++column;
    }
    return outcome;
}

std::size_t write_fid_stats_of(const FidStatsOptions& options, Progress& progress) {
    const auto metrics = load_metrics({"fid"}, options.metric);
    const SetMetric& fid = *metrics.front().set;
    const auto files = list_images_below(options.pictures);
    require(files.size() >= 2, "{} holds {}; FID statistics need at least two",
            options.pictures.string(), pictures(files.size()));
    std::vector<float> rows;
    std::string inputs;
    OddFiles odd;
    ScoringTask task;
    task.what = "fid-stats";
    for (std::size_t i = 0; i < files.size(); ++i) {
        task.todo.push_back(i);
        task.sizes.push_back(read_image_size(files[i]));
        inputs +=
            fs::relative(files[i], options.pictures).generic_string() + sha256_of_file(files[i]);
    }
    task.name = [&](std::size_t i) { return files[i].string(); };
    task.read = [&](std::size_t i) -> SrHr {
        const DecodedImage decoded = read_image(files[i]);
        odd.count(decoded.origin);
        return {Image(), decoded.image};
    };
    task.wanted = [](std::size_t, const LoadedMetric&) -> Wanted { return {.hr_row = true}; };
    task.done = [&](std::size_t, const PictureScores& result) {
        const auto& row = result.hr_rows.begin()->second;
        rows.insert(rows.end(), row.begin(), row.end());
    };
    score_pictures(task, metrics, options.threads, progress);
    odd.tell(options.pictures.string());
    odd.tell_lossy(options.pictures.string());
    write_fid_stats(options.out, {statistics_of(rows, fid.features()),
                                  fid.provenance().weights.front().sha256, sha256(inputs)});
    return files.size();
}

std::size_t restore_pictures(const RestoreOptions& options, Progress& progress) {
    const MethodSpec spec = parse_method(options.method);
    require(fs::exists(options.in), "no such picture or folder: {}", options.in.string());
    const bool folder = fs::is_directory(options.in);
    const std::vector<fs::path> files =
        folder ? list_images(options.in) : std::vector<fs::path>{options.in};
    require(!files.empty(), "{} holds no pictures", options.in.string());
    for (std::size_t i = 1; i < files.size(); ++i) {
        require(files[i].stem() != files[i - 1].stem(), "{} and {} would both become {}.png",
                files[i - 1].filename().string(), files[i].filename().string(),
                files[i].stem().string());
    }
    make_folders(options.out);
    const FolderLock lock(options.out);
    const MethodPtr method = make_method(spec, options.options);

    // Go on where an earlier run with the same input and settings stopped
    std::string inputs;
    for (const fs::path& file : files) inputs += file.filename().string() + sha256_of_file(file);
    const fs::path notes = options.out / ".journal";
    if (options.restart) Journal::forget(notes);
    Journal journal(
        notes, "journal.jsonl",
        settings_of(sha256(inputs), options.scale, spec.info->name, method->provenance()));

    OddFiles odd;
    std::atomic<std::size_t> done{0};
    const bool parallel = method->parallel_over_images();
    for_each(files.size(), parallel ? options.threads : 1, [&](std::size_t i) {
        const std::string stem = files[i].stem().string();
        const fs::path target = options.out / (stem + ".png");
        const bool dumps = !options.dump.empty() && reads_option(*spec.info, "--dump");
        const fs::path dump = dumps ? options.dump / (stem + ".safetensors") : fs::path();
        if (journal.restored(stem) && fs::exists(target) && (!dumps || fs::exists(dump))) {
            ++done;
            return;
        }
        while_doing(files[i].string(), [&] {
            const Stopwatch watch;
            const DecodedImage lr = read_image(files[i]);
            odd.count(lr.origin);
            const auto enlarged = [&](int side) {
                return std::max(1, static_cast<int>(std::lround(options.scale * side)));
            };
            StageTimes split;
            const RestoreRequest request{stem,
                                         {enlarged(lr.image.width()), enlarged(lr.image.height())},
                                         {options.scale},
                                         &split,
                                         dump};
            write_png(target, method->restore(lr.image, request));
            journal.add_restored(stem, watch.seconds(), split);
        });
        progress.step("restore", ++done, files.size());
    });
    odd.tell("the LR pictures");
    return files.size();
}

}  // namespace ultrasr
