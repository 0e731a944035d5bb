// MUSIQ's parts by hand, its scores against pyiqa's with weights by formula.
#include "metrics/musiq.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/full.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_nearest1d.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <cstdlib>

#include "data/base/error.h"
#include "data/tensor/named_tensors.h"
#include "metrics/musiq_patches.h"
#include "tests/metrics/generated_weights.h"
#include "tests/metrics/network_goldens.h"
#include "tests/metrics/pictures.h"
#include "tests/sentence.h"
#include "tests/test.h"

namespace ultrasr {

extern const MetricInfo musiq, musiq_spaq, musiq_paq2piq, musiq_ava;

namespace {

using test::contains, test::sentence_of;

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
    REQUIRE(a.sizes() == b.sizes());
    return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

/// Weights that do nothing: gains of one, everything else zero.
StateDict neutral() {
    return StateDict([](const std::string& name, at::IntArrayRef shape) {
        return shape.size() == 1 && name.ends_with("weight") ? at::ones(shape) : at::zeros(shape);
    });
}

at::Tensor channels_last(const at::Tensor& x) {
    return x.contiguous(at::MemoryFormat::ChannelsLast);
}

TEST_SUITE("unit") {
    TEST_CASE("musiq_grid: three versions of 97x64, the longer side 224, 384 and its own") {
        const MusiqGrid small = musiq_grid({97, 64}, 224);
        CHECK(small.size == PixelSize{224, 148});
        CHECK(small.columns == 7);
        CHECK(small.rows == 5);
        CHECK(small.left == 0);
        CHECK(small.top == 6);  // of 12 rows of zeros
        const MusiqGrid middle = musiq_grid({97, 64}, 384);
        CHECK(middle.size == PixelSize{384, 253});
        CHECK(middle.rows == 8);
        CHECK(middle.top == 1);  // of 3: the smaller half comes first
        const MusiqGrid own = musiq_grid({97, 64}, 0);
        CHECK(own.size == PixelSize{97, 64});
        CHECK(own.columns == 4);
        CHECK(own.rows == 2);
        CHECK(own.left == 15);  // of 31
        CHECK(own.top == 0);
        CHECK(musiq_grid({237, 301}, 384).size == PixelSize{302, 384});
    }

    TEST_CASE("musiq_grid: sides round halves to even, one that vanishes is an error") {
        CHECK(musiq_grid({448, 5}, 224).size == PixelSize{224, 2});
        CHECK(musiq_grid({448, 7}, 224).size == PixelSize{224, 4});
        CHECK(musiq_grid({447, 1}, 224).size == PixelSize{224, 1});
        const std::string sentence = sentence_of(Fault::input, [] { musiq_grid({448, 1}, 224); });
        CHECK(contains(sentence, "448x1"));
        CHECK(contains(sentence, "224"));
    }

    TEST_CASE("musiq_cells: rows of a 10 x 10 grid") {
        CHECK(musiq_cells(1, 1) == std::vector<std::int64_t>{0});
        CHECK(musiq_cells(2, 2) == std::vector<std::int64_t>{0, 5, 50, 55});
        CHECK(musiq_cells(1, 12) == std::vector<std::int64_t>{0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9});
    }

    TEST_CASE("musiq_cells: as nearest-neighbour resizing, where float32 decides too") {
        const at::Tensor ten = at::arange(10, at::kFloat).view({1, 1, 10});
        int beside_integers = 0;
        for (int count = 1; count <= 1200; ++count) {
            const auto cells = musiq_cells(1, count);
            const at::Tensor resized = at::upsample_nearest1d(ten, {count}).view({-1});
            const float* expected = resized.const_data_ptr<float>();
            bool equal = true;
            for (int i = 0; i < count; ++i) {
                const auto cell = cells[static_cast<std::size_t>(i)];
                equal = equal && static_cast<float>(cell) == expected[i];
                beside_integers += cell != 10 * i / count;
            }
            CAPTURE(count);
            CHECK(equal);
        }
        CHECK(beside_integers > 0);  // else integers would do, and this test says nothing
    }

    TEST_CASE("musiq_version: cubic with a = -0.75, neither smoothed nor clamped") {
        at::Tensor picture = at::zeros({1, 3, 2, 112});
        picture.select(3, 56).fill_(1.0);
        const MusiqGrid grid = musiq_grid({112, 2}, 224);
        const at::Tensor version = musiq_version(picture, grid);
        REQUIRE(version.size(3) == 224);
        const auto at_column = [&](int x) { return version[0][1][2][x].item<double>(); };
        CHECK(at_column(112) == doctest::Approx(0.87890625));   // a quarter pixel beside it
        CHECK(at_column(114) == doctest::Approx(0.26171875));   // three quarters
        CHECK(at_column(115) == doctest::Approx(-0.10546875));  // five quarters
        CHECK(at_column(117) == 0.0);
    }

    TEST_CASE("musiq_patches: pixels in place, mid-grey around them, whole rows or one by one") {
        const at::Tensor picture = at::rand({1, 3, 70, 33});
        const MusiqGrid grid = musiq_grid({33, 70}, 0);
        REQUIRE(grid.rows == 3);
        REQUIRE(grid.columns == 2);
        REQUIRE(grid.left == 15);
        REQUIRE(grid.top == 13);
        const at::Tensor patches = musiq_patches(picture, grid, 0, 3);
        REQUIRE(patches.sizes() == at::IntArrayRef({6, 3, 37, 37}));

        // Every place of every patch by hand
        double largest = 0;
        const auto pixels = picture.accessor<float, 4>(), found = patches.accessor<float, 4>();
        for (int n = 0; n < 6; ++n) {
            for (int c = 0; c < 3; ++c) {
                for (int i = 0; i < 37; ++i) {
                    for (int j = 0; j < 37; ++j) {
                        const bool framed = i >= 2 && i < 34 && j >= 2 && j < 34;
                        const int y = 32 * (n / 2) + i - 2 - 13, x = 32 * (n % 2) + j - 2 - 15;
                        const bool inside = framed && y >= 0 && y < 70 && x >= 0 && x < 33;
                        const double expected = inside ? 2.0 * pixels[0][c][y][x] - 1.0 : 0.0;
                        largest = std::max(largest, std::abs(found[n][c][i][j] - expected));
                    }
                }
            }
        }
        CHECK(largest < 1e-6);
        CHECK(largest_difference(patches.narrow(0, 2, 2), musiq_patches(picture, grid, 1, 1)) == 0);
        CHECK(largest_difference(patches.narrow(0, 4, 2), musiq_patches(picture, grid, 2, 1)) == 0);
    }

    TEST_CASE("standardised: mean 0, the deviation with n - 1, 1e-5 added to it") {
        // Deviation 1e-5: the added 1e-5 halves the result
        const at::Tensor weight =
            at::tensor({4e-5, 5e-5, 6e-5, 8.0, 9.0, 10.0}).view({2, 1, 1, 3}).to(at::kFloat);
        const at::Tensor result = standardised(weight).view({2, 3});
        CHECK(result[0][0].item<double>() == doctest::Approx(-0.5).epsilon(1e-4));
        CHECK(std::abs(result[0][1].item<double>()) < 1e-5);
        CHECK(result[0][2].item<double>() == doctest::Approx(0.5).epsilon(1e-4));
        CHECK(result[1][2].item<double>() == doctest::Approx(1.0 / 1.00001).epsilon(1e-6));
    }

    TEST_CASE("GroupNorm: +-0.01 has variance 1e-4, and eps of the same halves its square") {
        auto weights = neutral();
        const GroupNorm norm(weights, "gn", 64, 1e-4, {});
        at::Tensor x = at::full({1, 64, 4, 4}, 5.01);
        x.narrow(3, 0, 2).fill_(4.99);
        const at::Tensor y = norm.relu(channels_last(x));
        CHECK(y[0][7][1][3].item<double>() == doctest::Approx(std::sqrt(0.5)).epsilon(1e-3));
        CHECK(y[0][7][1][0].item<double>() == 0.0);
    }

    TEST_CASE("GroupNorm: loops agree with LibTorch's operators, in float32 and bf16") {
        const c10::InferenceMode guard;
        auto weights = test::generated_weights();
        for (const auto type : {at::kFloat, at::kBFloat16}) {
            const Placement placement{.dtype = type};
            const GroupNorm a(weights, "gn_a", 64, 1e-4, placement);
            const GroupNorm b(weights, "gn_b", 64, 1e-4, placement);
            const at::Tensor x = to_activation(at::randn({3, 64, 16, 16}) + 0.3, placement);
            const at::Tensor other = to_activation(at::randn({3, 64, 16, 16}) * 2.0, placement);
            // bf16: LibTorch rounds between the steps, the loops once; values reach 8
            const double tolerance = type == at::kFloat ? 5e-6 : 0.07;
            CHECK(largest_difference(a.relu(x), a.plain_relu(x)) < tolerance);
            CHECK(largest_difference(a.relu_pool(x), a.plain_relu_pool(x)) < tolerance);
            CHECK(largest_difference(a.add_relu(x, b, other), a.plain_add_relu(x, b, other)) <
                  tolerance);
        }
    }

    TEST_CASE("musiq_attention_by_head: as LibTorch's fused attention, any number of queries") {
        const c10::InferenceMode guard;
        const at::Tensor keys_values = at::randn({300, 768});
        for (const std::int64_t count : {1, 128, 129, 300}) {
            const at::Tensor queries = at::randn({count, 384});
            CHECK(largest_difference(musiq_attention_by_head(queries, keys_values, {}),
                                     musiq_attention(queries, keys_values)) < 3e-6);
        }
    }

    TEST_CASE("musiq_attention: fillers with the logit -1000 change nothing") {
        const c10::InferenceMode guard;
        const at::Tensor queries = at::randn({20, 384}), keys_values = at::randn({20, 768});
        // As the reference: 9 fillers behind the tokens, masked
        const at::Tensor filled = at::cat({keys_values, at::randn({9, 768})});
        const at::Tensor q = queries.view({20, 6, 64}).transpose(0, 1);
        const at::Tensor kv = filled.view({29, 2, 6, 64});
        const at::Tensor k = kv.select(1, 0).permute({1, 2, 0}),
                         v = kv.select(1, 1).transpose(0, 1);
        at::Tensor logits = at::matmul(q, k) / 8.0;
        logits.narrow(2, 20, 9).fill_(-1000.0);
        const at::Tensor expected =
            at::matmul(at::softmax(logits, 2), v).transpose(0, 1).reshape({20, 384});
        CHECK(largest_difference(musiq_attention(queries, keys_values), expected) < 2e-6);
    }

    TEST_CASE("MusiqNet: tokens as in double, at contrasts where each norm's eps shows") {
        const c10::InferenceMode guard;
        const auto make = [](const std::string& name, at::IntArrayRef shape) {
            const at::Tensor values = test::generated_tensor(name, shape);
            return name.starts_with("gn_root") ? values * 1e-3 : values;
        };
        StateDict weights(make);
        const MusiqNet net(weights, 1, {});
        const at::Tensor patches = channels_last(at::randn({2, 3, 37, 37}) * 1e-4);

        const auto conv = [&](const at::Tensor& x, const std::string& key, at::IntArrayRef shape,
                              int stride, int padding) {
            const at::Tensor w = standardised(make(key + ".weight", shape)).to(at::kDouble);
            return at::conv2d(x, w, {}, stride, padding);
        };
        const auto norm = [&](const at::Tensor& x, const std::string& key, double eps) {
            return at::group_norm(x, 32, make(key + ".weight", {x.size(1)}).to(at::kDouble),
                                  make(key + ".bias", {x.size(1)}).to(at::kDouble), eps);
        };
        at::Tensor x = conv(patches.to(at::kDouble), "conv_root", {64, 3, 7, 7}, 2, 0);
        x = at::constant_pad_nd(at::relu(norm(x, "gn_root", 1e-6)), {0, 1, 0, 1});
        x = at::max_pool2d(x, {3, 3}, {2, 2});
        const at::Tensor shortcut =
            norm(conv(x, "block1.conv_proj", {256, 64, 1, 1}, 1, 0), "block1.gn_proj", 1e-4);
        x = at::relu(norm(conv(x, "block1.conv1", {64, 64, 1, 1}, 1, 0), "block1.gn1", 1e-4));
        x = at::relu(norm(conv(x, "block1.conv2", {64, 64, 3, 3}, 1, 1), "block1.gn2", 1e-4));
        x = norm(conv(x, "block1.conv3", {256, 64, 1, 1}, 1, 0), "block1.gn3", 1e-4);
        const at::Tensor expected =
            at::linear(at::relu(x + shortcut).permute({0, 2, 3, 1}).reshape({2, 16384}),
                       make("embedding.weight", {384, 16384}).to(at::kDouble),
                       make("embedding.bias", {384}).to(at::kDouble));
        // float32 against double; a wrong eps moves it by 0.1 and more
        CHECK(largest_difference(net.embed(patches), expected) <
              1e-4 * expected.abs().max().item<double>());
    }

    TEST_CASE("MusiqNet: patches give the same tokens alone and together") {
        const c10::InferenceMode guard;
        auto weights = test::generated_weights();
        const MusiqNet net(weights, 1, {});
        const at::Tensor patches = channels_last(at::randn({19, 3, 37, 37}));
        const at::Tensor together = net.embed(patches);
        // Sums of 16384 products in another order
        CHECK(largest_difference(together.narrow(0, 17, 1),
                                 net.embed(channels_last(patches.narrow(0, 17, 1)))) < 2e-5);
    }

    TEST_CASE("musiq: a checkpoint of something else is an error that names metric and file") {
        const test::TemporaryFolder folder;
        save_tensors(folder.path() / "musiq_koniq_ckpt-e95806b9.pth",
                     {{"fc.weight", at::ones({2, 2})}, {"gn_root.weight", at::ones({3})}});
        MetricOptions options;
        options.weights = {.weights = folder.path(), .unverified_weights = true};
        const std::string sentence = sentence_of(Fault::input, [&] { musiq.make(options); });
        for (const char* part :
             {"musiq", "musiq_koniq_ckpt-e95806b9.pth", "missing (conv_root.weight",
              "1 surplus (fc.weight)", "gn_root.weight [3] instead of [64]"}) {
            CAPTURE(sentence);
            CHECK(contains(sentence, part));
        }
    }
}

TEST_SUITE("golden") {
    /// With ULTRASR_FULL_GOLDEN set every row; else small pictures and the texture up to 301x237.
    void check_rows(const MetricInfo& info, double tolerance, std::size_t at_least) {
        const auto metric = info.make(test::network_options());
        double worst = 0;
        std::size_t rows = 0;
        for (const auto& row : test::network_goldens(info.name)) {
            const int pixels = row.size.width * row.size.height;
            const bool kept = pixels < 10'000 || (row.kind == "texture" && pixels <= 301 * 237);
            if (!kept && !std::getenv("ULTRASR_FULL_GOLDEN")) continue;
            CAPTURE(row.kind);
            CAPTURE(row.size.width);
            const auto pair = test::picture(row.kind, row.size);
            const double difference = std::abs(metric->score(pair.sr, Image()) - row.value);
            CHECK(difference < tolerance);
            worst = std::max(worst, difference);
            ++rows;
        }
        CHECK(rows >= at_least);
        MESSAGE(info.name << ": largest difference " << worst << " of " << rows << " rows");
    }

    // metrics.md 0.7: 3e-4 of a scale of 100 against float32 pyiqa; measured over all rows 1.8e-4
    TEST_CASE("musiq: pyiqa's scores within 3e-4") { check_rows(musiq, 3e-4, 12); }

    // A scale of 10, so a tenth of it; measured 1e-5
    TEST_CASE("musiq-ava: pyiqa's scores within 3e-5") { check_rows(musiq_ava, 3e-5, 11); }

    TEST_CASE("musiq: bf16 stays within 1 of float32") {
        // 14 blocks of 8-bit mantissas; measured 0.48 of 67
        const auto pair = test::picture("texture", {97, 64});
        MetricOptions options = test::network_options();
        const double expected = musiq.make(options)->score(pair.sr, Image());
        options.compute.precision = Precision::bf16;
        const double value = musiq.make(options)->score(pair.sr, Image());
        CHECK(std::abs(value - expected) < 1.0);
        CHECK(value != expected);
    }
}

TEST_SUITE("property") {
    TEST_CASE("musiq metrics: each names its own file, and the same network gives the same score") {
        const auto pair = test::picture("texture", {33, 31});
        std::string files;
        std::vector<double> scores;
        for (const MetricInfo* info : {&musiq, &musiq_spaq, &musiq_paq2piq}) {
            const auto metric = info->make(test::network_options());
            const auto provenance = metric->provenance();
            REQUIRE(provenance.weights.size() == 1);
            CHECK(provenance.weights.front().file == info->weight_files.front());
            CHECK_FALSE(contains(files, info->weight_files.front()));
            files += info->weight_files.front();
            scores.push_back(metric->score(pair.sr, Image()));
        }
        CHECK(scores[0] == scores[1]);  // generated weights do not depend on the file
        CHECK(scores[0] == scores[2]);
    }
}

}  // namespace
}  // namespace ultrasr
