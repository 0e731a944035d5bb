// LPIPS, DISTS and FID against pyiqa with weights by formula, and their gradients.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/file.h"
#include "data/tensor.h"
#include "metrics/dists.h"
#include "metrics/fid.h"
#include "metrics/frechet.h"
#include "metrics/lpips.h"
#include "metrics/nets/inception.h"
#include "metrics/pillow_resize.h"
#include "tests/metrics/generated_weights.h"
#include "tests/metrics/network_goldens.h"
#include "tests/metrics/pictures.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

/// With ULTRASR_FULL_GOLDEN set every row counts; else small pictures, and of the larger ones up to
/// `largest` pixels the texture: seconds instead of minutes.
bool in_short_test(const test::NetworkGolden& row, int largest) {
    const int pixels = row.size.width * row.size.height;
    return std::getenv("ULTRASR_FULL_GOLDEN") || pixels < 10'000 ||
           (row.kind == "texture" && row.weights == "generated" && pixels <= largest);
}

/// Demands every row within the tolerance.
void check_rows(const std::string& pyiqa_name, const std::string& name, double tolerance,
                int largest) {
    std::map<std::string, MetricPtr> metrics;
    double worst = 0;
    int rows = 0;
    for (const auto& row : test::network_goldens(pyiqa_name)) {
        if (!in_short_test(row, largest)) continue;
        MetricPtr& metric = metrics[row.weights];
        if (!metric) metric = find_metric(name).make(test::network_options(row.weights));
        const auto pair = test::picture(row.kind, row.size);
        const double value = metric->score(pair.sr, pair.hr);
        CAPTURE(row.weights);
        CAPTURE(row.kind);
        CAPTURE(row.size.width);
        CHECK(std::abs(value - row.value) < tolerance);
        worst = std::max(worst, std::abs(value - row.value));
        ++rows;
    }
    CHECK(rows >= 10);
    MESSAGE(name << ": largest difference " << worst << " of " << rows << " rows");
}

ImageBatch batch_of(const at::Tensor& nchw) { return ImageBatch(nchw); }

Json fid_golden() {
    const auto path = test::source_folder() / "tests" / "golden" / "metrics_networks_fid.json";
    return parse_json(read_file(path), path.string());
}

Image picture_of(const Json& place) {
    const auto pair = test::picture(place.at("kind").get<std::string>(),
                                    {place.at("width").get<int>(), place.at("height").get<int>()});
    return place.at("side") == "sr" ? pair.sr : pair.hr;
}

/// d score / d sr of the 64 x 64 texture pair against the golden elements and norm.
template <class Loss>
void check_gradient(const std::string& pyiqa_name, const Loss& loss, double tolerance) {
    const auto pair = test::picture("texture", {64, 64});
    at::Tensor sr = batch_from_image(pair.sr).nchw;
    sr.requires_grad_(true);
    const at::Tensor value = loss(batch_of(sr), batch_from_image(pair.hr));
    value.sum().backward();
    const at::Tensor gradient = sr.grad();
    const double norm = at::sqrt(at::sum(gradient * gradient)).item<double>();
    int elements = 0;
    for (const test::Row& row : test::read_table(test::source_folder() / "tests" / "golden" /
                                                 "metrics_networks_gradients.csv")) {
        if (row.at("metric") != pyiqa_name) continue;
        const double expected = std::stod(row.at("value"));
        if (row.at("quantity") == "norm") CHECK(norm == doctest::Approx(expected).epsilon(1e-4));
        if (row.at("quantity") != "element") continue;
        const auto at = [&](const char* name) { return std::stol(row.at(name)); };
        const double ours =
            gradient.select(0, 0)[at("channel")][at("row")][at("column")].template item<double>();
        CHECK(std::abs(ours - expected) < tolerance * norm);
        ++elements;
    }
    CHECK(elements == 40);
}

TEST_SUITE("golden") {
    // Against pyiqa 0.1.16, float32 on a CPU. Measured over all 57 rows: 7e-8, 8e-8, 2.2e-7
    TEST_CASE("lpips-alex: pyiqa's values within 1e-6") {
        check_rows("lpips", "lpips-alex", 1e-6, 512 * 512);
    }
    TEST_CASE("lpips-vgg: pyiqa's values within 1e-6") {
        check_rows("lpips-vgg", "lpips-vgg", 1e-6, 301 * 237);
    }
    TEST_CASE("dists: pyiqa's values within 2e-6") {
        // metrics.md 0.4 allows 2e-5 for flat pictures, where double moments differ from float32
        check_rows("dists", "dists", 2e-6, 301 * 237);
    }

    // The reference's own gradients are float32: 1e-5 of the norm is a few last digits of the sums
    TEST_CASE("lpips with AlexNet: pyiqa's gradient within 1e-5 of its norm") {
        auto weights = test::generated_weights();
        const AlexNet net(weights, {});
        const LpipsHeads heads(weights, AlexNet::channels, {});
        check_gradient(
            "lpips", [&](const auto& sr, const auto& hr) { return lpips(net, heads, sr, hr); },
            1e-5);
    }
    TEST_CASE("lpips with VGG16: pyiqa's gradient within 1e-5 of its norm") {
        auto weights = test::generated_weights();
        const Vgg16 net(weights, {});
        const LpipsHeads heads(weights, Vgg16::channels, {});
        check_gradient(
            "lpips-vgg", [&](const auto& sr, const auto& hr) { return lpips(net, heads, sr, hr); },
            1e-5);
    }
    TEST_CASE("dists: pyiqa's gradient within 1e-4 of its norm") {
        // Ten times the tolerance of LPIPS: pyiqa's covariance is E[xy] - mx my in float32
        auto weights = test::generated_weights();
        const Vgg16 net(weights, {});
        const DistsWeights channels(weights, {});
        check_gradient(
            "dists", [&](const auto& sr, const auto& hr) { return dists(net, channels, sr, hr); },
            1e-4);
    }

    TEST_CASE("pillow_bicubic: Pillow's mode F, bit by bit") {
        int pictures = 0, samples = 0;
        const Json all = fid_golden();
        for (const Json& place : all.at("pictures")) {
            const auto resized = pillow_bicubic(picture_of(place), {299, 299});
            const Json& golden = place.at("resized");
            for (int channel = 0; channel < 3; ++channel) {
                double sum = 0;
                for (std::size_t i = static_cast<std::size_t>(channel); i < resized.size();
                     i += 3) {
                    sum += static_cast<double>(std::clamp(resized[i], 0.0F, 255.0F));
                }
                // Sums of 89,401 exact floats in double: only the order differs
                CHECK(sum ==
                      doctest::Approx(golden.at("sums").at(channel).get<double>()).epsilon(1e-12));
            }
            for (const Json& sample : golden.at("samples")) {
                const std::size_t at =
                    (sample.at(1).get<std::size_t>() * 299 + sample.at(2).get<std::size_t>()) * 3 +
                    sample.at(0).get<std::size_t>();
                CHECK(std::clamp(resized[at], 0.0F, 255.0F) == sample.at(3).get<float>());
                ++samples;
            }
            ++pictures;
        }
        CHECK(pictures >= 4);
        CHECK(samples >= 48);
    }

    TEST_CASE("fid: pyiqa's Inception features within 1e-4 of their size") {
        const auto metric = find_metric("fid").make_set(test::network_options());
        const Json all = fid_golden();
        REQUIRE(all.at("pictures").size() >= 2);
        for (int picture = 0; picture < 2; ++picture) {
            const Json& place = all.at("pictures").at(picture);
            const std::vector<Image> one{picture_of(place)};
            const auto row = metric->features_of(one);
            REQUIRE(row.size() == 2048);
            const Json& golden = place.at("features");
            double squares = 0;
            for (const float v : row) squares += static_cast<double>(v) * static_cast<double>(v);
            const double expected = golden.at("sum_of_squares").get<double>();
            CHECK(squares == doctest::Approx(expected).epsilon(1e-5));
            const double size = std::sqrt(expected / 2048);
            for (std::size_t i = 0; i < golden.at("first").size(); ++i) {
                CHECK(std::abs(static_cast<double>(row[i]) -
                               golden.at("first").at(i).get<double>()) < 1e-4 * size);
            }
        }
    }

    TEST_CASE("fid: pyiqa's distance of two small sets within 1e-4 of it") {
        const auto metric = find_metric("fid").make_set(test::network_options());
        const Json golden = fid_golden();
        std::array<std::vector<float>, 2> rows;
        for (std::size_t s = 0; s < 2; ++s) {
            std::vector<Image> images;
            for (const Json& place : golden.at("sets").at(s)) images.push_back(picture_of(place));
            rows[s] = metric->features_of(images);
        }
        const double value = metric->distance(rows[0], rows[1]);
        MESSAGE("fid " << fmt::format("{:.9g}", value));
        // pyiqa takes scipy's sqrtm of a singular product: 1.5e-5 off its own singular values
        CHECK(value == doctest::Approx(golden.at("fid").get<double>()).epsilon(1e-4));
        CHECK(value ==
              doctest::Approx(golden.at("fid_by_singular_values").get<double>()).epsilon(1e-5));
        CHECK(metric->distance(rows[1], rows[0]) == doctest::Approx(value).epsilon(1e-9));
        CHECK(std::abs(metric->distance(rows[0], rows[0])) < 1e-6 * value);
    }
}

TEST_SUITE("unit") {
    TEST_CASE("frechet: two normal distributions by hand, by every route") {
        // Two features; means differ by (3, 4); covariances diag(1, 4) and diag(9, 4) when each
        // row appears with both signs: 25 + (1 - 3)^2 + 0 = 29
        const auto rows = [](float mx, float my, float sx, float sy) {
            const float k = std::sqrt(1.5F);  // four rows: N - 1 = 3, each axis has two of them
            return std::vector<float>{mx + sx * k, my,          mx - sx * k, my,
                                      mx,          my + sy * k, mx,          my - sy * k};
        };
        const auto a = rows(0, 0, 1, 2), b = rows(3, 4, 3, 2);
        const auto sa = statistics_of(a, 2), sb = statistics_of(b, 2);
        CHECK(sa.covariance[0] == doctest::Approx(1.0).epsilon(1e-6));
        CHECK(sa.covariance[3] == doctest::Approx(4.0).epsilon(1e-6));
        CHECK(sb.count == 4);
        for (const double value : {frechet_distance_of_rows(a, b, 2),
                                   frechet_distance_of_rows(a, sb), frechet_distance(sa, sb)}) {
            CHECK(value == doctest::Approx(29.0).epsilon(1e-6));
        }
    }

    TEST_CASE("frechet: the routes agree on random rows, fewer and more than the features") {
        // 40 features; 30 and 25 rows: covariances without full rank; 60 and 50: with
        for (const auto& [n, m] : {std::pair{30, 25}, std::pair{60, 50}, std::pair{60, 25}}) {
            const auto make = [](int count, int seed) {
                std::vector<float> rows;
                for (int i = 0; i < 40 * count; ++i) {
                    rows.push_back(static_cast<float>(test::hash32(i % 40, i / 40, seed) % 1000U) /
                                   (seed == 1 ? 100.0F : 130.0F));
                }
                return rows;
            };
            const auto a = make(n, 1), b = make(m, 2);
            const double value = frechet_distance_of_rows(a, b, 40);
            CHECK(value > 1.0);
            CHECK(frechet_distance_of_rows(a, statistics_of(b, 40)) ==
                  doctest::Approx(value).epsilon(1e-6));
            CHECK(frechet_distance(statistics_of(a, 40), statistics_of(b, 40)) ==
                  doctest::Approx(value).epsilon(1e-6));
        }
    }

    TEST_CASE("frechet: one row is an error that says so") {
        const std::vector<float> one(8), two(16);
        CHECK_THROWS_WITH_AS(frechet_distance_of_rows(one, two, 8),
                             doctest::Contains("at least two pictures, got 1"), Error);
        CHECK_THROWS_WITH_AS(statistics_of(one, 8), doctest::Contains("at least two"), Error);
    }

    TEST_CASE("l2_pool: the loop and LibTorch's convolution agree, odd sides too") {
        for (const auto& [h, w] : {std::pair{7, 10}, std::pair{8, 5}, std::pair{1, 1}}) {
            at::Tensor x = at::rand({1, 6, h, w}) - 0.3;
            const at::Tensor loop = l2_pool(x);
            CHECK(loop.size(2) == (h + 1) / 2);
            CHECK(loop.size(3) == (w + 1) / 2);
            x.requires_grad_(true);  // takes the other way
            CHECK((l2_pool(x).detach() - loop).abs().max().item<float>() < 1e-6F);
        }
        // By hand: a lone 2 in the corner; 4/4 under the root
        at::Tensor x = at::zeros({1, 1, 3, 3});
        x[0][0][0][0] = 2.0;
        CHECK(l2_pool(x)[0][0][0][0].item<float>() == doctest::Approx(1.0F));
        CHECK(l2_pool(x)[0][0][1][1].item<float>() == doctest::Approx(1e-6F));
    }

    TEST_CASE("lpips, dists: the fused sums and the differentiable ones agree") {
        auto weights = test::generated_weights();
        const Vgg16 net(weights, {});
        const LpipsHeads heads(weights, Vgg16::channels, {});
        const DistsWeights channels(weights, {});
        const auto pair = test::picture("texture", {50, 37});
        const ImageBatch sr = batch_from_image(pair.sr), hr = batch_from_image(pair.hr);
        const auto scored = [&](const char* name) {
            return find_metric(name).make(test::network_options())->score(pair.sr, pair.hr);
        };
        CHECK(lpips(net, heads, sr, hr).item<double>() ==
              doctest::Approx(scored("lpips-vgg")).epsilon(1e-5));
        CHECK(std::abs(dists(net, channels, sr, hr).item<double>() - scored("dists")) < 2e-6);
    }

    TEST_CASE("lpips, dists: a batch scores like its pictures, gradients flow into both") {
        auto weights = test::generated_weights();
        const Vgg16 vgg(weights, {});
        const AlexNet alex(weights, {});
        const LpipsHeads vgg_heads(weights, Vgg16::channels, {});
        const LpipsHeads alex_heads(weights, AlexNet::channels, {});
        const DistsWeights channels(weights, {});
        const auto a = test::picture("texture", {40, 36}), b = test::picture("patches", {40, 36});
        const auto together = [](const Image& x, const Image& y) {
            return at::cat({batch_from_image(x).nchw, batch_from_image(y).nchw}, 0);
        };
        at::Tensor sr = together(a.sr, b.sr), hr = together(a.hr, b.hr);
        sr.requires_grad_(true);
        hr.requires_grad_(true);
        using Loss = std::function<at::Tensor(const ImageBatch&, const ImageBatch&)>;
        for (const Loss& loss :
             {Loss([&](auto&x, auto&y) { return lpips(vgg, vgg_heads, x, y); }),
              Loss([&](auto&x, auto&y) { return lpips(alex, alex_heads, x, y); }),
              Loss([&](auto&x, auto&y) { return dists(vgg, channels, x, y); })}) {
            const at::Tensor both = loss(batch_of(sr), batch_of(hr));
            REQUIRE(both.sizes() == at::IntArrayRef{2});
            for (int i = 0; i < 2; ++i) {
                const c10::InferenceMode guard;
                const at::Tensor alone = loss(batch_of(sr.detach().narrow(0, i, 1).clone()),
                                              batch_of(hr.detach().narrow(0, i, 1).clone()));
                CHECK(std::abs(alone.item<double>() - both[i].item<double>()) < 2e-6);
            }
            both.sum().backward();
            CHECK(sr.grad().abs().max().item<double>() > 0);
            CHECK(hr.grad().abs().max().item<double>() > 0);
        }
    }

    TEST_CASE("lpips, dists as losses: shapes that differ and sides too small are errors") {
        auto weights = test::generated_weights();
        const AlexNet alex(weights, {});
        const LpipsHeads heads(weights, AlexNet::channels, {});
        const auto batch = [](int h, int w) { return batch_of(at::zeros({1, 3, h, w})); };
        CHECK_THROWS_WITH_AS(lpips(alex, heads, batch(40, 40), batch(40, 41)),
                             doctest::Contains("[1, 3, 40, 41]"), Error);
        CHECK_THROWS_WITH_AS(lpips(alex, heads, batch(30, 40), batch(30, 40)),
                             doctest::Contains("at least 31"), Error);
    }

    TEST_CASE("lpips-vgg and dists in one process share network and first stage") {
        /// Counts how often VGG16 is asked for.
        struct Counting final : WeightSource {
            mutable int backbones = 0;
            StateDict open(std::string_view file) const override {
                backbones += file == "vgg16-397923af.pth";
                return test::generated_source()->open(file);
            }
        };
        const auto source = std::make_shared<const Counting>();
        const auto pair = test::picture("texture", {64, 48});
        auto options = test::network_options();
        options.source = source;
        const double alone = find_metric("dists").make(options)->score(pair.sr, pair.hr);
        const auto lpips_metric = find_metric("lpips-vgg").make(options);
        const double first = lpips_metric->score(pair.sr, pair.hr);
        const auto dists_beside = find_metric("dists").make(options);
        CHECK(source->backbones == 2);  // the first dists went before lpips-vgg came
        CHECK(dists_beside->score(pair.sr, pair.hr) == alone);
        CHECK(lpips_metric->score(pair.sr, pair.hr) == first);
        CHECK(dists_beside->score(pair.sr, pair.hr) == alone);
        // Other pictures in the same memory are other pictures
        const auto other = test::picture("patches", {64, 48});
        Image reused(pair.sr.size());
        other.sr.mat().copyTo(reused.mat());
        const double expected = lpips_metric->score(reused, pair.hr);
        CHECK(expected != first);
        std::vector<MetricProvenance> both{lpips_metric->provenance(), dists_beside->provenance()};
        CHECK(both[0].weights.back().file == "vgg16-397923af.pth");
        CHECK(both[1].weights.back().file == "vgg16-397923af.pth");
    }

    TEST_CASE("fid statistics: written, read back, refused when they are something else") {
        const test::TemporaryFolder folder;
        std::vector<float> rows(3 * 2048);
        for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 97);
        const FidStats stats{statistics_of(rows, 2048), "abc", "def"};
        const auto path = folder.path() / "hr.safetensors";
        write_fid_stats(path, stats);
        const FidStats again = read_fid_stats(path);
        CHECK(again.statistics.mean == stats.statistics.mean);
        CHECK(again.statistics.covariance == stats.statistics.covariance);
        CHECK(again.statistics.count == 3);
        CHECK(again.network_sha256 == "abc");
        CHECK(again.pictures_sha256 == "def");
        CHECK_THROWS_WITH_AS(
            read_fid_stats(test::source_folder() / "data/weights/realesr-animevideov3.safetensors"),
            doctest::Contains("fid-stats DIR"), Error);
        auto options = test::network_options();
        options.fid_stats = path;
        CHECK_THROWS_WITH_AS(find_metric("fid").make_set(options),
                             doctest::Contains("made with another network"), Error);
    }
}

}  // namespace
}  // namespace ultrasr
