// Noise fields: each pixel computable by itself, and independent of all others.
#include "degradation/steps/noise.h"

#include <cmath>
#include <map>

#include "degradation/steps/noise_pixel.h"
#include "degradation/steps/resize.h"
#include "degradation/steps/resize_pixel.h"
#include "degradation/steps/variates.h"
#include "tests/degradation/steps.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

/// The word of one pixel, by hand.
std::uint32_t word_of(const StreamKey& key, std::uint32_t channel, int width, int y, int x) {
    const auto p = static_cast<std::uint32_t>(y * width + x);
    return stream_words<1>(key, channel, p / 4).word[p % 4][0];
}

/// The normal field itself: a sigma so small that nothing is clamped, and float32's steps at 0.5
/// stay below 1e-3 of it.
std::vector<double> field(const StreamKey& key, std::uint32_t channel, int side = 256,
                          bool gray = false) {
    const Planar flat = test::flat_picture(3, side, side, 0.5F);
    const Planar out = gaussian_noise(flat, 20, gray, key);
    std::vector<double> z;
    const float* plane = out.plane(static_cast<int>(channel));
    for (std::size_t i = 0; i < out.plane_values(); ++i) {
        z.push_back((static_cast<double>(plane[i]) - 0.5) * 255 / 20);
    }
    return z;
}

const StreamKey key{.seed = 3, .id = 0x123456789ABC, .variant = 2, .slot = 128, .level = 4};

TEST_SUITE("unit") {
    TEST_CASE("gaussian_noise: each pixel follows from its own counter, whatever lies around it") {
        const Planar picture = test::noise_picture(3, 23, 37, 1);
        for (const bool gray : {false, true}) {
            CAPTURE(gray);
            const Planar out = gaussian_noise(picture, 25, gray, key);
            for (int c = 0; c < 3; ++c) {
                for (int y = 0; y < 23; ++y) {
                    for (int x = 0; x < 37; ++x) {
                        const auto channel = gray ? 3U : static_cast<std::uint32_t>(c);
                        const float z =
                            normal_of_word(word_of(key, channel, 37, y, x), normal_table);
                        const float noisy = picture.row(c, y)[x] + z * 25.0F / 255.0F;
                        REQUIRE(out.row(c, y)[x] == std::clamp(noisy, 0.0F, 1.0F));
                    }
                }
            }
        }
    }

    TEST_CASE("poisson_noise: each pixel follows from its own counter") {
        const Planar picture = test::noise_picture(3, 19, 29, 2, -0.1, 1.1);
        const int vals = 64;
        for (const bool gray : {false, true}) {
            CAPTURE(gray);
            const Planar out = poisson_noise(picture, 1.5, gray, vals, key);
            for (int c = 0; c < 3; ++c) {
                for (int y = 0; y < 19; ++y) {
                    for (int x = 0; x < 29; ++x) {
                        const float r = picture.row(0, y)[x], g = picture.row(1, y)[x],
                                    b = picture.row(2, y)[x], own = picture.row(c, y)[x];
                        const float from = gray ? 0.2989F * r + 0.587F * g + 0.114F * b : own;
                        const auto level = static_cast<int>(
                            std::clamp(std::nearbyint(from * 255.0F), 0.0F, 255.0F));
                        const auto channel = gray ? 3U : static_cast<std::uint32_t>(c);
                        const PoissonEntry& entry = poisson_table().entries[6 * 256 + level];
                        const auto count = static_cast<float>(poisson_of_word(
                            word_of(key, channel, 29, y, x), entry, poisson_table().thresholds));
                        const float q = static_cast<float>(level) / 255.0F;
                        const float noisy = own + (count / 64.0F - q) * 1.5F;
                        REQUIRE(out.row(c, y)[x] == std::clamp(noisy, 0.0F, 1.0F));
                    }
                }
            }
        }
    }

    TEST_CASE("gaussian_noise: the upper rows of a taller picture are the same field") {
        const Planar tall = test::flat_picture(3, 40, 33, 0.5F);
        const Planar low = test::flat_picture(3, 9, 33, 0.5F);
        const Planar a = gaussian_noise(tall, 10, false, key),
                     b = gaussian_noise(low, 10, false, key);
        for (int c = 0; c < 3; ++c) CHECK(std::equal(b.plane(c), b.plane(c) + 9 * 33, a.plane(c)));
    }

    TEST_CASE("noise: a grey picture's single pixel, and given fields that do not fit") {
        const Planar one = test::flat_picture(3, 1, 1, 0.5F);
        CHECK(test::same_shape(gaussian_noise(one, 10, true, key), one));
        CHECK(test::same_shape(poisson_noise(one, 1, true, 1, key), one));
        CHECK(test::has(test::sentence_of([&] { gaussian_noise(one, 1, Planar(3, 2, 1)); }),
                        "it must have the same size"));
        CHECK(test::has(test::sentence_of([&] { poisson_noise(one, 1, 2, Planar(2, 1, 1)); }),
                        "it must have the same size"));
        CHECK(test::has(test::sentence_of([&] { poisson_noise(one, 1, false, 3, key); }),
                        "vals of 1, 2, 4 ... 256, not 3"));
        CHECK(test::has(test::sentence_of([&] { poisson_noise(one, 1, false, 512, key); }),
                        "vals of 1, 2, 4 ... 256, not 512"));
    }

    TEST_CASE("normal_field: what gaussian_noise adds, in colour and grey") {
        const Planar picture = test::noise_picture(3, 23, 37, 1);
        for (const bool gray : {false, true}) {
            const Planar z = normal_field(picture.size(), gray, key);
            CHECK(z.channels() == (gray ? 1 : 3));
            CHECK(test::same_bytes(gaussian_noise(picture, 25, z),
                                   gaussian_noise(picture, 25, gray, key)));
        }
    }

    TEST_CASE("nested_field: a mean of each bin, times the root of its number of values") {
        const Planar row =
            test::made_picture(1, 2, 5, [](int, int y, int x) { return 10 * y + x * x; });
        const Planar out = nested_field(row, {2, 1});  // bins 0-2 and 2-4, both rows
        CHECK(out.size() == PixelSize{2, 1});
        CHECK(out.data()[0] == doctest::Approx((0 + 1 + 4 + 30 + 5) / 6.0 * std::sqrt(6.0)));
        CHECK(out.data()[1] == doctest::Approx((4 + 9 + 16 + 30 + 29) / 6.0 * std::sqrt(6.0)));
        CHECK(test::same_bytes(nested_field(row, {5, 2}), row));
        for (const PixelSize larger : {PixelSize{6, 2}, {5, 3}}) {
            CHECK(test::has(test::sentence_of([&] { nested_field(row, larger); }),
                            "a nested noise field of 5 x 2 is too small for a picture of"));
        }
        CHECK(test::has(test::sentence_of([] {
                            test::applied("gaussian_noise",
                                          R"({"sigma": 1, "nested_from": [3, 4]})",
                                          test::noise_picture(3, 4, 4, 1));
                        }),
                        "too small for a picture of 4 x 4"));
        CHECK(test::has(test::sentence_of([] {
                            degradation("gaussian_noise")
                                .make(Json::parse(R"({"sigma": 1, "nested_from": [3]})"), {},
                                      Tier::exact);
                        }),
                        "'nested_from' is [height, width]"));
    }

    TEST_CASE("steps: noise parameters out of range name the key") {
        const auto fault = [](const char* step, const char* params) {
            return test::sentence_of(
                [&] { degradation(step).make(Json::parse(params), {}, Tier::exact); });
        };
        CHECK(test::has(fault("gaussian_noise", R"({"sigma":256})"), "'sigma' lies in 0 to 255"));
        CHECK(test::has(fault("gaussian_noise", "{}"), "'sigma' is missing"));
        CHECK(test::has(fault("gaussian_noise", R"({"sigma":1,"grey":true})"),
                        "unknown key 'grey'; known: field, gray, level, sigma"));
        CHECK(test::has(fault("gaussian_noise", R"({"sigma":1,"gray":1})"), "true or false"));
        CHECK(test::has(fault("gaussian_noise", R"({"sigma":1,"level":256})"), "'level' lies in"));
        CHECK(test::has(fault("poisson_noise", R"({"scale":101})"), "'scale' lies in 0 to 100"));
        CHECK(test::has(fault("poisson_noise", R"({"scale":1,"vals":3})"), "'vals' is 1, 2, 4"));
        CHECK(test::has(fault("poisson_noise", R"({"scale":1,"vals":"all"})"), "not 'all'"));
    }
}

TEST_SUITE("property") {
    TEST_CASE(
        "gaussian_noise: moments, neighbours, channels, levels and pictures are as independent "
        "draws") {
        const std::vector<double> red = field(key, 0);
        const double n = static_cast<double>(red.size()), limit = 4 / std::sqrt(n);
        const test::Moments m = test::moments(red);
        CHECK(std::abs(m.mean) < limit);
        CHECK(std::abs(m.variance - 1) < 4 * std::sqrt(2 / n));
        CHECK(std::abs(m.skewness) < 4 * std::sqrt(6 / n));
        CHECK(std::abs(m.kurtosis - 3) < 4 * std::sqrt(24 / n));
        // Neighbours along the row and down the column
        const std::vector<double> first(red.begin(), red.end() - 1),
            next(red.begin() + 1, red.end());
        CHECK(std::abs(test::correlation(first, next)) < limit);
        const std::vector<double> upper(red.begin(), red.end() - 256),
            lower(red.begin() + 256, red.end());
        CHECK(std::abs(test::correlation(upper, lower)) < limit);
        // Channels: 0 in colour, 1 in grey
        CHECK(std::abs(test::correlation(red, field(key, 1))) < limit);
        CHECK(std::abs(test::correlation(red, field(key, 2))) < limit);
        const std::vector<double> grey = field(key, 0, 256, true);
        CHECK(test::correlation(grey, field(key, 1, 256, true)) > 1 - 1e-12);
        CHECK(std::abs(test::correlation(red, grey)) < limit);
        // Whatever else names the field
        for (const auto& change :
             {+[](StreamKey& k) { k.level = 8; }, +[](StreamKey& k) { k.level = 14; },
              +[](StreamKey& k) { k.id += 1; },
              +[](StreamKey& k) { k.id ^= std::uint64_t{1} << 40; },
              +[](StreamKey& k) { k.variant = 3; }, +[](StreamKey& k) { k.slot = 129; },
              +[](StreamKey& k) { k.seed = 4; },
              +[](StreamKey& k) { k.seed |= std::uint64_t{1} << 63; }}) {
            StreamKey other = key;
            change(other);
            CHECK(std::abs(test::correlation(red, field(other, 0))) < limit);
        }
    }

    TEST_CASE("nested_field: variance 1 in bins of any size, and levels that agree") {
        const auto correlation = [](const std::vector<double>& a, const std::vector<double>& b) {
            double ab = 0, aa = 0, bb = 0;
            for (std::size_t i = 0; i < a.size(); ++i) {
                ab += a[i] * b[i];
                aa += a[i] * a[i];
                bb += b[i] * b[i];
            }
            return ab / std::sqrt(aa * bb);
        };
        constexpr PixelSize largest{90, 70}, middle{53, 41}, small{20, 16};
        for (const bool gray : {false, true}) {
            CAPTURE(gray);
            std::map<int, std::pair<double, double>> squares;  // by bin size: count and sum
            std::vector<double> smalls, from_largest, from_middle, thirds, from_halves, others;
            const auto append = [](std::vector<double>& to, const Planar& p) {
                to.insert(to.end(), p.data(), p.data() + p.values());
            };
            for (std::uint64_t id = 0; id < (gray ? 180U : 60U); ++id) {
                StreamKey k = key;
                k.id = id;
                const Planar whole = normal_field(largest, gray, k);
                const Planar mid = nested_field(whole, middle), low = nested_field(whole, small);
                append(smalls, low);
                append(from_largest, resize_to(whole, small, ResizeMode::area));
                append(from_middle, resize_to(mid, small, ResizeMode::area));
                append(thirds, nested_field(whole, {15, 7}));
                append(from_halves,
                       resize_to(nested_field(whole, {45, 35}), {15, 7}, ResizeMode::area));
                k.level += 1;
                append(others, normal_field(small, gray, k));
                for (int c = 0; c < mid.channels(); ++c) {
                    for (int y = 0; y < middle.height; ++y) {
                        for (int x = 0; x < middle.width; ++x) {
                            const int n = (area_end(y, 70, 41) - area_begin(y, 70, 41)) *
                                          (area_end(x, 90, 53) - area_begin(x, 90, 53));
                            squares[n].first += 1;
                            squares[n].second += static_cast<double>(mid.row(c, y)[x]) *
                                                 static_cast<double>(mid.row(c, y)[x]);
                        }
                    }
                }
            }
            CHECK(squares.size() == 3);  // 4, 6 and 9 values, each often enough for 2 %
            for (const auto& [n, sums] : squares) {
                CAPTURE(n);
                CHECK(sums.first > 3e4);
                CHECK(std::abs(sums.second / sums.first - 1) < 0.02);
            }
            double square = 0;
            for (const double z : smalls) square += z * z;
            CHECK(std::abs(square / static_cast<double>(smalls.size()) - 1) < 0.02);
            CHECK(correlation(smalls, from_largest) > 0.99);
            // Bins overlap where sizes do not divide, most of all at less than 2: measured .78
            CHECK(correlation(smalls, from_middle) > 0.75);
            CHECK(correlation(thirds, from_halves) > 0.99999);
            CHECK(std::abs(correlation(smalls, others)) < 0.02);
        }
    }

    TEST_CASE("poisson_noise: the deviation's mean is 0, its variance a^2 Q / v") {
        const double side = 300, n = side * side;
        const Planar flat = test::flat_picture(3, 300, 300, 0.6F);  // 153/255
        const Planar out = poisson_noise(flat, 0.5, false, 32, key);
        for (int c = 0; c < 3; ++c) {
            std::vector<double> d;
            for (std::size_t i = 0; i < flat.plane_values(); ++i) {
                d.push_back(static_cast<double>(out.plane(c)[i]) - 0.6F);
            }
            const test::Moments m = test::moments(d);
            const double variance = 0.25 * 0.6 / 32;
            CHECK(std::abs(m.mean) < 4 * std::sqrt(variance / n));
            // The fourth cumulant adds 1 / lambda, lambda = 19
            CHECK(std::abs(m.variance / variance - 1) < 4 * std::sqrt((2 + 1 / 19.2) / n));
        }
        CHECK(std::abs(test::correlation({out.plane(0), out.plane(1)},
                                         {out.plane(1), out.plane(2)})) < 4 / std::sqrt(n));
        const Planar grey = poisson_noise(flat, 0.5, true, 32, key);
        CHECK(std::equal(grey.plane(0), grey.plane(1), grey.plane(2)));
    }
}

}  // namespace
}  // namespace ultrasr
