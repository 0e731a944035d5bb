#include "models/color_fix.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/base/error.h"
#include "tests/models/formula_picture.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

Image flat(PixelSize size, float value) {
    Image image(size);
    for (int y = 0; y < size.height; ++y) {
        std::fill_n(image.row_(y), 3 * size.width, value);
    }
    return image;
}

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("color_fix equals the published formulas, on pictures smaller than the blurs too") {
        const Json golden = test::golden_json("models_color_fix.json");
        CHECK(golden.at("cases").size() == 17);
        for (const Json& c : golden.at("cases")) {
            const bool is_adain = c.at("how") == "adain";
            CAPTURE(c.dump().substr(0, 120));
            const Image sr = test::formula_picture(c.at("sr"), test::size_from(c.at("size")));
            const Image reference =
                test::formula_picture(c.at("reference"), test::size_from(c.at("reference_size")));
            const Image result =
                color_fix(sr, reference, is_adain ? ColorFix::adain : ColorFix::wavelet);
            REQUIRE(result.size() == sr.size());
            const auto values = test::values_of(result);
            const auto expected = test::floats_from_hex(c.at("float32"));
            const auto step = c.at("step").get<std::size_t>();
            REQUIRE(expected.size() * step >= values.size());
            float worst = 0.0F;
            for (std::size_t i = 0; i < expected.size(); ++i) {
                worst = std::max(worst, std::abs(values[i * step] - expected[i]));
            }
            // float32 on both sides. AdaIN multiplies the rounding of the reference's mean by up to
            // sigma_ref / sqrt(1e-5), about 100 where a flat picture is given a lively one's
            // colours
            const bool stretched = is_adain && c.at("sr") == "flat";
            CHECK(worst <= (stretched ? 2e-5F : 1e-6F));
        }
    }

    TEST_CASE("truncated_8bit writes the levels that torchvision writes") {
        const Json golden = test::golden_json("models_resize_8bit.json");
        const auto expected = test::bytes_from_hex(golden.at("truncated").at(0).at("levels"));
        std::vector<float> values;
        for (int k = 0; k < 256; ++k) values.push_back(static_cast<float>(k) / 255.0F);
        for (int k = 0; k < 256; ++k) values.push_back(std::nextafter(values[k], 0.0F));
        for (int k = 0; k < 256; ++k) values.push_back(std::nextafter(values[k], 1.0F));
        for (int i = 0; i < 4100; ++i) values.push_back(static_cast<float>(i) / 4099.0F);
        REQUIRE(values.size() == expected.size());
        Image image(PixelSize{static_cast<int>(values.size() + 2) / 3, 1});
        std::copy(values.begin(), values.end(), image.row_(0));
        const Image truncated = truncated_8bit(image);
        int off = 0;
        for (std::size_t i = 0; i < values.size(); ++i) {
            off += truncated.row(0)[i] != static_cast<float>(expected[i]) / 255.0F;
        }
        CHECK(off == 0);
    }
}

TEST_SUITE("unit") {
    TEST_CASE("color_fix: none only clamps, and a NaN becomes 0") {
        Image sr = flat({2, 2}, 0.25F);
        sr.row_(0)[0] = -1.0F;
        sr.row_(0)[1] = 2.0F;
        sr.row_(1)[5] = std::numeric_limits<float>::quiet_NaN();
        const Image result = color_fix(sr, Image(), ColorFix::none);
        CHECK(test::values_of(result) == std::vector<float>{0, 1, 0.25F, 0.25F, 0.25F, 0.25F, 0.25F,
                                                            0.25F, 0.25F, 0.25F, 0.25F, 0});
    }

    TEST_CASE("color_fix: a flat picture's AdaIN takes the reference's mean, one pixel too") {
        const Image reference = test::formula_picture("waves1", {13, 8});
        std::array<double, 3> mean{};
        const auto values = test::values_of(reference);
        for (std::size_t i = 0; i < values.size(); ++i) {
            mean[i % 3] += static_cast<double>(values[i]) / (13.0 * 8.0);
        }
        for (const PixelSize size : {PixelSize{1, 1}, PixelSize{6, 5}}) {
            const auto result =
                test::values_of(color_fix(flat(size, 0.5F), reference, ColorFix::adain));
            for (std::size_t i = 0; i < result.size(); ++i) {
                CHECK(std::abs(static_cast<double>(result[i]) - mean[i % 3]) < 1e-6);
            }
        }
    }

    TEST_CASE("color_fix: results stay within [0,1] where the formula leaves it") {
        const Image sr = test::formula_picture("waves0", {31, 17});
        const Image dark = test::formula_picture("checks", {31, 17});
        for (const ColorFix how : {ColorFix::adain, ColorFix::wavelet}) {
            const auto result = test::values_of(color_fix(sr, dark, how));
            const auto [low, high] = std::minmax_element(result.begin(), result.end());
            CHECK(*low == 0.0F);
            CHECK(*high == 1.0F);
        }
    }

    TEST_CASE("color_fix: the wavelet wants equal sizes, both fixes want pictures") {
        const Image a = flat({4, 3}, 0.5F);
        CHECK_THROWS_AS(color_fix(a, flat({3, 4}, 0.5F), ColorFix::wavelet), Error);
        for (const ColorFix how : {ColorFix::adain, ColorFix::wavelet}) {
            CHECK_THROWS_AS(color_fix(a, Image(), how), Error);
            CHECK_THROWS_AS(color_fix(Image(), a, how), Error);
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE(
        "color_fix: against itself a picture stays what it is, and the input is not touched") {
        const Image sr = test::formula_picture("waves0", {45, 37});
        const auto before = test::values_of(sr);
        CHECK(test::equal_bits(color_fix(sr, sr, ColorFix::wavelet), sr));  // adds low(0)
        const auto after = test::values_of(color_fix(sr, sr, ColorFix::adain));
        float worst = 0.0F;
        for (std::size_t i = 0; i < after.size(); ++i) {
            worst = std::max(worst, std::abs(after[i] - before[i]));
        }
        CHECK(worst < 1e-6F);
        CHECK(test::values_of(sr) == before);
    }

    TEST_CASE("color_fix: one thread and three give the same bits") {
        const Image sr = test::formula_picture("waves0", {131, 97});
        const Image reference = test::formula_picture("waves3", {131, 97});
        const int threads = at::get_num_threads();
        for (const ColorFix how : {ColorFix::adain, ColorFix::wavelet}) {
            at::set_num_threads(1);
            const Image one = color_fix(sr, reference, how);
            at::set_num_threads(3);
            const Image three = color_fix(sr, reference, how);
            CHECK(test::equal_bits(one, three));
        }
        at::set_num_threads(threads);
    }
}
