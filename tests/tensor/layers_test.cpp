// Fused layers against LibTorch's plain operators, and the strictness of loading.
#include "data/tensor/layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <limits>

#include "tests/sentence.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

using test::contains, test::sentence_of;

double difference(const at::Tensor& a, const at::Tensor& b) {
    REQUIRE(a.sizes() == b.sizes());
    return (a - b).abs().max().item<double>();
}

constexpr double close = 2e-5;  // float32 sums of up to 150 products of normal numbers

TEST_SUITE("unit") {
    TEST_CASE("Conv: fused results are LibTorch's, for one shape after another") {
        const at::Tensor w = at::randn({12, 6, 3, 5}), b = at::randn({12});
        const ConvShape shape{.stride = {2, 1}, .padding = {1, 2}};
        const Conv conv(w, b, shape, {}), bare(w, {}, shape, {});
        const c10::InferenceMode guard;
        // The layout of the weights is made anew for each shape; results must not depend on that
        for (const auto& [n, side] :
             {std::pair{1, 17}, std::pair{3, 17}, std::pair{1, 8}, std::pair{1, 17}}) {
            const at::Tensor x = to_activation(at::randn({n, 6, side, side + 4}), {});
            const at::Tensor y = at::conv2d(x, w, b, {2, 1}, {1, 2});
            CHECK(difference(conv(x), y) < close);
            CHECK(difference(bare(x), y - b.view({1, -1, 1, 1})) < close);
            CHECK(difference(conv.relu(x), at::relu(y)) < close);
            CHECK(difference(conv.leaky_relu(x, 0.2), at::leaky_relu(y, 0.2)) < close);
            const at::Tensor other =
                at::randn(y.sizes()).contiguous(at::MemoryFormat::ChannelsLast);
            CHECK(difference(conv.add_relu_(x, other.clone()), at::relu(y + other)) < close);
        }
    }

    TEST_CASE("Conv: sums, strips and a larger bias") {
        const at::Tensor w = at::randn({12, 6, 3, 3}), b = at::randn({12}), more = at::randn({12});
        const Conv conv(w, b, {.padding = {1, 1}}, {});
        const c10::InferenceMode guard;
        const at::Tensor x = to_activation(at::randn({1, 6, 10, 9}), {});
        const at::Tensor y = at::conv2d(x, w, b, 1, 1);
        const at::Tensor other = to_activation(at::randn({1, 12, 10, 9}), {});
        at::Tensor into = other.clone();
        CHECK(difference(conv.add_(x, into), y + other) < close);
        CHECK(difference(into, y + other) < close);  // written into it
        CHECK(difference(conv.with_more_bias(more)(x), y + more.view({1, -1, 1, 1})) < close);

        // Rows 4 ... 8 with the row above and the row below
        const Conv strips = conv.for_strips();
        CHECK(difference(strips(x.narrow(2, 3, 7)), y.narrow(2, 4, 5)) < close);
        CHECK(difference(conv(x), y) < close);  // the layout they share is made anew
        into = other.clone();
        strips.add_(x.narrow(2, 3, 7), into.narrow(2, 4, 5));
        CHECK(difference(into.narrow(2, 4, 5), (y + other).narrow(2, 4, 5)) < close);
        CHECK(difference(into.narrow(2, 0, 4), other.narrow(2, 0, 4)) == 0.0);
        CHECK(difference(into.narrow(2, 9, 1), other.narrow(2, 9, 1)) == 0.0);
    }

    TEST_CASE("Conv: the layout that takes the weights' place serves every shape") {
        const c10::InferenceMode guard;
        for (const Precision precision : {Precision::fp32, Precision::bf16}) {
            Placement placement = place(ComputeOptions{.precision = precision});
            const at::Tensor w = at::randn({40, 24, 3, 3}), b = at::randn({40});
            const Conv kept(w, b, {.padding = {1, 1}}, placement);
            placement.inference_only = true;
            const Conv replaced(w, b, {.padding = {1, 1}}, placement);
            for (const std::int64_t side : {32, 9, 64, 3, 32}) {
                const at::Tensor x = to_activation(at::randn({1, 24, side, side + 2}), placement);
                CHECK(difference(replaced(x).to(at::kFloat), kept(x).to(at::kFloat)) == 0.0);
            }
        }
    }

    TEST_CASE("Linear: products with another tensor") {
        const at::Tensor w = at::randn({12, 40}), b = at::randn({12});
        const Linear linear(w, b, {});
        const c10::InferenceMode guard;
        const at::Tensor x = at::randn({3, 5, 40}), other = at::randn({3, 5, 12});
        CHECK(difference(linear.mul(x, other), at::linear(x, w, b) * other) < close);
    }

    TEST_CASE("Conv: groups, and maps of one pixel, in float32 and bf16") {
        // LibTorch 2.11 throws on one pixel where the sum goes into a third map, as ours does not
        const c10::InferenceMode guard;
        const Placement bf16 = place(ComputeOptions{.precision = Precision::bf16});
        const Conv half(at::randn({64, 64, 1, 1}), {}, {}, bf16);
        const at::Tensor pixel = to_activation(at::ones({1, 64, 1, 1}), bf16);
        CHECK(half.add_relu_(pixel, pixel.clone()).isfinite().all().item<bool>());
        for (const int groups : {1, 4}) {
            const at::Tensor w = at::randn({64, 64 / groups, 1, 1}), b = at::randn({64});
            const Conv conv(w, b, {.groups = groups}, {});
            for (const int side : {1, 5}) {
                const at::Tensor x = to_activation(at::randn({1, 64, side, side}), {});
                const at::Tensor other = to_activation(at::randn({1, 64, side, side}), {});
                const at::Tensor y = at::conv2d(x, w, b, at::IntArrayRef{1}, at::IntArrayRef{0},
                                                at::IntArrayRef{1}, groups);
                CHECK(difference(conv(x), y) < close);
                CHECK(difference(conv.add_relu_(x, other.clone()), at::relu(y + other)) < close);
            }
        }
    }

    TEST_CASE("Linear: fused results are LibTorch's") {
        const at::Tensor w = at::randn({20, 33}), b = at::randn({20});
        const Linear linear(w, b, {}), bare(w, {}, {});
        const c10::InferenceMode guard;
        const at::Tensor x = at::randn({2, 7, 33}), other = at::randn({2, 7, 20});
        const at::Tensor y = at::linear(x, w, b);
        CHECK(difference(linear(x), y) < close);
        CHECK(difference(bare(x), y - b) < close);
        CHECK(difference(linear.relu(x), at::relu(y)) < close);
        CHECK(difference(linear.gelu(x), at::gelu(y)) < close);
        CHECK(difference(linear.gelu(x), at::gelu(y, "tanh")) > 1e-4);  // not the approximation
        CHECK(difference(linear.add(x, other), y + other) < close);
    }

    TEST_CASE("Conv, Linear: with gradients they take the plain way, and gradients flow") {
        const at::Tensor w = at::randn({4, 3, 3, 3}), v = at::randn({5, 9});
        at::Tensor x = at::randn({1, 3, 9, 9}), z = at::randn({2, 9});
        x.requires_grad_(true);
        z.requires_grad_(true);
        (Conv(w, {}, {}, {}).relu(x).sum() + Linear(v, {}, {})(z).sum()).backward();
        CHECK(x.grad().abs().max().item<double>() > 0.1);
        CHECK(difference(z.grad(), v.sum(0).expand({2, 9})) < close);
    }

    TEST_CASE("Conv, Linear: emulated bf16 rounds weights and results to 8 bits") {
        const c10::InferenceMode guard;
        const Placement emulated{.dtype = c10::kBFloat16, .emulated = true};
        const at::Tensor w = at::randn({4, 3, 3, 3}), v = at::randn({5, 9});
        const at::Tensor x = to_activation(at::randn({1, 3, 9, 9}), emulated);
        const at::Tensor y = Conv(w, {}, {}, emulated)(x);
        const auto rounded = [](const at::Tensor& t) { return t.to(at::kBFloat16).to(at::kFloat); };
        CHECK((y.scalar_type() == at::kBFloat16));
        const at::Tensor exact = at::conv2d(x.to(at::kFloat), rounded(w));
        CHECK(difference(y.to(at::kFloat), rounded(exact)) < 0.04);  // an ulp of values below 16
        const at::Tensor z = at::randn({2, 9}).to(at::kBFloat16);
        const at::Tensor u = Linear(v, {}, emulated)(z);
        CHECK(difference(u.to(at::kFloat), rounded(at::linear(z.to(at::kFloat), rounded(v)))) <
              0.04);
    }

    TEST_CASE("take_conv_norm: convolution and batch norm as one, the counter ignored") {
        const c10::InferenceMode guard;
        NamedTensors tensors{{"c.weight", at::randn({4, 3, 3, 3})},
                             {"n.weight", at::randn({4})},
                             {"n.bias", at::randn({4})},
                             {"n.running_mean", at::randn({4})},
                             {"n.running_var", at::rand({4}) + 0.01},
                             {"n.num_batches_tracked", at::ones({}, at::kLong)}};
        StateDict weights(tensors, "a test");
        const Conv conv = take_conv_norm(weights, "c", "n", {4, 3, 3, 3}, 0.1, {}, {});
        weights.finish();
        const at::Tensor x = to_activation(at::randn({1, 3, 9, 9}), {});
        const auto t = [&](const char* name) { return tensors.at(name); };
        // eps 0.1 beside variances down to 0.01: its place under the root shows
        const at::Tensor y =
            at::batch_norm(at::conv2d(x, t("c.weight")), t("n.weight"), t("n.bias"),
                           t("n.running_mean"), t("n.running_var"), false, 0.0, 0.1, false);
        CHECK(difference(conv(x), y) < 1e-4);
    }

    TEST_CASE("StateDict: every misfit of a checkpoint in one message") {
        StateDict weights({{"a", at::ones({2})},
                           {"b", at::ones({3})},
                           {"c", at::full({1}, std::numeric_limits<double>::infinity())},
                           {"left.over", at::ones({1})},
                           {"head.weight", at::ones({1})}},
                          "NET (file.pth)");
        CHECK(weights.take("a", {2}).sum().item<double>() == 2);
        CHECK(weights.take("b", {4}).sizes() == at::IntArrayRef{4});
        weights.take("c", {1});
        weights.take("d", {1});
        weights.ignore("head.");
        CHECK(weights.contains("a"));
        CHECK(weights.shape_of("b") == std::vector<std::int64_t>{3});
        CHECK(weights.shape_of("d").empty());
        const std::string sentence = sentence_of(Fault::input, [&] { weights.finish(); });
        for (const char* part : {"NET (file.pth)", "1 missing (d)", "1 surplus (left.over)",
                                 "b [3] instead of [4]", "NaN or infinite values (c)"}) {
            CHECK_MESSAGE(contains(sentence, part), part);
        }
        CHECK_FALSE(contains(sentence, "head"));
    }
}

}  // namespace
}  // namespace ultrasr
