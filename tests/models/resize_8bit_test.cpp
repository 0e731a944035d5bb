#include "models/resize_8bit.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "data/base/error.h"
#include "data/tensor.h"
#include "tests/models/formula_picture.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

std::vector<std::uint8_t> levels_of(const Image& image) {
    std::vector<std::uint8_t> levels;
    int between = 0;
    for (const float v : test::values_of(image)) {
        const long k = std::lround(v * 255.0F);
        between += v != static_cast<float>(k) / 255.0F;
        levels.push_back(static_cast<std::uint8_t>(k));
    }
    CHECK(between == 0);
    return levels;
}

std::string fnv1a(const std::vector<std::uint8_t>& bytes) {
    std::uint64_t key = 0xCBF29CE484222325;
    for (const std::uint8_t byte : bytes) key = (key ^ byte) * 0x100000001B3;
    return fmt::format("{:016x}", key);
}

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("resize_8bit equals Pillow's RGB pictures bit by bit, up, down, narrow and large") {
        const Json golden = test::golden_json("models_resize_8bit.json");
        CHECK(golden.at("pillow").size() == 34);
        for (const Json& c : golden.at("pillow")) {
            const auto kernel = c.at("kernel") == "bicubic" ? Kernel::bicubic : Kernel::lanczos3;
            const PixelSize target = test::size_from(c.at("to"));
            CAPTURE(c.at("kernel").get<std::string>());
            CAPTURE(c.at("from").dump());
            CAPTURE(c.at("to").dump());
            const Image result =
                resize_8bit(test::formula_picture(c.at("picture"), test::size_from(c.at("from"))),
                            target, kernel);
            REQUIRE(result.size() == target);
            const auto levels = levels_of(result);
            if (c.contains("levels")) CHECK((levels == test::bytes_from_hex(c.at("levels"))));
            CHECK(fnv1a(levels) == c.at("fnv1a").get<std::string>());
        }
    }

    TEST_CASE("resize_torch equals torch's two bicubics, bit by bit where the golden was made") {
        const Json golden = test::golden_json("models_resize_8bit.json");
        // The operators' AVX2 and AVX-512 builds agree bit by bit and fuse multiply and add; others
        // do not, which moved these values by up to 1.4e-6
        const std::string capability = at::get_cpu_capability();
        const float tolerance = capability == "AVX2" || capability == "AVX512" ? 0.0F : 3e-6F;
        CHECK(golden.at("torch").size() == 14);
        for (const Json& c : golden.at("torch")) {
            const PixelSize target = test::size_from(c.at("to"));
            const auto kind =
                c.at("antialias").get<bool>() ? TorchBicubic::antialias : TorchBicubic::plain;
            CAPTURE(c.dump().substr(0, 120));
            const ImageBatch input = batch_from_image(
                test::formula_picture(c.at("picture"), test::size_from(c.at("from"))));
            const at::Tensor hwc =
                resize_torch(input.nchw, target, kind)[0].permute({1, 2, 0}).contiguous();
            REQUIRE(hwc.numel() == std::int64_t{3} * target.width * target.height);
            const float* values = hwc.const_data_ptr<float>();
            const auto expected = test::floats_from_hex(c.at("float32"));
            const auto step = c.at("step").get<std::size_t>();
            CHECK((expected.size() - 1) * step < static_cast<std::size_t>(hwc.numel()));
            CHECK(expected.size() * step >= static_cast<std::size_t>(hwc.numel()));
            float worst = 0.0F;
            for (std::size_t i = 0; i < expected.size(); ++i) {
                worst = std::max(worst, std::abs(values[i * step] - expected[i]));
            }
            CHECK(worst <= tolerance);
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("resize_8bit: the size it has already gives the same levels; others are rounded") {
        const Image picture = test::formula_picture("waves2", {19, 7});
        CHECK(test::equal_bits(resize_8bit(picture, {19, 7}, Kernel::bicubic), picture));
        Image between(PixelSize{3, 1});
        const std::array<float, 9> values{100.4F, 100.6F, 101.5F, -3.0F, 300.0F, NAN, 0, 1, 2};
        const std::array<int, 9> levels{100, 101, 102, 0, 255, 0, 0, 1, 2};
        for (std::size_t i = 0; i < 9; ++i) between.row_(0)[i] = values[i] / 255.0F;
        const Image rounded = resize_8bit(between, {3, 1}, Kernel::lanczos3);
        for (std::size_t i = 0; i < 9; ++i) {
            CHECK(rounded.row(0)[i] == static_cast<float>(levels[i]) / 255.0F);
        }
    }

    TEST_CASE("resize_8bit: nothing in, or nothing wanted, is our fault") {
        const Image picture = test::formula_picture("waves0", {4, 3});
        for (const PixelSize none : {PixelSize{0, 5}, PixelSize{5, 0}}) {
            CHECK_THROWS_AS(resize_8bit(picture, none, Kernel::bicubic), Error);
        }
        CHECK_THROWS_AS(resize_8bit(Image(), {5, 5}, Kernel::bicubic), Error);
    }

    TEST_CASE("resize_torch: gradients flow, a whole weight of one goes to every pixel's sources") {
        for (const TorchBicubic kind : {TorchBicubic::plain, TorchBicubic::antialias}) {
            at::Tensor x = at::ones({1, 3, 5, 4}).requires_grad_(true);
            const at::Tensor y = resize_torch(x, {9, 11}, kind);
            CHECK((y.sizes() == at::IntArrayRef({1, 3, 11, 9})));
            y.sum().backward();
            CHECK(x.grad().sum().item<float>() == doctest::Approx(3 * 11 * 9).epsilon(1e-5));
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE("resize_8bit: one thread and three give the same bits") {
        const Image picture = test::formula_picture("waves0", {101, 83});
        const int threads = at::get_num_threads();
        at::set_num_threads(1);
        const Image one = resize_8bit(picture, {313, 57}, Kernel::lanczos3);
        at::set_num_threads(3);
        const Image three = resize_8bit(picture, {313, 57}, Kernel::lanczos3);
        at::set_num_threads(threads);
        CHECK(test::equal_bits(one, three));
    }
}
