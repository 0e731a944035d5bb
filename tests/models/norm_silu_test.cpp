#include "models/layers/norm_silu.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <c10/core/InferenceMode.h>

#include <cmath>

#include "models/layers/silu.h"
#include "tests/metrics/generated_weights.h"
#include "tests/models/one_step_goldens.h"
#include "tests/test.h"

using namespace ultrasr;
using test::largest_difference;

namespace {

GroupNorm2d make_norm(std::int64_t channels, std::int64_t groups, const Placement& placement = {}) {
    StateDict weights = test::generated_weights();
    return GroupNorm2d(weights, "norm", channels, groups, 1e-5, placement);
}

at::Tensor map(at::IntArrayRef shape, double spread = 1.0, double offset = 0.0) {
    return to_activation(at::randn(shape) * spread + offset, {});
}

at::Tensor reference(const at::Tensor& x, std::int64_t groups) {
    const at::Tensor w = test::generated_tensor("norm.weight", {x.size(1)});
    const at::Tensor b = test::generated_tensor("norm.bias", {x.size(1)});
    return at::group_norm(x.to(at::kDouble), groups, w.to(at::kDouble), b.to(at::kDouble), 1e-5);
}

struct Strips {
    explicit Strips(std::int64_t bytes) { set_strip_bytes(bytes); }
    ~Strips() { set_strip_bytes(before); }
    std::int64_t before = strip_bytes();
};

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("exp_float: within 2e-7 of the exponential, and finite far outside") {
        double worst = 0.0;
        for (int i = -87000; i <= 88000; i += 7) {
            const float x = static_cast<float>(i) / 1000.0F;
            const double exact = std::exp(static_cast<double>(x));
            worst = std::max(worst, std::abs(static_cast<double>(exp_float(x)) - exact) / exact);
        }
        CHECK(worst < 2e-7);
        CHECK(worst > 0.0);
        CHECK(exp_float(-1e30F) == exp_float(-87.0F));
        CHECK(exp_float(1e30F) == exp_float(88.0F));
        CHECK(std::isfinite(exp_float(1e30F)));
    }

    TEST_CASE("silu: LibTorch's, at every size of number") {
        for (const float x :
             {-100.0F, -20.0F, -3.7F, -1e-3F, 0.0F, 1e-3F, 0.5F, 6.0F, 90.0F, 1e6F}) {
            const double exact = static_cast<double>(x) / (1.0 + std::exp(-static_cast<double>(x)));
            CHECK(std::abs(static_cast<double>(silu(x)) - exact) <=
                  3e-7 * std::max(1e-30, std::abs(exact)) + 1e-35);
        }
    }

    TEST_CASE("GroupNorm2d: exact statistics for odd shapes, batches and far-off means") {
        const c10::InferenceMode guard;
        for (const auto& [channels, groups, height, width] :
             {std::array<std::int64_t, 4>{24, 4, 7, 5},
              {64, 32, 1, 2},
              {96, 32, 33, 41},
              {320, 32, 3, 2},
              {48, 1, 40, 30}}) {
            CAPTURE(channels);
            const GroupNorm2d norm = make_norm(channels, groups);
            const at::Tensor x = map({3, channels, height, width}, 0.7, 5.0);
            const at::Tensor exact = reference(x, groups);
            CHECK(largest_difference(norm(x), exact) < 2e-5);  // float32 at 5 +- 0.7
            CHECK(largest_difference(norm.silu(x), at::silu(exact)) < 2e-5);
            // LibTorch's own loses up to 3e-4 to the mean
            CHECK(largest_difference(norm.plain(x), exact) < 1e-3);
            CHECK(largest_difference(norm.plain_silu(x), at::silu(exact)) < 1e-3);
        }
        // A mean a thousand times the spread: sums of squares would have lost everything
        const at::Tensor far = map({1, 24, 50, 60}, 1.0, 1000.0);
        CHECK(largest_difference(make_norm(24, 4)(far), reference(far, 4)) < 1e-3);
    }

    TEST_CASE("GroupNorm2d: bf16 maps keep float32 statistics") {
        const c10::InferenceMode guard;
        const Placement bf16 = place(ComputeOptions{.precision = Precision::bf16});
        const at::Tensor x = to_activation(at::randn({1, 64, 60, 70}) + 3.0, bf16);
        const at::Tensor exact = reference(x.to(at::kFloat), 8);
        const at::Tensor ours = make_norm(64, 8, bf16)(x);
        CHECK((ours.scalar_type() == at::kBFloat16));
        // What is left is the result's own rounding to eight bits, half of 2^-7 of up to 8
        CHECK(largest_difference(ours, exact) < 0.017);
        CHECK((ours.to(at::kDouble) - exact).abs().mean().item<double>() < 2.5e-3);
    }

    TEST_CASE("GroupNorm2d: the same bits for any number of threads") {
        const c10::InferenceMode guard;
        const at::Tensor x = map({1, 32, 90, 70});
        const auto run = [&](int threads) {
            place(ComputeOptions{.threads = threads});
            return make_norm(32, 8).silu(x);
        };
        CHECK(largest_difference(run(1), run(2)) == 0.0);
        CHECK(largest_difference(run(1), run(5)) == 0.0);
        place(ComputeOptions{});
    }

    TEST_CASE("StripConv: strips of any height give the whole map's result") {
        const c10::InferenceMode guard;
        StateDict weights = test::generated_weights();
        const Placement fast{.inference_only = true};
        const Builder builder{weights, fast};
        const StripConv layer(make_norm(16, 4),
                              AdaptedConv(builder, "conv", 24, 16, 3, {.padding = {1, 1}}),
                              at::kFloat);
        const at::Tensor x = map({2, 16, 37, 11}, 2.0, 1.0);
        const at::Tensor w = test::generated_tensor("conv.weight", {24, 16, 3, 3});
        const at::Tensor b = test::generated_tensor("conv.bias", {24});
        const at::Tensor exact = at::conv2d(at::silu(reference(x, 4)).to(at::kFloat), w, b, 1, 1);
        const at::Tensor other = map({2, 24, 37, 11});
        const auto row = 16 * 11 * 4;
        for (const int rows : {0, 1, 4, 5, 9, 18, 37, 100}) {  // 0: whole; fewer than 4 become 4
            CAPTURE(rows);
            const Strips strips(rows * row);
            CHECK(largest_difference(layer(x), exact) < 1e-5);
            CHECK(largest_difference(layer.add_(x, other.clone()), exact + other) < 1e-5);
            if (rows == 0) continue;
            const at::Tensor one = x.narrow(0, 0, 1);
            CHECK(largest_difference(layer.over_rows(rows_of(one)), exact.narrow(0, 0, 1)) < 1e-5);
        }
    }

    TEST_CASE("StripConv: written into its own input") {
        const c10::InferenceMode guard;
        StateDict weights = test::generated_weights();
        const Placement fast{.inference_only = true};
        const StripConv layer(make_norm(16, 4),
                              AdaptedConv({weights, fast}, "conv", 16, 16, 3, {.padding = {1, 1}}),
                              at::kFloat);
        const at::Tensor x = map({1, 16, 37, 11}, 2.0, 1.0), other = map({1, 16, 37, 11});
        const at::Tensor exact = layer(x) + other;
        for (const int rows : {4, 5, 9, 36, 37, 100}) {
            CAPTURE(rows);
            const Strips strips(rows * 16 * 11 * 4);
            at::Tensor given = x.clone();
            const at::Tensor result =
                layer.in_place_add_(given, [&](std::int64_t first, std::int64_t count) {
                    return other.narrow(2, first, count);
                });
            CHECK(largest_difference(result, exact) < 1e-5);
            CHECK(result.is_same(given));
        }
    }
}
