#include "leaderboard/scoring.h"

#include <algorithm>
#include <atomic>
#include <limits>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/base/progress.h"

namespace ultrasr {
namespace {

/// One picture on its way.
struct AtHand {
    std::size_t place = 0;
    SrHr pictures;
    PictureScores result;
};

/// Pictures that are decoded together: one a thread, or eight small ones, so that networks of
/// whole sets get their batch.
std::size_t group_end(const ScoringTask& task, std::size_t first, int threads) {
    constexpr std::size_t batch = 8;
    constexpr double small = 8e6;  // pixels of the whole group
    double pixels = 0;
    std::size_t end = first;
    while (end < task.todo.size()) {
        const PixelSize size = task.sizes[task.todo[end]];
        pixels += double{1} * size.width * size.height;
        const std::size_t count = end - first;
        if (count >= std::max(batch, static_cast<std::size_t>(threads))) break;
        if (count >= static_cast<std::size_t>(threads) && pixels > small) break;
        ++end;
    }
    return end;
}

/// Rows of one side of the pictures that want them, in one call.
void take_rows(const ScoringTask& task, const LoadedMetric& m, std::vector<AtHand>& group,
               bool Wanted::*side, Image SrHr::*picture,
               std::map<std::string, std::vector<float>> PictureScores::*rows) {
    std::vector<AtHand*> wanting;
    std::vector<Image> images;
    for (AtHand& at_hand : group) {
        if (!(task.wanted(at_hand.place, m).*side)) continue;
        wanting.push_back(&at_hand);
        images.push_back(at_hand.pictures.*picture);
    }
    if (wanting.empty()) return;
    const Stopwatch watch;
    const auto all = m.set->features_of(images);
    const double seconds = watch.seconds() / static_cast<double>(wanting.size());
    const auto n = static_cast<std::ptrdiff_t>(m.set->features());
    for (std::size_t i = 0; i < wanting.size(); ++i) {
        const auto from = all.begin() + static_cast<std::ptrdiff_t>(i) * n;
        (wanting[i]->result.*rows)[m.key].assign(from, from + n);
        wanting[i]->result.seconds += seconds;
    }
}

}  // namespace

void score_pictures(const ScoringTask& task, const std::vector<LoadedMetric>& metrics, int threads,
                    Progress& progress) {
    const auto score_one = [&](AtHand& at_hand, bool networks) {
        while_doing(task.name(at_hand.place), [&] {
            const Stopwatch watch;
            const auto before = std::span(task.sizes).first(at_hand.place);
            for (const LoadedMetric& m : metrics) {
                if (!m.metric || m.metric->one_at_a_time() != networks) continue;
                if (!task.wanted(at_hand.place, m).score) continue;
                const auto& [sr, hr] = at_hand.pictures;
                at_hand.result.scores[m.key] = m.metric->score_in_list(sr, hr, before);
            }
            at_hand.result.seconds += watch.seconds();
        });
    };

    for (std::size_t first = 0; first < task.todo.size();) {
        const std::size_t end = group_end(task, first, threads);
        std::vector<AtHand> group(end - first);

        // Decode, and what needs no network, side by side
        for_each(group.size(), threads, [&](std::size_t i) {
            AtHand& at_hand = group[i];
            at_hand.place = task.todo[first + i];
            at_hand.pictures =
                while_doing(task.name(at_hand.place), [&] { return task.read(at_hand.place); });
            score_one(at_hand, false);
        });

        // Networks of whole sets, all pictures of the group in one batch
        for (const LoadedMetric& m : metrics) {
            if (!m.set) continue;
            take_rows(task, m, group, &Wanted::sr_row, &SrHr::sr, &PictureScores::sr_rows);
            take_rows(task, m, group, &Wanted::hr_row, &SrHr::hr, &PictureScores::hr_rows);
        }

        // Networks of single pictures
        for (std::size_t i = 0; i < group.size(); ++i) {
            score_one(group[i], true);
            task.done(group[i].place, group[i].result);
            group[i].pictures = {};
            progress.step(task.what, first + i + 1, task.todo.size());
        }
        first = end;
    }
}

MetricSummary summary_of_set(const LoadedMetric& metric, std::span<const float> sr,
                             std::span<const float> hr, const std::string& where) {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    const std::size_t n = sr.size() / metric.set->features();
    static std::atomic<bool> warned{false};  // once, however many methods there are
    if (n < enough_for_fid && !warned.exchange(true)) {
        warn(
            "{} over {} is biased upwards, as over any set below {}; compare it only with values "
            "over equally many",
            metric.info->name, pictures(n), enough_for_fid);
    }
    return {.metric = metric.info->name,
            .mean = while_doing(where, [&] { return metric.set->distance(sr, hr); }),
            .std = nan,
            .ci_low = nan,
            .ci_high = nan,
            .count = n,
            .nan = 0,
            .settings = metric.settings};
}

}  // namespace ultrasr
