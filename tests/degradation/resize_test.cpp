// Resizing where the reference says nothing: single pixels, both extra modes, laws.
#include "degradation/steps/resize.h"

#include <opencv2/imgproc.hpp>

#include "tests/degradation/steps.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

constexpr ResizeMode all_modes[] = {ResizeMode::area, ResizeMode::bilinear, ResizeMode::bicubic,
                                    ResizeMode::area_cv, ResizeMode::bicubic_matlab};

Planar row_of(const std::vector<double>& values) {
    return test::made_picture(1, 1, static_cast<int>(values.size()),
                              [&](int, int, int x) { return values[static_cast<std::size_t>(x)]; });
}

void check_row(const Planar& out, const std::vector<double>& wanted) {
    REQUIRE(out.width() == static_cast<int>(wanted.size()));
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        CAPTURE(i);
        CHECK(std::abs(out.data()[i] - wanted[i]) < 1e-6);
    }
}

Planar mirrored(const Planar& p) {
    return test::made_picture(p.channels(), p.height(), p.width(), [&](int c, int y, int x) {
        return p.row(c, p.height() - 1 - y)[p.width() - 1 - x];
    });
}

TEST_SUITE("unit") {
    TEST_CASE("resize: from one pixel and to one pixel") {
        const Planar one =
            test::made_picture(3, 1, 1, [](int c, int, int) { return 0.2 + 0.3 * c; });
        const Planar noise = test::noise_picture(3, 7, 10, 1);
        for (const ResizeMode mode : all_modes) {
            for (const bool antialias : {false, true}) {
                INFO(resize_mode_name(mode), " ", antialias);
                const Planar large = resize_to(one, {5, 3}, mode, antialias);
                const Planar wanted =
                    test::made_picture(3, 3, 5, [](int c, int, int) { return 0.2 + 0.3 * c; });
                CHECK(test::largest_difference(large, wanted) < 1e-6);
                const Planar small = resize_to(noise, {1, 1}, mode, antialias);
                CHECK(small.size() == PixelSize{1, 1});
                for (int c = 0; c < 3; ++c) CHECK(std::abs(small.plane(c)[0] - 0.5F) < 1.0F);
            }
        }
        double mean = 0;
        for (std::size_t i = 0; i < 70; ++i) mean += noise.data()[i] / 70;
        for (const ResizeMode mode : {ResizeMode::area, ResizeMode::area_cv}) {
            CHECK(std::abs(resize_to(noise, {1, 1}, mode).data()[0] - mean) < 1e-6);
        }
        CHECK(sampling_by(3, 0.1, ResizeMode::bilinear).m == 1);  // never nothing
        CHECK(sampling_by(3, 0.1, ResizeMode::area).m == 1);
    }

    TEST_CASE("resize: the same size keeps every bit in every mode") {
        const Planar noise = test::noise_picture(3, 6, 9, 2, -0.3, 1.4);
        for (const ResizeMode mode : all_modes) {
            CHECK(test::same_bytes(resize_to(noise, {9, 6}, mode), noise));
            CHECK(test::same_bytes(resize_to(noise, {9, 6}, mode, true), noise));
        }
    }

    TEST_CASE("bilinear and bicubic: rows by hand") {
        check_row(resize_to(row_of({0, 1}), {4, 1}, ResizeMode::bilinear), {0, 0.25, 0.75, 1});
        check_row(resize_to(row_of({0, 0, 1, 0}), {2, 1}, ResizeMode::bilinear), {0, 0.5});
        // Keys, A = -0.75, at distances 0.25, 0.75, 1.25, 1.75
        const double a = 0.87890625, b = 0.26171875, c = -0.10546875, d = -0.03515625;
        check_row(resize_to(row_of({0, 0, 0, 1, 0, 0, 0}), {14, 1}, ResizeMode::bicubic),
                  {0, 0, 0, d, c, b, a, a, b, c, d, 0, 0, 0});
    }

    TEST_CASE("bicubic_matlab: an impulse spreads as Keys' kernel with A = -0.5") {
        const double a = 0.8671875, b = 0.2265625, c = -0.0703125, d = -0.0234375;
        check_row(resize_to(row_of({0, 0, 0, 1, 0, 0, 0}), {14, 1}, ResizeMode::bicubic_matlab),
                  {0, 0, 0, d, c, b, a, a, b, c, d, 0, 0, 0});
        // Shrinking stretches the kernel: distances 0.5, 1.5, 2.5, 3.5 of twice the width
        check_row(
            resize_to(row_of({0, 0, 0, 0, 0, 1, 0, 0, 0, 0}), {5, 1}, ResizeMode::bicubic_matlab),
            {0, c / 2, a / 2, b / 2, d / 2});
    }

    TEST_CASE("area_cv: shares of pixels when shrinking, OpenCV's blend when growing") {
        check_row(resize_to(row_of({1, 2, 3}), {2, 1}, ResizeMode::area_cv),
                  {(1 + 0.5 * 2) / 1.5, (0.5 * 2 + 3) / 1.5});
        check_row(resize_to(row_of({1, 3}), {4, 1}, ResizeMode::area_cv), {1, 1, 3, 3});
        check_row(resize_to(row_of({1, 3}), {3, 1}, ResizeMode::area_cv), {1, 2, 3});
    }

    TEST_CASE("area_cv: every pair of sizes to 16, as OpenCV has it") {
        int mixed = 0;
        for (int h = 1; h <= 16; h += 3) {
            for (int w = 2; w <= 16; w += 2) {
                const Planar from = test::noise_picture(1, h, w, 5);
                const cv::Mat plane(h, w, CV_32F, const_cast<float*>(from.data()));
                for (int y = 1; y <= 16; ++y) {
                    for (int x = 1; x <= 16; ++x) {
                        Planar wanted(1, y, x);
                        cv::Mat to(y, x, CV_32F, wanted.data_());
                        cv::resize(plane, to, {x, y}, 0, 0, cv::INTER_AREA);
                        const double d = test::largest_difference(
                            resize_to(from, {x, y}, ResizeMode::area_cv), wanted);
                        CHECK_MESSAGE(d < 2e-6, w, " x ", h, " to ", x, " x ", y, ": ", d);
                        mixed += (y < h && x > w) || (y > h && x < w);
                    }
                }
            }
        }
        CHECK(mixed > 1000);
    }

    TEST_CASE("resize: words and faults") {
        CHECK(test::has(test::sentence_of([] { resize_mode("lanczos"); }, Fault::usage),
                        "unknown resize mode 'lanczos'; known: area, bilinear, bicubic"));
        for (const ResizeMode mode : all_modes) CHECK(resize_mode(resize_mode_name(mode)) == mode);
        const Planar one(3, 1, 1);
        CHECK(test::has(
            test::sentence_of(
                [&] { resize(one, sampling_to(2, 1), sampling_to(1, 1), ResizeMode::area); },
                Fault::internal),
            "cannot be resized as one of"));
        const auto fault = [](const char* step, const char* params) {
            return test::sentence_of(
                [&] { degradation(step).make(Json::parse(params), {}, Tier::exact); });
        };
        for (const char* size : {"[0,4]", "[4]", "[4,4,4]", "[4,2.5]", "[4,70000]"}) {
            const std::string params = std::string(R"({"mode":"area","size":)") + size + "}";
            CHECK(test::has(fault("resize_size", params.c_str()), "'size' is [height, width]"));
        }
        CHECK(test::has(fault("resize_scale_factor", R"({"mode":"area","ratio":0})"), "above 0"));
        CHECK(test::has(fault("resize_scale_factor", R"({"mode":"area","ratio":65})"), "up to 64"));
        CHECK(test::has(fault("resize_size", R"({"size":[1,1]})"), "'mode' is missing"));
    }
}

TEST_SUITE("property") {
    TEST_CASE("axis_taps: weights sum to 1 and look inside the axis, for all lengths to 30") {
        for (const ResizeMode mode : all_modes) {
            if (mode == ResizeMode::area) continue;
            for (const bool antialias : {false, true}) {
                INFO(resize_mode_name(mode), " ", antialias);
                for (int n = 1; n <= 30; ++n) {
                    for (int m = 1; m <= 30; ++m) {
                        const AxisTaps taps = axis_taps(sampling_to(n, m), mode, antialias);
                        REQUIRE(taps.weight.size() == static_cast<std::size_t>(m * taps.taps));
                        REQUIRE(taps.index.size() == taps.weight.size());
                        for (int i = 0; i < m; ++i) {
                            double sum = 0;
                            for (int t = 0; t < taps.taps; ++t) {
                                const auto at = static_cast<std::size_t>(i * taps.taps + t);
                                REQUIRE(taps.index[at] >= 0);
                                REQUIRE(taps.index[at] < n);
                                sum += taps.weight[at];
                            }
                            REQUIRE(std::abs(sum - 1) <
                                    2e-6);  // bicubic in float32, as torch: 1e-6
                        }
                    }
                }
            }
        }
    }

    TEST_CASE("resize_to: a turned picture gives the turned result") {
        const Planar noise = test::noise_picture(2, 13, 21, 3);
        for (const ResizeMode mode : all_modes) {
            if (mode == ResizeMode::area_cv) continue;  // OpenCV's blend is not symmetric
            for (const bool antialias : {false, true}) {
                for (const PixelSize size : {PixelSize{8, 5}, {30, 17}, {11, 19}}) {
                    INFO(resize_mode_name(mode), " ", antialias, " ", size.width);
                    // Single precision coordinates round differently at the far end: 1e-5
                    CHECK(test::largest_difference(
                              resize_to(mirrored(noise), size, mode, antialias),
                              mirrored(resize_to(noise, size, mode, antialias))) < 1e-5);
                }
            }
        }
    }
}

}  // namespace
}  // namespace ultrasr
