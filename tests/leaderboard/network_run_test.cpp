// Metrics made of networks inside the benchmark: sets of pictures, features kept on disk, marks.
#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"
#include "leaderboard/evaluate.h"
#include "leaderboard/feature_rows.h"
#include "leaderboard/folder_jobs.h"
#include "leaderboard/job.h"
#include "metrics/fid.h"
#include "tests/metrics/generated_weights.h"
#include "tests/metrics/pictures.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

using test::sentence_of;

/// Weights by formula, each tensor made once: these tests load the networks again and again.
std::shared_ptr<const WeightSource> kept_source() {
    struct Kept final : WeightSource {
        StateDict open(std::string_view) const override {
            return StateDict([](const std::string& name, at::IntArrayRef shape) {
                static std::map<std::string, at::Tensor> made;
                at::Tensor& tensor = made[name];
                if (!tensor.defined()) tensor = test::generated_tensor(name, shape);
                return tensor;
            });
        }
    };
    static const auto source = std::make_shared<const Kept>();
    return source;
}

/// HR and LR (a quarter) of `n` formula pictures.
void make_set(const fs::path& folder, int n) {
    for (int i = 0; i < n; ++i) {
        const auto hr = test::picture(i % 2 ? "patches" : "texture", {64 + 8 * i, 64}).hr;
        const auto lr = test::picture(i % 2 ? "patches" : "texture", {16 + 2 * i, 16}).sr;
        write_png(folder / "HR" / fmt::format("p{}.png", i), hr);
        write_png(folder / "LR" / fmt::format("p{}.png", i), lr);
    }
}

BenchOptions options_for(const fs::path& set, const fs::path& out) {
    BenchOptions options;
    options.data = {set.string()};
    options.methods = {"bicubic", "lanczos"};
    options.metrics = {"psnr-y601", "fid", "lpips-alex"};
    options.out = out;
    options.metric.source = kept_source();
    options.metric.compute.threads = 1;
    options.threads = 2;
    return options;
}

BenchOutcome run(const BenchOptions& options) {
    Progress silent;
    return run_benchmark(options, silent);
}

const MetricSummary& summary(const BenchOutcome& outcome, std::size_t row,
                             const std::string& metric) {
    const auto& all = outcome.results.runs.at(row).metrics;
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const MetricSummary& m) { return m.metric == metric; });
    REQUIRE(found != all.end());
    return *found;
}

/// When the features were written, by file.
std::vector<fs::file_time_type> feature_times(const fs::path& out) {
    std::vector<fs::file_time_type> times;
    for (const auto& entry : fs::recursive_directory_iterator(out)) {
        if (entry.path().string().find(".fid.features") != std::string::npos) {
            times.push_back(entry.last_write_time());
        }
    }
    std::sort(times.begin(), times.end());
    return times;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("FeatureRows: rows come back after a restart, other identities do not count") {
        const test::TemporaryFolder folder;
        const fs::path place = folder.path() / "x4";
        const std::vector<std::string> both{"b", "a"};
        {
            FeatureRows rows(place, "sr.fid", "", "one", 2);
            CHECK_FALSE(rows.has("a"));
            rows.add("a", {1, 2});
            rows.add("b", {3, 4});
            rows.flush();
            rows.add("lost", {5, 6});  // not flushed, as when killed
        }
        FeatureRows again(place, "sr.fid", "", "one", 2);
        CHECK(again.has("a"));
        CHECK_FALSE(again.has("lost"));
        CHECK(again.in_order(both) == std::vector<float>{3, 4, 1, 2});
        CHECK_FALSE(FeatureRows(place, "sr.fid", "", "two", 2).has("a"));
        CHECK_FALSE(FeatureRows(place, "hr.fid", "", "one", 2).has("a"));
        CHECK(FeatureRows(place, "sr.fid", "2of3", "one", 2).has("a"));  // another shard reads it
        again.drop("a");
        CHECK_FALSE(again.has("a"));
        again.flush();
        CHECK_FALSE(FeatureRows(place, "sr.fid", "", "one", 2).has("a"));
        FeatureRows::forget(place);
        CHECK_FALSE(FeatureRows(place, "sr.fid", "", "one", 2).has("b"));
    }

    TEST_CASE("run_benchmark: fid and lpips beside psnr, resumed without new features") {
        const test::TemporaryFolder folder;
        make_set(folder.path() / "set", 4);
        const auto options = options_for(folder.path() / "set", folder.path() / "out");
        const BenchOutcome first = run(options);
        REQUIRE(first.results.runs.size() == 2);
        const MetricSummary fid = summary(first, 0, "fid");
        CHECK(fid.mean > 0);
        CHECK(fid.count == 4);
        CHECK(std::isnan(fid.std));
        CHECK(fid.settings.at("precision") == "fp32");
        CHECK(fid.settings.at("weights").starts_with("pt_inception-2015-12-05-6726825d.pth"));
        CHECK(fid.settings.at("weights_verified") == "no");
        CHECK(fid.mean != summary(first, 1, "fid").mean);

        // Per picture scores hold only the metrics of pictures; the table shows all and the mark
        const fs::path run_folder = folder.path() / "out/set/x4/bicubic";
        CHECK(read_file(run_folder / "scores.csv").starts_with("image,psnr-y601,lpips-alex\n"));
        const std::string table = read_file(folder.path() / "out/tables/results.md");
        CHECK(table.find("FID") != std::string::npos);
        CHECK(table.find("(unverified)") != std::string::npos);
        CHECK(table.find(" \u2020 |") != std::string::npos);
        CHECK(table.find("FID over fewer than 2048 pictures") != std::string::npos);
        CHECK(table.find("leaves out the pictures") == std::string::npos);
        CHECK(read_file(folder.path() / "out/tables/results.tex").find("$\\dagger$") !=
              std::string::npos);
        const Results stored = read_results(folder.path() / "out");
        CHECK(stored.runs.at(0).metrics.at(1).mean == fid.mean);

        // Again: nothing is computed twice
        const auto times = feature_times(folder.path() / "out");
        CHECK(times.size() == 3);  // HR once, each method
        const BenchOutcome second = run(options);
        CHECK(summary(second, 0, "fid").mean == fid.mean);
        CHECK(summary(second, 0, "lpips-alex").mean == summary(first, 0, "lpips-alex").mean);
        CHECK(feature_times(folder.path() / "out") == times);

        // A picture that is restored anew has new features
        fs::remove(run_folder / "images/p1.png");
        CHECK(summary(run(options), 0, "fid").mean == doctest::Approx(fid.mean).epsilon(1e-9));
        CHECK(feature_times(folder.path() / "out") != times);

        // The same by hand
        const auto metric = find_metric("fid").make_set(options.metric);
        std::array<std::vector<float>, 2> rows;
        for (int i = 0; i < 4; ++i) {
            const std::string name = fmt::format("p{}.png", i);
            for (std::size_t s = 0; s < 2; ++s) {
                const std::vector<Image> image{
                    read_image(s ? folder.path() / "set/HR" / name : run_folder / "images" / name)
                        .image};
                const auto row = metric->features_of(image);
                rows[s].insert(rows[s].end(), row.begin(), row.end());
            }
        }
        // 1e-4: batches of another size sum in another order, and pictures this small differ much
        CHECK(metric->distance(rows[0], rows[1]) == doctest::Approx(fid.mean).epsilon(1e-4));
    }

    TEST_CASE("run_benchmark: shards leave features that the last one joins") {
        const test::TemporaryFolder folder;
        make_set(folder.path() / "set", 4);
        auto options = options_for(folder.path() / "set", folder.path() / "whole");
        options.methods = {"bicubic"};
        const double whole = summary(run(options), 0, "fid").mean;
        options.out = folder.path() / "shards";
        std::size_t missing = 0;
        for (unsigned i = 1; i <= 2; ++i) {
            options.shard = {i, 2};
            const BenchOutcome part = run(options);
            if (i == 1) missing = part.missing;
            if (i == 2) CHECK(summary(part, 0, "fid").mean == doctest::Approx(whole).epsilon(1e-6));
        }
        CHECK(missing > 0);
    }

    TEST_CASE("run_benchmark: a set of one picture has no fid, and that is said before any work") {
        const test::TemporaryFolder folder;
        make_set(folder.path() / "set", 1);
        const auto options = options_for(folder.path() / "set", folder.path() / "out");
        const std::string sentence = sentence_of(Fault::input, [&] { run(options); });
        CHECK(sentence.find("fid compares sets of pictures") != std::string::npos);
        CHECK_FALSE(fs::exists(folder.path() / "out/set/x4/bicubic/images"));
    }

    TEST_CASE("score_folders: fid of folders of different counts, and of stored statistics") {
        const test::TemporaryFolder folder;
        for (int i = 0; i < 5; ++i) {
            const auto pair = test::picture(i % 2 ? "patches" : "texture", {50 + 6 * i, 48});
            if (i < 3) write_png(folder.path() / "sr" / fmt::format("a{}.png", i), pair.sr);
            write_png(folder.path() / (i < 4 ? "hr" : "hr/deeper") / fmt::format("b{}.png", i),
                      pair.hr);
        }
        Progress silent;
        ScoreOptions score;
        score.sr = folder.path() / "sr";
        score.hr = folder.path() / "hr";
        score.metrics = {"fid"};
        score.metric.source = kept_source();
        score.threads = 2;
        const auto direct = score_folders(score, silent);
        CHECK(direct.summaries.at(0).count == 3);
        CHECK(direct.table.metrics.empty());

        fs::remove_all(folder.path() / "hr/deeper");
        FidStatsOptions stats;
        stats.pictures = folder.path() / "hr";
        stats.out = folder.path() / "hr.safetensors";
        stats.metric.source = kept_source();
        stats.threads = 2;
        CHECK(write_fid_stats_of(stats, silent) == 4);
        score.hr.clear();
        score.metric.fid_stats = stats.out;
        const auto stored = score_folders(score, silent);
        // Two routes to one number (metrics.md 5.8); the roots of eigenvalues near 0 cost digits
        CHECK(stored.summaries.at(0).mean ==
              doctest::Approx(direct.summaries.at(0).mean).epsilon(1e-5));
        CHECK(stored.summaries.at(0).settings.at("reference_pictures") == "4");

        // Refusals
        score.metric.fid_stats.clear();
        CHECK(sentence_of(Fault::usage, [&] {
                  score_folders(score, silent);
              }).find("--fid-stats FILE") != std::string::npos);
        stats.pictures = folder.path() / "sr";
        fs::remove(folder.path() / "sr/a0.png");
        fs::remove(folder.path() / "sr/a1.png");
        CHECK(sentence_of(Fault::input, [&] {
                  write_fid_stats_of(stats, silent);
              }).find("at least two") != std::string::npos);
    }

    TEST_CASE("load_metrics: paper is the paper's seven, each once; missing weights are named") {
        const test::TemporaryFolder empty;
        MetricOptions options;
        options.weights.weights = empty.path();
        const std::string missing =
            sentence_of(Fault::input, [&] { load_metrics({"paper"}, options); });
        CHECK(missing.find("metric lpips-alex") != std::string::npos);
        CHECK(missing.find("alexnet-owt-7be5be79.pth") != std::string::npos);
        CHECK(sentence_of(Fault::usage, [&] {
                  load_metrics({"paper", "fid"}, options);
              }).find("names fid twice") != std::string::npos);
    }
}
