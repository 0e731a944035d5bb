#include "models/layers/norm_silu_gradient.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/sin.h>
#include <c10/core/GradMode.h>

#include <array>
#include <vector>

#include "tests/models/one_step_goldens.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

at::Tensor waves(at::IntArrayRef shape, double step, double offset) {
    std::int64_t n = 1;
    for (const std::int64_t side : shape) n *= side;
    return (at::sin(at::arange(n, at::TensorOptions().dtype(at::kDouble)) * step) + offset)
        .to(at::kFloat)
        .view(shape);
}

/// Result and the gradients of x, weight and bias.
struct Outcome {
    at::Tensor y, x, weight, bias;
};

struct Case {
    std::vector<std::int64_t> shape;
    std::int64_t groups;
    bool silu;
};

template <class Run>
Outcome outcome(const Case& c, c10::ScalarType type, const Run& run) {
    const c10::AutoGradMode on(true);
    const std::int64_t channels = c.shape[1];
    const auto leaf = [](const at::Tensor& t) { return t.detach().clone().requires_grad_(true); };
    const at::Tensor x =
        waves(c.shape, 0.37, 0.4).to(type).contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor in = x.detach().clone(at::MemoryFormat::ChannelsLast).requires_grad_(true);
    const at::Tensor weight = leaf(waves({channels}, 1.3, 1.1));
    const at::Tensor bias = leaf(waves({channels}, 2.1, 0.1));
    const at::Tensor y = run(in, weight, bias);
    // Partly along x, so that no sum is all cancellation
    const at::Tensor towards = waves(c.shape, 0.91, 0.05) + waves(c.shape, 0.37, 0.0);
    (y.to(at::kFloat) * towards).sum().backward();
    return {y.detach(), in.grad(), weight.grad(), bias.grad()};
}

Outcome ours(const Case& c, c10::ScalarType type) {
    return outcome(c, type, [&](const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) {
        return norm_silu_with_gradient(x, w, b, {.groups = c.groups, .eps = 1e-5, .silu = c.silu});
    });
}

/// The same in LibTorch's operators and float64.
Outcome expected(const Case& c, c10::ScalarType type) {
    return outcome(c, type, [&](const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) {
        const at::Tensor y =
            at::group_norm(x.to(at::kDouble), c.groups, w.to(at::kDouble), b.to(at::kDouble), 1e-5);
        return c.silu ? at::silu(y) : y;
    });
}

double relative(const at::Tensor& a, const at::Tensor& b) {
    const double size = b.abs().max().item<double>();
    return test::largest_difference(a.to(at::kDouble), b.to(at::kDouble)) / size;
}

const std::array<Case, 5> cases{{{{2, 8, 12, 10}, 4, true},
                                 {{1, 48, 33, 41}, 8, true},  // two blocks, chunks cut short
                                 {{3, 16, 5, 7}, 16, false},
                                 {{2, 6, 1, 3}, 1, true},
                                 {{1, 8, 40, 64}, 8, false}}};

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("norm_silu_with_gradient: values and gradients are LibTorch's of float64") {
        for (const Case& c : cases) {
            CAPTURE(c.groups);
            const Outcome a = ours(c, at::kFloat), b = expected(c, at::kFloat);
            // Sums of a few thousand float32 products
            CHECK(relative(a.y, b.y) < 2e-6);
            CHECK(relative(a.x, b.x) < 1e-5);
            CHECK(relative(a.weight, b.weight) < 5e-6);
            CHECK(relative(a.bias, b.bias) < 5e-6);
            CHECK(a.x.is_contiguous(at::MemoryFormat::ChannelsLast));
        }
    }

    TEST_CASE("norm_silu_with_gradient: bf16 maps differ by their rounding alone") {
        for (const Case& c : cases) {
            CAPTURE(c.groups);
            const Outcome a = ours(c, at::kBFloat16), b = expected(c, at::kBFloat16);
            CHECK((a.y.scalar_type() == at::kBFloat16));
            CHECK(relative(a.y, b.y) < 4e-3);  // half a step of 8 bits
            CHECK(relative(a.x, b.x) < 2e-2);  // the gradient comes rounded, and part of it cancels
            CHECK(relative(a.weight, b.weight) < 1e-2);
            CHECK(relative(a.bias, b.bias) < 1e-2);
        }
    }

    TEST_CASE("norm_silu_with_gradient: the same bits for any number of threads") {
        const int before = at::get_num_threads();
        at::set_num_threads(1);
        const Outcome one = ours(cases[1], at::kFloat);
        at::set_num_threads(3);
        const Outcome three = ours(cases[1], at::kFloat);
        at::set_num_threads(before);
        CHECK(one.y.equal(three.y));
        CHECK(one.x.equal(three.x));
        CHECK(one.weight.equal(three.weight));
        CHECK(one.bias.equal(three.bias));
    }
}
