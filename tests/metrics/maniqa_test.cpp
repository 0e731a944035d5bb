// MANIQA's parts by hand, its network against pyiqa's numbers.
#include "metrics/maniqa.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <array>
#include <cmath>
#include <map>
#include <set>

#include "data/base/error.h"
#include "data/tensor.h"
#include "tests/metrics/generated_weights.h"
#include "tests/metrics/network_goldens.h"
#include "tests/metrics/pictures.h"
#include "tests/test.h"

namespace ultrasr {

extern const MetricInfo maniqa_pipal;

namespace {

/// bf16 as this CPU can have it: with its instructions, or emulated.
Placement in_bf16() { return place(ComputeOptions{.precision = Precision::bf16}); }

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
    REQUIRE(a.sizes() == b.sizes());
    return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

double largest(const at::Tensor& a) { return a.to(at::kDouble).abs().max().item<double>(); }

/// A transformer block whose attention gives nothing and whose MLP gives its input: the GELU of
/// x + 20 is x + 20.
StateDict bare_block() {
    return StateDict([](const std::string& name, at::IntArrayRef shape) {
        if (name.ends_with("norm1.weight") || name.ends_with("norm2.weight")) {
            return at::ones(shape);
        }
        if (name.ends_with("mlp.fc1.weight") || name.ends_with("mlp.fc2.weight")) {
            return at::eye(shape[0], shape[1]);
        }
        if (name.ends_with("mlp.fc1.bias")) return 20 * at::ones(shape);
        if (name.ends_with("mlp.fc2.bias")) return -20 * at::ones(shape);
        return at::zeros(shape);
    });
}

/// +0.003, -0.003, ...: the variance is 9e-6.
at::Tensor small_waves(std::int64_t tokens, std::int64_t width) {
    const at::Tensor signs = 1 - 2 * (at::arange(width, at::kFloat) % 2);
    return (0.003 * signs).expand({1, tokens, width}).contiguous();
}

TEST_SUITE("unit") {
    TEST_CASE("swin_window_order: windows and their tokens row by row, rolled by the shift") {
        const auto straight = swin_window_order(0), shifted = swin_window_order(2);
        REQUIRE(straight.size() == 784);
        CHECK(straight[0] == 0);
        CHECK(straight[3] == 3);
        CHECK(straight[4] == 28);        // second row of the first window
        CHECK(straight[16] == 4);        // second window
        CHECK(straight[7 * 16] == 112);  // second row of windows
        CHECK(straight[783] == 783);
        CHECK(shifted[0] == 2 * 28 + 2);
        CHECK(shifted[5] == 3 * 28 + 3);
        CHECK(shifted[783] == 1 * 28 + 1);  // rolled in from the upper left
        CHECK(std::set<std::int64_t>(shifted.begin(), shifted.end()).size() == 784);
    }

    TEST_CASE("swin_logit_bias: the table's row follows from the key seen from the query") {
        const at::Tensor table = at::arange(49 * 4, at::kFloat).view({49, 4});
        const at::Tensor bias = swin_logit_bias(table, 0);
        REQUIRE(bias.sizes() == at::IntArrayRef{1, 4, 16, 16});
        const auto row = [&](int query, int key) {
            return (bias[0][2][query][key].item<double>() - 2) / 4;
        };
        CHECK(row(0, 0) == 24);   // the middle
        CHECK(row(1, 0) == 25);   // one to the right of the key
        CHECK(row(4, 0) == 31);   // one below the key
        CHECK(row(0, 15) == 0);   // three up and left
        CHECK(row(15, 0) == 48);  // three down and right
        CHECK(row(3, 12) == 6);   // three up, three right
    }

    TEST_CASE("swin_logit_bias: -100 between tokens that only the roll brought together") {
        const at::Tensor bias = swin_logit_bias(at::zeros({49, 4}), 2);
        REQUIRE(bias.sizes() == at::IntArrayRef{49, 4, 16, 16});
        const auto value = [&](int window, int query, int key) {
            return bias[window][1][query][key].item<double>();
        };
        CHECK(largest(bias.slice(0, 0, 6)) == 0);  // the first row's windows but the last
        CHECK(value(6, 0, 1) == 0);                // the last window of a row: columns 2, 3 apart
        CHECK(value(6, 0, 2) == -100);
        CHECK(value(6, 2, 0) == -100);
        CHECK(value(6, 2, 14) == 0);
        CHECK(value(42, 0, 3) == 0);  // the last row's first window: rows 2, 3 apart
        CHECK(value(42, 0, 8) == -100);
        CHECK(value(48, 0, 10) == -100);  // the corner: four parts
        CHECK(value(48, 2, 8) == -100);
        CHECK(value(48, 10, 15) == 0);
    }

    TEST_CASE("ChannelAttention: as the formula in double, with its transposed result") {
        // 300 channels: more than a CPU takes at once. x and bias large enough that a forgotten
        // bias, scale or transposition moves the result by more than 1e-2
        const c10::InferenceMode guard;
        constexpr std::int64_t channels = 300, length = 6;
        const auto make = [&](const std::string& name, at::IntArrayRef shape) {
            return 8 * test::generated_tensor(name, shape);
        };
        StateDict large(make);
        const ChannelAttention attention(large, "tablock1.0.", length, {});
        const at::Tensor x = at::randn({2, channels, length});

        const auto linear = [&](const std::string& part) {
            const std::string key = "tablock1.0." + part;
            return at::linear(x.to(at::kDouble),
                              make(key + ".weight", {length, length}).to(at::kDouble),
                              make(key + ".bias", {length}).to(at::kDouble));
        };
        const at::Tensor scores = at::matmul(linear("c_q"), linear("c_k").transpose(1, 2));
        const at::Tensor attended =
            at::matmul(at::softmax(scores / std::sqrt(6.0), -1), linear("c_v"));
        const at::Tensor quirk = attended.transpose(1, 2).reshape({2, channels, length});

        // 1e-5: float32 sums of some tens
        const at::Tensor result = attention(x);
        CHECK(largest_difference(result, x + quirk) < 1e-5);
        CHECK(largest_difference(result, x + attended) > 0.1);
    }

    TEST_CASE("VitBlock, SwinBlock: norms with eps 1e-6 and 1e-5") {
        // sqrt(9e-6 + eps) is 3.162e-3 and 4.359e-3; 1e-4: float32 next to 20
        const c10::InferenceMode guard;
        StateDict bare = bare_block();
        const at::Tensor x = small_waves(785, 768), y = small_waves(784, 384);
        const at::Tensor vit = VitBlock(bare, "", {})(x);
        CHECK(largest(vit) == doctest::Approx(0.003 + 0.003 / std::sqrt(1e-5)).epsilon(1e-4));
        const at::Tensor swin = SwinBlock(bare, "", 384, 2, {})(y);
        CHECK(largest(swin) == doctest::Approx(0.003 + 0.003 / std::sqrt(1.9e-5)).epsilon(1e-4));
    }

    TEST_CASE("SwinStage: pictures of a batch do not touch each other; bf16 is near float32") {
        const c10::InferenceMode guard;
        StateDict weights = test::generated_weights();
        const SwinStage stage(weights, "swintransformer2.", 384, {});
        const at::Tensor x = at::randn({2, 784, 384});
        const at::Tensor both = stage(x);
        CHECK(largest_difference(both[0], stage(x.slice(0, 0, 1))[0]) < 1e-4 * largest(both));
        CHECK(largest_difference(both[1], stage(x.slice(0, 1, 2))[0]) < 1e-4 * largest(both));

        const SwinStage rounded(weights, "swintransformer2.", 384, in_bf16());
        const at::Tensor near = rounded(x.slice(0, 0, 1).to(at::kBFloat16));
        CHECK((near.scalar_type() == at::kBFloat16));
        CHECK(largest_difference(near[0], both[0]) < 0.03 * largest(both));
    }

    TEST_CASE("maniqa-pipal: a file of another network is an error that names what differs") {
        StateDict weights({{"vit.pos_embed", at::zeros({1, 577, 768})},
                           {"vit.head.weight", at::zeros({1000, 768})},
                           {"swintransformer1.downsample.weight", at::zeros({1})},
                           {"vit.blocks.11.norm1.weight", at::zeros({768})},
                           {"patch_embed.weight", at::zeros({1})}},
                          "maniqa-pipal (file.pth)");
        const ManiqaNet net(weights, {});
        try {
            weights.finish();
            FAIL("no error");
        } catch (const Error& error) {
            const std::string text = error.sentence();
            CAPTURE(text);
            const auto says = [&](const char* part) {
                return text.find(part) != std::string::npos;
            };
            CHECK(error.fault() == Fault::input);
            CHECK(says("maniqa-pipal (file.pth)"));
            CHECK(says("patch_embed.weight"));
            CHECK(says("vit.pos_embed [1, 577, 768] instead of [1, 785, 768]"));
            CHECK_FALSE(says("vit.head"));
            CHECK_FALSE(says("downsample"));
            CHECK_FALSE(says("blocks.11"));
        }
    }
}

TEST_SUITE("golden") {
    // 2e-6: float32 of the same network in another order of sums; 5e-8 was seen
    constexpr double tolerance = 2e-6;

    TEST_CASE("maniqa_score: pyiqa's numbers for given crops, all tokens averaged together") {
        const c10::InferenceMode guard;
        StateDict weights = test::generated_weights();
        const ManiqaNet net(weights, {});
        const PixelSize size{320, 256};
        std::map<std::string, double> golden;
        for (const auto& row : test::network_goldens("maniqa-pipal")) {
            if (row.kind == "texture" && row.size == size) golden[row.crops] = row.value;
        }
        const double a = golden.at("0:0"), b = golden.at("32:96"), both = golden.at("0:0 32:96");

        const at::Tensor picture = batch_from_image(test::picture("texture", size).sr).nchw;
        const CropCorner at_a{0, 0}, at_b{.x = 96, .y = 32};

        // The first crop twice: its weight, which follows from the three numbers, counts twice
        const double twice = 2 * (both - b) / (a - both);
        const double expected = (twice * a + b) / (twice + 1);
        CHECK(std::abs(expected - both) > 100 * tolerance);
        CHECK(std::abs(maniqa_score(net, picture, std::array{at_a, at_b, at_a}) - expected) <
              tolerance);
    }

    TEST_CASE("maniqa-pipal: a small picture is enlarged to 225 and has twenty equal crops") {
        const MetricPtr metric = maniqa_pipal.make(test::network_options());
        int compared = 0;
        for (const auto& row : test::network_goldens("maniqa-pipal")) {
            if (row.crops != "uniform" || row.size != PixelSize{224, 224}) continue;
            const double value = metric->score(test::picture(row.kind, row.size).sr, {});
            CHECK(std::abs(value - row.value) < tolerance);
            ++compared;
        }
        CHECK(compared == 1);
        CHECK(metric->provenance().settings.at("crops") == "uniform");
        CHECK(metric->provenance().settings.at("precision") == "fp32");
        CHECK(metric->one_at_a_time());

        // An empty picture: both numbers are named
        try {
            metric->score(Image(), {});
            FAIL("no error");
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::input);
            CHECK(error.sentence().find("0x0") != std::string::npos);
        }
    }
}

}  // namespace
}  // namespace ultrasr
