// The kernels of group normalisation: their blocks run on the CPU, and the same on a GPU.
#include "models/layers/norm_silu_cuda.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/silu.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <vector>

#include "models/layers/norm_grid.h"
#include "models/layers/norm_silu.h"
#include "tests/metrics/generated_weights.h"
#include "tests/models/devices.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

struct Map {
    std::int64_t n, channels, height, width, groups;
};

// Whole packs of 4 and 8 channels, packs across two groups, odd channels; fewer and more pixels
// than a block takes, one of them, runs that end early; more channels than a block has threads
const Map maps[] = {{1, 32, 8, 8, 32},  {2, 320, 9, 7, 32}, {1, 20, 1, 1, 4},    {3, 15, 13, 11, 5},
                    {1, 48, 40, 33, 8}, {1, 24, 64, 70, 4}, {1, 2560, 3, 5, 32}, {2, 300, 5, 3, 4},
                    {1, 7, 5, 200, 7},  {1, 1288, 2, 9, 28}};
const c10::ScalarType types[] = {c10::kFloat, c10::kHalf, c10::kBFloat16};

/// Every channel has a mean and a spread of its own, the mean many times the spread.
at::Tensor map_of(const Map& m, c10::ScalarType type, double mean) {
    const at::Tensor x = test::generated_tensor("norm.x", {m.n, m.channels, m.height, m.width});
    const at::Tensor offset = test::generated_tensor("norm.offset", {1, m.channels, 1, 1});
    return (x * 0.7 + offset * 0.4 + mean).to(type).contiguous(at::MemoryFormat::ChannelsLast);
}
at::Tensor weight_of(const Map& m) { return test::generated_tensor("norm.weight", {m.channels}); }
at::Tensor bias_of(const Map& m) { return test::generated_tensor("norm.bias", {m.channels}); }

constexpr double eps = 1e-5;

/// Everything in double.
at::Tensor expected(const at::Tensor& x, const Map& m, bool silu) {
    const at::Tensor y =
        at::group_norm(x.to(at::kDouble).contiguous(), m.groups, weight_of(m).to(at::kDouble),
                       bias_of(m).to(at::kDouble), eps);
    return silu ? at::silu(y) : y;
}

/// The largest difference, in units of what rounding a number of that size to `type` costs.
double worst_rounding(const at::Tensor& y, const at::Tensor& reference) {
    const double unit = y.scalar_type() == c10::kHalf       ? 0x1p-11
                        : y.scalar_type() == c10::kBFloat16 ? 0x1p-8
                                                            : 0x1p-24;
    const at::Tensor allowed = (at::abs(reference) + 1.0) * unit;
    return (at::abs(y.to(at::kDouble) - reference) / allowed).max().item<double>();
}

at::Tensor on(const c10::Device& device, const at::Tensor& x, const Map& m, bool silu,
              c10::ScalarType out) {
    return run_norm_kernel(x.to(device), weight_of(m).to(device), bias_of(m).to(device),
                           {.groups = m.groups, .eps = eps, .silu = silu, .out = out})
        .to(c10::kCPU);
}

}  // namespace

TEST_SUITE("property") {
    TEST_CASE("norm kernel: any size, groups and type as in double, and no GPU differs by a bit") {
        const c10::InferenceMode guard;
        for (const c10::Device& device : test::devices()) {
            for (const Map& m : maps) {
                for (const c10::ScalarType type : types) {
                    for (const bool silu : {false, true}) {
                        for (const c10::ScalarType out : {type, c10::kFloat}) {
                            CAPTURE(device.str());
                            CAPTURE(m.channels);
                            CAPTURE(m.width);
                            CAPTURE(c10::toString(type));
                            CAPTURE(c10::toString(out));
                            CAPTURE(silu);
                            const at::Tensor x = map_of(m, type, 0.3);
                            const at::Tensor y = on(device, x, m, silu, out);
                            CHECK((y.scalar_type() == out));
                            CHECK(y.is_contiguous(at::MemoryFormat::ChannelsLast));
                            if (device.is_cpu()) {
                                // As LibTorch in float32 (1.4 to 87), and one rounding of a narrow
                                // result
                                const double most = out == c10::kFloat ? 128.0 : 1.01;
                                CHECK(worst_rounding(y, expected(x, m, silu)) < most);
                            } else {
                                CHECK(at::equal(y, on(c10::kCPU, x, m, silu, out)));
                            }
                        }
                    }
                }
            }
        }
    }

    TEST_CASE(
        "norm kernel: a mean a thousand times the spread costs no accuracy of the statistics") {
        const c10::InferenceMode guard;
        const Map m{1, 48, 64, 61, 8};
        const at::Tensor x = map_of(m, c10::kFloat, 1000.0);
        // What is left is the rounding of gain x + shift, both thousands of times the result
        // (3.1e4; LibTorch 3.4e4). Sums of squares would lose the spread itself, 1e7
        CHECK(worst_rounding(on(c10::kCPU, x, m, false, c10::kFloat), expected(x, m, false)) < 1e5);
        const at::Tensor constant = at::full_like(x, 1000.0);
        CHECK(
            at::abs(on(c10::kCPU, constant, m, false, c10::kFloat) - bias_of(m).view({1, -1, 1, 1}))
                .max()
                .item<double>() < 0.05);
    }

    TEST_CASE("norm kernel: GroupNorm2d gives the same on every device, in every type") {
        const c10::InferenceMode guard;
        const Map m{2, 64, 17, 9, 8};
        for (const c10::Device& device : test::devices()) {
            CAPTURE(device.str());
            for (const c10::ScalarType type : types) {
                CAPTURE(c10::toString(type));
                StateDict weights = test::generated_weights();
                const GroupNorm2d norm(weights, "norm", m.channels, m.groups, eps,
                                       {.device = device, .dtype = type});
                StateDict again = test::generated_weights();
                const at::Tensor w = again.take("norm.weight", {m.channels});
                const at::Tensor b = again.take("norm.bias", {m.channels});
                const at::Tensor x = map_of(m, type, 0.0);
                const at::Tensor normed = at::group_norm(x.to(at::kDouble).contiguous(), m.groups,
                                                         w.to(at::kDouble), b.to(at::kDouble), eps);
                // The plain operators round weights and the norm too
                const double most = type == c10::kFloat ? 128.0 : 12.0;
                CHECK(worst_rounding(norm(x.to(device)).to(c10::kCPU), normed) < most);
                CHECK(worst_rounding(norm.silu(x.to(device)).to(c10::kCPU), at::silu(normed)) <
                      most);
                const at::Tensor exact = norm.silu(x.to(device), c10::kFloat);
                CHECK((exact.scalar_type() == c10::kFloat));
                CHECK(worst_rounding(exact.to(c10::kCPU), at::silu(normed)) < 1e5);
            }
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("norm kernel: the cut covers every pixel once") {
        for (const Map& m : maps) {
            for (const bool aligned : {false, true}) {
                CAPTURE(m.channels);
                NormJob job{.in_numbers = NormNumbers::float16,
                            .pictures = static_cast<std::uint32_t>(m.n),
                            .pixels = static_cast<std::uint32_t>(m.height * m.width),
                            .channels = static_cast<std::uint32_t>(m.channels)};
                plan_norm(job, aligned);
                std::vector<int> taken(job.pixels * job.channels);
                for (std::uint32_t tile = 0; tile < job.tiles; ++tile) {
                    for (std::uint32_t block = 0; block < job.blocks; ++block) {
                        for (std::uint32_t thread = 0; thread < norm_threads; ++thread) {
                            const NormPlace place = place_of(job, {block, tile, 0}, thread);
                            if (!place.works) continue;
                            REQUIRE(place.run < job.runs());
                            for (std::uint32_t i = 0; i < place.count; ++i) {
                                for (std::uint32_t v = 0; v < job.vector; ++v) {
                                    ++taken.at(offset_of(job, 0, place.first + i * job.lanes,
                                                         place.channel + v));
                                }
                            }
                        }
                    }
                }
                CHECK(std::all_of(taken.begin(), taken.end(), [](int n) { return n == 1; }));
            }
        }
    }

    TEST_CASE("norm kernel: float16 and bf16 are read exactly and rounded to nearest even") {
        for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
            const Half half{static_cast<std::uint16_t>(bits)};
            const BFloat bfloat{static_cast<std::uint16_t>(bits)};
            Half half_again{};
            BFloat bfloat_again{};
            store(load(half), half_again);
            store(load(bfloat), bfloat_again);
            if (load(half) == load(half)) REQUIRE(half_again.bits == half.bits);
            if (load(bfloat) == load(bfloat)) REQUIRE(bfloat_again.bits == bfloat.bits);
        }
        Half to{};
        store(1.0F + 0x1p-11F, to);  // a tie: even is below
        CHECK(to.bits == 0x3C00);
        store(1.0F + 3 * 0x1p-11F, to);  // a tie: even is above
        CHECK(to.bits == 0x3C02);
    }
}
