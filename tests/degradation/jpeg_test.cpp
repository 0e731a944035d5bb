// DiffJPEG's arithmetic piece by piece, odd sizes, and the real codec.
#include "degradation/steps/jpeg.h"

#include <array>
#include <set>

#include "degradation/steps/jpeg_pixel.h"
#include "tests/degradation/steps.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

/// Orthonormal DCT-II by its formula, in double.
std::array<double, 8> plain_dct(const std::array<double, 8>& x) {
    std::array<double, 8> X{};
    for (std::size_t u = 0; u < 8; ++u) {
        const double alpha = u == 0 ? std::sqrt(0.125) : 0.5;
        for (std::size_t i = 0; i < 8; ++i) {
            const auto angle = static_cast<double>((2 * i + 1) * u);
            X[u] += alpha * x[i] * std::cos(angle * std::numbers::pi / 16);
        }
    }
    return X;
}

/// Filled up to whole tiles on its right and lower side.
Planar filled(const Planar& picture, bool black) {
    const int h = picture.height(), w = picture.width();
    return test::made_picture(3, (h + 15) / 16 * 16, (w + 15) / 16 * 16, [&](int c, int y, int x) {
        if (black && (y >= h || x >= w)) return 0.0F;
        return picture.row(c, std::min(y, h - 1))[std::min(x, w - 1)];
    });
}

Planar cropped(const Planar& picture, PixelSize size) {
    return test::made_picture(3, size.height, size.width,
                              [&](int c, int y, int x) { return picture.row(c, y)[x]; });
}

TEST_SUITE("unit") {
    TEST_CASE("dct8_, idct8_: the orthonormal cosine transform and its inverse") {
        for (std::size_t n = 0; n < 40; ++n) {
            const Planar values = test::noise_picture(1, 1, 8, n, -128, 128);
            std::array<double, 8> x{};
            std::copy_n(values.data(), 8, x.begin());
            if (n < 8) {
                x = {};
                x[n] = 100;
            }
            float ours[8];
            for (std::size_t i = 0; i < 8; ++i) ours[i] = static_cast<float>(x[i]);
            dct8_(ours);
            const std::array<double, 8> X = plain_dct(x);
            for (std::size_t u = 0; u < 8; ++u) CHECK(std::abs(ours[u] - X[u]) < 1e-4);
            idct8_(ours);
            for (std::size_t i = 0; i < 8; ++i) CHECK(std::abs(ours[i] - x[i]) < 1e-4);
        }
    }

    TEST_CASE("ycbcr_of_rgb, rgb_of_ycbcr: grey has no colour, primaries as in JFIF") {
        float y = 0, cb = 0, cr = 0, r = 0, g = 0, b = 0;
        ycbcr_of_rgb(90.0F, 90.0F, 90.0F, y, cb, cr);
        CHECK(std::abs(y - 90) < 1e-4F);
        CHECK(std::abs(cb - 128) < 1e-4F);
        CHECK(std::abs(cr - 128) < 1e-4F);
        ycbcr_of_rgb(255.0F, 0.0F, 0.0F, y, cb, cr);
        CHECK(y == doctest::Approx(76.245));
        CHECK(cb == doctest::Approx(84.97232));
        CHECK(cr == doctest::Approx(255.5));
        rgb_of_ycbcr(y, cb, cr, r, g, b);
        CHECK(std::abs(r - 1) < 1e-5F);
        CHECK(std::abs(g) < 1e-5F);
        CHECK(std::abs(b) < 1e-5F);
        rgb_of_ycbcr(300.0F, 128.0F, 128.0F, r, g, b);  // clamped
        CHECK(r == 1);
    }

    TEST_CASE("quality_factor: 5000 / q below 50, 200 - 2 q above, in hundredths") {
        CHECK(quality_factor(50) == 1.0F);
        CHECK(quality_factor(75) == 0.5F);
        CHECK(quality_factor(25) == doctest::Approx(2));
        CHECK(quality_factor(10) == doctest::Approx(5));
        CHECK(quality_factor(99.5F) == doctest::Approx(0.01));
        CHECK(std::abs(quality_factor(49.99999F) - quality_factor(50)) < 1e-5F);
        CHECK(quality_factor(static_cast<float>(most_jpeg_quality)) > 0);
    }

    TEST_CASE("quantised: to the nearest multiple, half to even") {
        CHECK(quantised(2.5F, 1.0F) == 2);
        CHECK(quantised(3.5F, 1.0F) == 4);
        CHECK(quantised(-2.5F, 1.0F) == -2);
        CHECK(quantised(7.0F, 16.0F) == 0);
        CHECK(quantised(9.0F, 16.0F) == 16);
    }

    TEST_CASE("the tables: Annex K, luma transposed, chroma symmetric") {
        double sum = 0;
        for (const float entry : diff_jpeg_luma) sum += entry;
        CHECK(sum == 3688);  // of K.1
        for (std::size_t v = 0; v < 8; ++v) {
            for (std::size_t u = 0; u < 8; ++u) {
                CHECK(diff_jpeg_chroma[8 * v + u] == diff_jpeg_chroma[8 * u + v]);
            }
        }
        const std::array<float, 8> first{16, 12, 14, 14, 18, 24, 49, 72};  // K.1's first column
        CHECK(std::equal(first.begin(), first.end(), diff_jpeg_luma.begin()));
        CHECK(diff_jpeg_chroma[0] == 17);
        CHECK(diff_jpeg_chroma[8 + 2] == 26);
        CHECK(diff_jpeg_chroma[63] == 99);
    }

    TEST_CASE("diff_jpeg: sizes of 1, 15 and 17 are the crop of the filled picture") {
        for (const PixelSize size :
             {PixelSize{1, 1}, {15, 15}, {17, 17}, {1, 17}, {33, 15}, {16, 1}}) {
            INFO(size.width, " x ", size.height);
            const Planar picture = test::noise_picture(3, size.height, size.width, 1, -0.2, 1.2);
            for (const JpegPadding how : {JpegPadding::zero, JpegPadding::replicate}) {
                const Planar whole = filled(picture, how == JpegPadding::zero);
                CHECK(test::same_bytes(diff_jpeg(picture, 35, how),
                                       cropped(diff_jpeg(whole, 35, how), size)));
            }
        }
    }

    TEST_CASE("diff_jpeg: a flat tile comes back on the steps of its DC") {
        // Level 100: DC 8 (100 - 128) = -224 on steps of 16: -14, no loss
        const Planar kept = test::flat_picture(3, 16, 16, 100.0F / 255.0F);
        CHECK(test::largest_difference(diff_jpeg(kept, 50, JpegPadding::zero), kept) < 1e-6);
        // Level 103: -200 / 16 = -12.5, to even: -12, level 104
        const Planar moved = test::flat_picture(3, 16, 16, 103.3F / 255.0F);  // -12.35: 104
        CHECK(test::largest_difference(diff_jpeg(moved, 50, JpegPadding::zero),
                                       test::flat_picture(3, 16, 16, 104.0F / 255.0F)) < 1e-6);
        // At quality 25 the steps are twice as large: -6.175: level 104 as well, -7: 100
        CHECK(test::largest_difference(diff_jpeg(kept, 25, JpegPadding::zero), kept) < 1e-6);
    }

    TEST_CASE("diff_jpeg: tiles do not know of each other") {
        const Planar left = test::noise_picture(3, 16, 16, 2),
                     right = test::noise_picture(3, 16, 16, 3);
        const Planar both = test::made_picture(3, 16, 32, [&](int c, int y, int x) {
            return x < 16 ? left.row(c, y)[x] : right.row(c, y)[x - 16];
        });
        const Planar out = diff_jpeg(both, 20, JpegPadding::zero);
        CHECK(test::same_bytes(cropped(out, {16, 16}), diff_jpeg(left, 20, JpegPadding::zero)));
    }

    TEST_CASE("turbo_jpeg: whole levels out, the quality rounded and limited") {
        const Planar picture = test::noise_picture(3, 17, 15, 4, 0.2, 0.8);
        const Planar forty = turbo_jpeg(picture, 40);
        CHECK(test::same_bytes(turbo_jpeg(picture, 40.4), forty));
        CHECK(test::same_bytes(turbo_jpeg(picture, 39.6), forty));
        CHECK(test::same_bytes(turbo_jpeg(picture, 0.2), turbo_jpeg(picture, 1)));
        CHECK_FALSE(test::same_bytes(turbo_jpeg(picture, 41.6), forty));
        for (std::size_t i = 0; i < forty.values(); ++i) {
            const float level = forty.data()[i] * 255.0F;
            REQUIRE(std::abs(level - std::rint(level)) < 1e-4F);
        }
        for (const int side : {1, 15, 17}) {
            const Planar flat = test::flat_picture(3, side, side, 100.0F / 255.0F);
            CHECK(test::largest_difference(turbo_jpeg(flat, 50), flat) < 1.01 / 255);
        }
    }

    TEST_CASE("jpeg: faults say what is wrong") {
        const Planar grey(1, 8, 8), rgb(3, 8, 8);
        const auto diff = [](const Planar& p, double q) {
            return test::sentence_of([&] { diff_jpeg(p, q, JpegPadding::zero); });
        };
        CHECK(test::has(diff(grey, 50), "JPEG takes three planes, not 1"));
        CHECK(test::has(diff(rgb, 0), "above 0 and up to 100, not at 0"));
        CHECK(test::has(diff(rgb, 100.5), "not at 100.5"));
        CHECK(test::has(diff(rgb, NAN), "not at nan"));
        CHECK(test::has(test::sentence_of([&] { turbo_jpeg(grey, 50); }), "three planes"));
        const auto step = [](const char* params) {
            return test::sentence_of(
                [&] { degradation("jpeg").make(Json::parse(params), {}, Tier::exact); });
        };
        CHECK(test::has(step(R"({"quality":101})"), "'quality' lies above 0 and up to 100"));
        CHECK(test::has(step(R"({"quality":5,"backend":"mozjpeg"})"),
                        "diff or turbo, not 'mozjpeg'"));
        CHECK(
            test::has(step(R"({"quality":5,"pad":"mirror"})"), "zero or replicate, not 'mirror'"));
        CHECK(test::has(step(R"({"quality":"high"})"), "'quality' is a number, not \"high\""));
        CHECK(test::has(step("[]"), "parameters are an object"));
    }

    TEST_CASE("degradations: every example makes a step that can be made again from its params") {
        CHECK(degradations().size() >= 10);
        std::set<std::string_view> names;
        const Planar picture = test::noise_picture(3, 20, 21, 9);
        for (const DegradationInfo* info : degradations()) {
            CAPTURE(info->name);
            const StepPtr step = info->make(Json::parse(info->example), {}, Tier::exact);
            const StepPtr again = info->make(step->params(), {}, Tier::exact);
            StepContext context{{.seed = 7, .id = 8}, nullptr, nullptr};
            CHECK(test::same_bytes(step->apply(picture, context), again->apply(picture, context)));
            CHECK(again->params() == step->params());
            CHECK(&degradation(info->name) == info);
            CHECK(names.insert(info->name).second);
        }
        CHECK(test::has(test::sentence_of([] { degradation("sharpen"); }, Fault::usage),
                        "unknown degradation step 'sharpen'; known: usm, blur"));
    }
}

}  // namespace
}  // namespace ultrasr
