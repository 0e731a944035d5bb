#include "leaderboard/folder_jobs.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"
#include "data/pair_dataset.h"
#include "leaderboard/job.h"
#include "leaderboard/journal.h"

namespace ultrasr {
namespace fs = std::filesystem;

ScoreOutcome score_folders(const ScoreOptions& options, Progress& progress) {
    const auto metrics = load_metrics(options.metrics, options.metric);
    const auto sr_files = list_images(options.sr);
    require(!sr_files.empty(), "{} holds no pictures", options.sr.string());

    // Pair by name where there is an HR folder
    std::vector<fs::path> hr_files;
    if (options.hr.empty()) {
        for (const LoadedMetric& m : metrics) {
            if (m.info->reference == Reference::full) {
                fail(Fault::usage, "{} compares with HR pictures; give --hr DIR", m.info->name);
            }
        }
    } else {
        std::vector<std::string> stems;
        for (const fs::path& file : sr_files) stems.push_back(file.stem().string());
        auto match = match_stems(stems, list_images(options.hr),
                                 fmt::format("HR picture in {}", options.hr.string()));
        require(match.extra.empty(), "{} has no restored partner in {}",
                match.extra.empty() ? "" : match.extra.front().string(), options.sr.string());
        hr_files = std::move(match.files);
    }

    // Score
    ScoreOutcome outcome;
    outcome.table.values.resize(sr_files.size());
    OddFiles odd;
    std::atomic<std::size_t> done{0};
    for_each(sr_files.size(), options.threads, [&](std::size_t i) {
        while_doing(sr_files[i].filename().string(), [&] {
            const DecodedImage sr = read_image(sr_files[i]);
            odd.count(sr.origin);
            Image hr;
            if (!hr_files.empty()) {
                const DecodedImage decoded = read_image(hr_files[i]);
                odd.count(decoded.origin);
                hr = decoded.image;
            }
            for (const LoadedMetric& m : metrics) {
                check_side(m, sr.image.size(), sr_files[i].string());
                outcome.table.values[i].push_back(m.metric->score(sr.image, hr));
            }
        });
        progress.step("score", ++done, sr_files.size());
    });
    odd.tell("the scored pictures");
    odd.tell_lossy("the scored pictures");

    // Summarise
    for (const fs::path& file : sr_files) outcome.table.images.push_back(file.filename().string());
    for (std::size_t m = 0; m < metrics.size(); ++m) {
        outcome.table.metrics.push_back(metrics[m].info->name);
        std::vector<double> column;
        for (const auto& row : outcome.table.values) column.push_back(row[m]);
        outcome.summaries.push_back(
            summary_of(metrics[m], column, options.metric, options.seed, options.sr.string()));
    }
    return outcome;
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
        if (journal.restored(stem) && fs::exists(target)) {
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
            const RestoreRequest request{files[i].stem().string(),
                                         {enlarged(lr.image.width()), enlarged(lr.image.height())},
                                         {options.scale}};
            write_png(target, method->restore(lr.image, request));
            journal.add_restored(stem, watch.seconds());
        });
        progress.step("restore", ++done, files.size());
    });
    odd.tell("the LR pictures");
    return files.size();
}

}  // namespace ultrasr
