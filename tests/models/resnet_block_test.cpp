#include "models/layers/resnet_block.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <c10/core/InferenceMode.h>

#include "tests/metrics/generated_weights.h"
#include "tests/models/one_step_goldens.h"
#include "tests/test.h"

using namespace ultrasr;
using test::largest_difference;

namespace {

const Placement fast{.inference_only = true};

at::Tensor map(at::IntArrayRef shape) { return to_activation(at::randn(shape), {}); }

struct Strips {
    explicit Strips(std::int64_t bytes) { set_strip_bytes(bytes); }
    ~Strips() { set_strip_bytes(before); }
    std::int64_t before = strip_bytes();
};

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("Doubling: four small convolutions are nearest and one large") {
        const c10::InferenceMode guard;
        StateDict weights = test::generated_weights();
        const Doubling folded({weights, fast}, "up", 12);
        const Doubling plain({weights, {}}, "up", 12);
        const at::Tensor w = test::generated_tensor("up.conv.weight", {12, 12, 3, 3});
        const at::Tensor b = test::generated_tensor("up.conv.bias", {12});
        for (const auto& [n, h, width] :
             {std::array<std::int64_t, 3>{2, 9, 7}, {1, 1, 1}, {1, 23, 2}, {1, 2, 5}}) {
            const at::Tensor x = map({n, 12, h, width});
            const at::Tensor exact =
                at::conv2d(at::upsample_nearest2d(x, {2 * h, 2 * width}), w, b, 1, 1);
            for (const int bytes : {0, 1, 6000, 1 << 24}) {
                const Strips strips(bytes);
                CHECK(largest_difference(folded(x), exact) < 5e-6);
                CHECK(largest_difference(plain(x), exact) < 5e-6);
            }
        }
    }

    TEST_CASE("Doubling: rows on demand, from any place") {
        const c10::InferenceMode guard;
        StateDict weights = test::generated_weights();
        const Doubling doubling({weights, fast}, "up", 12);
        const at::Tensor x = map({1, 12, 9, 7});
        const at::Tensor whole = doubling(x);
        CHECK(!doubling.rows(x));  // small enough to exist
        const Strips strips(1);
        const auto rows = doubling.rows(x);
        REQUIRE(rows);
        CHECK(rows->height == 18);
        CHECK(rows->width == 14);
        for (std::int64_t first = 0; first < 18; ++first) {
            for (std::int64_t count = 1; first + count <= 18; count += 3) {
                CHECK(largest_difference(rows->rows(first, count), whole.narrow(2, first, count)) <
                      1e-5);
            }
        }
    }

    TEST_CASE("ResnetBlock: a map in rows gives what the whole map gives") {
        const c10::InferenceMode guard;
        StateDict weights = test::generated_weights();
        for (const std::int64_t out : {12, 20}) {
            const ResnetBlock block({weights, fast}, "block",
                                    {.in = 12, .out = out, .groups = 4, .eps = 1e-6});
            const at::Tensor x = map({1, 12, 18, 7});
            const at::Tensor whole = block(x.clone());
            const Strips strips(1);
            CHECK(largest_difference(block.over_rows(rows_of(x)), whole) < 1e-5);
            CHECK(largest_difference(block(x.clone()), whole) < 1e-5);
        }
    }

    TEST_CASE("ResnetBlock: a constant time folds into a bias") {
        const c10::InferenceMode guard;
        StateDict weights = test::generated_weights();
        const ResnetShape shape{.in = 12, .out = 20, .groups = 4, .eps = 1e-5, .time_channels = 16};
        const ResnetBlock block({weights, fast}, "block", shape);
        ResnetBlock folded({weights, fast}, "block", shape);
        const at::Tensor x = map({2, 12, 9, 7}), time = at::randn({1, 16});
        folded.fix_time(time);
        const at::Tensor with_time = block(x.clone(), time);
        CHECK(largest_difference(folded(x.clone()), with_time) < 1e-5);  // 7.3
        CHECK(largest_difference(block(x.clone(), at::randn({1, 16})), with_time) > 1e-2);
    }

    TEST_CASE("Downsample: the VAE's pads below and at the right, the UNet's all around") {
        const c10::InferenceMode guard;
        StateDict weights = test::generated_weights();
        const at::Tensor w = test::generated_tensor("down.conv.weight", {12, 12, 3, 3});
        const at::Tensor b = test::generated_tensor("down.conv.bias", {12});
        const Downsample vae({weights, fast}, "down", 12, Downsample::Padding::bottom_right);
        const Downsample unet({weights, fast}, "down", 12, Downsample::Padding::symmetric);
        for (const std::int64_t height : {2, 20, 38, 42}) {
            const at::Tensor x = map({2, 12, height, 8});
            const at::Tensor exact = at::conv2d(at::constant_pad_nd(x, {0, 1, 0, 1}), w, b, {2, 2},
                                                at::IntArrayRef{0, 0});
            for (const int bytes : {0, 1, 5000}) {
                const Strips strips(bytes);
                CHECK(largest_difference(vae(x), exact) < 5e-6);
            }
            CHECK(largest_difference(unet(x), at::conv2d(x, w, b, {2, 2}, at::IntArrayRef{1, 1})) <
                  5e-6);
        }
    }
}
