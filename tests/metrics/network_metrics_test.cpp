// Laws that every metric made of networks keeps, its bad inputs, and real weights where there are
// some. Weights by formula; MANIQA takes twenty crops and has tests of its own.
#include <ATen/Parallel.h>
#include <ATen/ops/full.h>

#include <cmath>
#include <limits>
#include <thread>

#include "data/base/error.h"
#include "data/file.h"
#include "data/image_io.h"
#include "data/weights/weight_store.h"
#include "metrics/nets/alexnet.h"
#include "tests/metrics/generated_weights.h"
#include "tests/metrics/network_goldens.h"
#include "tests/metrics/pictures.h"
#include "tests/sentence.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

using test::contains, test::sentence_of;

namespace fs = std::filesystem;

/// One of each architecture: the checkpoints of MUSIQ differ in numbers alone.
std::vector<const MetricInfo*> quick_metrics() {
    std::vector<const MetricInfo*> metrics;
    for (const MetricInfo* info : all_metrics()) {
        if (info->weight_files.empty() || info->reference == Reference::set) continue;
        if (info->name == "maniqa-pipal" || info->name == "musiq-spaq" ||
            info->name == "musiq-paq2piq") {
            continue;
        }
        metrics.push_back(info);
    }
    return metrics;
}

/// AlexNet's convolutions by formula, as a checkpoint.
NamedTensors alexnet_tensors() {
    NamedTensors tensors;
    StateDict recording([&](const std::string& name, at::IntArrayRef shape) {
        return tensors[name] = test::generated_tensor(name, shape);
    });
    const AlexNet net(recording, {});
    return tensors;
}

TEST_SUITE("property") {
    TEST_CASE("network metrics: the laws of all metrics") {
        const auto pair = test::picture("texture", {58, 45});
        const cv::Mat before = pair.sr.mat().clone();
        for (const MetricInfo* info : quick_metrics()) {
            CAPTURE(info->name);
            const MetricPtr metric = info->make(test::network_options());
            const double value = metric->score(pair.sr, pair.hr);
            CHECK(std::isfinite(value));
            CHECK(metric->one_at_a_time());

            // What it stands on is told, file by file
            const MetricProvenance p = metric->provenance();
            CHECK(p.weights.size() == info->weight_files.size());
            CHECK(p.settings.at("device") == "cpu");
            CHECK(p.settings.at("precision") == "fp32");

            // Equal pictures are best, order does not matter
            if (info->reference == Reference::full) {
                CHECK(std::abs(metric->score(pair.hr, pair.hr)) < 1e-6);
                CHECK(value > 1e-4);
                CHECK(std::abs(metric->score(pair.hr, pair.sr) - value) < 1e-6);
            } else {
                CHECK(metric->score(pair.sr, Image()) == value);
                CHECK(metric->score(pair.hr, Image()) != value);
            }

            // A part of a larger picture will do; nothing is written into it
            const auto large = test::picture("texture", {70, 60});
            const cv::Rect part(0, 0, 58, 45);
            CHECK(metric->score(Image(large.sr.mat()(part)), Image(large.hr.mat()(part))) == value);

            // Two threads on one object, each with its own OpenMP team
            std::array<double, 2> scores{};
            std::vector<std::thread> threads;
            for (double& out : scores) {
                threads.emplace_back([&] {
                    at::set_num_threads(1);
                    out = metric->score(pair.sr, pair.hr);
                });
            }
            for (std::thread& thread : threads) thread.join();
            for (const double other : scores) CHECK(other == value);
        }
        CHECK(std::equal(before.begin<cv::Vec3f>(), before.end<cv::Vec3f>(),
                         pair.sr.mat().begin<cv::Vec3f>()));
    }

    TEST_CASE("network metrics: two threads inside and bf16 change little, and how much") {
        // Sums in another order: float32, so 1e-6 of the score or of 1. bf16 has 8 bits: 4 % of
        // DISTS is the most that was seen, with these random networks
        const auto pair = test::picture("texture", {64, 48});
        for (const MetricInfo* info : quick_metrics()) {
            CAPTURE(info->name);
            const double one = info->make(test::network_options())->score(pair.sr, pair.hr);
            const double two =
                info->make(test::network_options("generated", 2))->score(pair.sr, pair.hr);
            CHECK(std::abs(two - one) < 1e-6 * std::max(1.0, std::abs(one)));
            auto options = test::network_options();
            options.compute.precision = Precision::bf16;
            const MetricPtr half = info->make(options);
            const double coarse = half->score(pair.sr, pair.hr);
            MESSAGE(info->name << ": fp32 " << one << ", with two threads " << two - one
                               << " more, in bf16 " << coarse);
            CHECK(std::abs(coarse - one) < 0.06 * std::abs(one));
            CHECK(coarse != one);
            CHECK(half->provenance().settings.at("precision").starts_with("bf16"));
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE(
        "network metrics: sides below the minimum and unequal sizes are errors with numbers") {
        for (const MetricInfo* info : quick_metrics()) {
            CAPTURE(info->name);
            const MetricPtr metric = info->make(test::network_options());
            const auto smallest = test::picture("texture", {info->min_side, info->min_side + 3});
            CHECK(std::isfinite(metric->score(smallest.sr, smallest.hr)));
            if (info->min_side > 1) {
                const auto small = test::picture("texture", {60, info->min_side - 1});
                const std::string sentence =
                    sentence_of(Fault::input, [&] { metric->score(small.sr, small.hr); });
                CHECK(contains(sentence, info->name));
                CHECK(contains(sentence, fmt::format("at least {}", info->min_side)));
                CHECK(contains(sentence, fmt::format("60x{}", info->min_side - 1)));
            }
            if (info->reference == Reference::full) {
                const auto other = test::picture("texture", {41, 40});
                const std::string sentence =
                    sentence_of(Fault::input, [&] { metric->score(smallest.sr, other.hr); });
                CHECK(contains(sentence, "41x40"));
            }
        }
    }

    TEST_CASE("network metrics: a flat black picture gives a number") {
        const Image black = test::flat({48, 40}, 0, 0, 0), grey = test::flat({48, 40}, 90, 90, 90);
        for (const MetricInfo* info : quick_metrics()) {
            CAPTURE(info->name);
            CHECK(std::isfinite(info->make(test::network_options())->score(black, grey)));
        }
    }

    TEST_CASE("weights of a metric: of another network, NaN, cut short, with a huge head") {
        const test::TemporaryFolder folder;
        const std::string name = "alexnet-owt-7be5be79.pth";
        const fs::path path = folder.path() / name;
        MetricOptions options;
        options.weights = {folder.path(), true};
        const auto refused = [&] {
            const std::string sentence =
                sentence_of(Fault::input, [&] { find_metric("lpips-alex").make(options); });
            CHECK(contains(sentence, "lpips-alex"));
            CHECK(contains(sentence, name));
            return sentence;
        };

        // A good one first, whatever its format
        NamedTensors tensors = alexnet_tensors();
        save_tensors(path, tensors);
        const auto pair = test::picture("texture", {40, 40});
        const MetricPtr good = find_metric("lpips-alex").make(options);
        CHECK(good->score(pair.sr, pair.hr) > 0);
        CHECK(good->provenance().weights.at(0).verified);  // the heads come with the project
        CHECK_FALSE(good->provenance().weights.at(1).verified);
        options.weights.unverified_weights = false;
        CHECK(contains(refused(), "7be5be79"));
        options.weights.unverified_weights = true;

        // Another network under the name: both are named, and what differs
        save_tensors(path, {{"conv_root.weight", at::full({64, 3, 7, 7}, 0.1)}});
        const std::string other = refused();
        CHECK(contains(other, "10 missing (features.0.weight"));
        CHECK(contains(other, "1 surplus (conv_root.weight)"));
        save_tensors(path, [&] {
            NamedTensors wrong = tensors;
            wrong["features.0.weight"] = at::full({64, 3, 3, 3}, 0.1);
            return wrong;
        }());
        CHECK(contains(refused(), "features.0.weight [64, 3, 3, 3] instead of [64, 3, 11, 11]"));

        // NaN
        tensors["features.8.bias"] = at::full({256}, std::numeric_limits<double>::quiet_NaN());
        save_tensors(path, tensors);
        CHECK(contains(refused(), "NaN or infinite values (features.8.bias)"));

        // Cut short, an impossible head, no checkpoint
        fs::resize_file(path, fs::file_size(path) / 2);
        CHECK(contains(refused(), "cut short"));
        write_file(path, std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{\"a\":1}", 15));
        refused();
        write_file(path, "<!DOCTYPE html><html>404</html>");
        refused();
    }
}

TEST_SUITE("golden") {
    TEST_CASE("real weights: the published log of OSEDiff on RealSR") {
        // Tolerances of metrics.md (TF32 convolutions made the log): 4, 7 to 10
        struct Column {
            const char* metric;
            const char* column;
            double tolerance;
            std::size_t pictures;
        };
        constexpr std::array<Column, 5> columns{{{"lpips-alex", "lpips", 5e-4, 100},
                                                 {"dists", "dists", 5e-4, 20},
                                                 {"musiq", "musiq", 0.1, 100},
                                                 {"clipiqa", "clipiqa", 3e-3, 100},
                                                 {"maniqa-pipal", "maniqa", 5e-3, 2}}};
        const auto reference = test::shared("reference/realsr_osediff_pyiqa.csv");
        const auto pictures = test::shared("benchmarks/realsr");
        if (!reference || !pictures) return;
        const auto rows = test::read_table(*reference);
        REQUIRE(rows.size() == 100);
        for (const Column& c : columns) {
            const MetricInfo& info = find_metric(c.metric);
            const bool there =
                std::all_of(info.weight_files.begin(), info.weight_files.end(),
                            [](const std::string& file) { return have_weights(file); });
            if (!there) {
                MESSAGE("SKIPPED: " << std::string(c.metric)
                                    << " against the published log, no real weights: "
                                    << how_to_get_weights(info.weight_files.back()));
                continue;
            }
            MetricOptions options;
            options.compute.threads = 2;
            options.crops = Crops::random123;  // the log is of pyiqa 0.1.10
            const MetricPtr metric = info.make(options);
            std::vector<PixelSize> sizes;
            double worst = 0;
            for (std::size_t i = 0; i < c.pictures; ++i) {
                const std::string& name = rows[i].at("image");
                const Image sr = read_image(*pictures / "SR" / "osediff" / name).image;
                const Image hr = read_image(*pictures / "HR" / name).image;
                const double value = metric->score_in_list(sr, hr, sizes);
                worst = std::max(worst, std::abs(value - std::stod(rows[i].at(c.column))));
                sizes.push_back(sr.size());
            }
            MESSAGE(std::string(c.metric) << ": largest difference to the log " << worst);
            CHECK(worst < c.tolerance);
        }
    }
}

}  // namespace
}  // namespace ultrasr
