// The twin of tests/golden/generated_weights.py gives its numbers; without that no golden means a
// thing.
#include "tests/metrics/generated_weights.h"

#include <ATen/ops/sum.h>

#include "tests/test.h"

namespace ultrasr {
namespace {

TEST_SUITE("golden") {
    TEST_CASE("generated weights: the first values of generated_weights.py, bit by bit") {
        struct Case {
            const char* name;
            std::vector<std::int64_t> shape;
            float first, second;
        };
        // Printed by generate(name, shape).ravel()[:2] as hexadecimal floats
        const std::vector<Case> cases{
            {"features.0.weight", {64, 3, 3, 3}, 0x1.f136cap-2F, 0x1.3febf4p-2F},
            {"features.0.bias", {64}, -0x1.52dc0cp-4F, -0x1.33df42p-8F},
            {"lin0.model.1.weight", {1, 64, 1, 1}, 0x1.556324p-3F, 0x1.a0fdc6p-4F},
            {"alpha", {1, 1475, 1, 1}, 0x1.c03bb2p-4F, 0x1.35b0d4p-10F},
            {"head.weight", {1, 384}, 0x1.fddf60p-5F, 0x1.6ce872p+0F},
            {"head.0.weight", {10, 384}, 0x1.589e04p-4F, 0x1.fa8006p-8F},
            {"visual.layer1.0.bn3.weight", {256}, 0x1.a95aaap-3F, 0x1.360f20p-3F},
            {"visual.bn1.running_var", {32}, 0x1.7e60fcp-1F, 0x1.228678p+0F},
            {"tablock1.0.c_q.weight", {784, 784}, 0x1.2e4460p-11F, -0x1.9dc0fep-11F},
            {"text_projection", {512, 1024}, -0x1.c14076p-8F, -0x1.1652c6p-10F},
            {"visual.attnpool.q_proj.weight", {2048, 2048}, -0x1.c98c0ep-6F, -0x1.43db58p-10F},
            {"ctx", {2, 16, 512}, -0x1.dfc3c0p-2F, 0x1.749498p-3F},
            {"input.even.ctx", {2, 77, 24}, 0x1.4df294p-1F, 0x1.4da2e8p-5F},
        };
        for (const Case& c : cases) {
            CAPTURE(c.name);
            const at::Tensor values = test::generated_tensor(c.name, c.shape).flatten();
            CHECK(values[0].item<float>() == c.first);
            CHECK(values[1].item<float>() == c.second);
        }
        // A whole tensor: the sum in double of float32 values, whatever the order
        CHECK(test::generated_tensor("alpha", {1, 1475, 1, 1}).sum(at::kDouble).item<double>() ==
              doctest::Approx(120.56213958484295).epsilon(1e-12));
    }
}

}  // namespace
}  // namespace ultrasr
