// Attention head by head against LibTorch's fused operator.
#include "data/tensor/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>
#include <c10/core/InferenceMode.h>

#include <cmath>

#include "tests/test.h"

namespace ultrasr {
namespace {

double difference(const at::Tensor& a, const at::Tensor& b) {
    REQUIRE(a.sizes() == b.sizes());
    return (a.to(at::kFloat) - b.to(at::kFloat)).abs().max().item<double>();
}

TEST_SUITE("unit") {
    TEST_CASE("attention: the definition, for heads, pictures, and more keys than queries") {
        const c10::InferenceMode guard;
        const at::Tensor q = at::randn({2, 7, 3, 5}), k = at::randn({2, 11, 3, 5}),
                         v = at::randn({2, 11, 3, 5});
        const auto by_head = [](const at::Tensor& t) { return t.transpose(1, 2); };
        const at::Tensor scores =
            at::matmul(by_head(q), by_head(k).transpose(2, 3)) / std::sqrt(5.0);
        const at::Tensor expected =
            at::matmul(at::softmax(scores, -1), by_head(v)).transpose(1, 2).flatten(2);
        CHECK(difference(attention(q, k, v, {}), expected) < 2e-6);
        CHECK(difference(fused_attention(q, k, v), expected) < 2e-6);
        CHECK(difference(attention_by_head(q, k, v, {}), expected) < 2e-6);
    }

    TEST_CASE("attention: many queries in blocks, from one joint q k v tensor") {
        const c10::InferenceMode guard;
        // 4 MiB of scores hold 349 queries of 3003 keys: nine blocks, the last one smaller
        const at::Tensor qkv = at::randn({1, 3003, 3, 2, 16});
        const auto part = [&](std::int64_t i) { return qkv.select(2, i); };
        const at::Tensor fused = fused_attention(part(0), part(1), part(2));
        CHECK(difference(attention_by_head(part(0), part(1), part(2), {}), fused) < 5e-6);
        CHECK(difference(attention(part(0), part(1), part(2), {}), fused) < 5e-6);
    }

    TEST_CASE("attention: bf16 stays near float32") {
        const c10::InferenceMode guard;
        const Placement bf16 = place(ComputeOptions{.precision = Precision::bf16});
        const at::Tensor q = at::randn({1, 600, 1, 64}), k = at::randn({1, 600, 1, 64}),
                         v = at::randn({1, 600, 1, 64});
        const at::Tensor exact = fused_attention(q, k, v);
        const at::Tensor half =
            attention(q.to(at::kBFloat16), k.to(at::kBFloat16), v.to(at::kBFloat16), bf16);
        const double rms = (half.to(at::kFloat) - exact).pow(2).mean().sqrt().item<double>() /
                           exact.pow(2).mean().sqrt().item<double>();
        CHECK(rms < 0.01);  // inputs rounded to 8 bits
        CHECK(rms > 1e-5);
    }

    TEST_CASE("attention: gradients flow") {
        at::Tensor q = at::randn({1, 600, 1, 4});
        q.requires_grad_(true);
        CHECK(
            attention(q, at::randn({1, 600, 1, 4}), at::randn({1, 600, 1, 4}), {}).requires_grad());
    }
}

}  // namespace
}  // namespace ultrasr
