#include "metrics/ssim.h"

#include <cmath>
#include <vector>

#include "metrics/luma.h"
#include "tests/metrics/pictures.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

/// The definition, word for word: 121 window values in float32, every window by itself.
SsimMeans by_definition(const Plane<float>& a, const Plane<float>& b) {
    std::vector<double> w;
    double sum = 0.0;
    for (int i = -5; i <= 5; ++i) {
        for (int j = -5; j <= 5; ++j) w.push_back(std::exp(-(i * i + j * j) / (2.0 * 1.5 * 1.5)));
    }
    for (const double v : w) sum += v;
    for (double& v : w) v = static_cast<float>(v / sum);

    const double c1 = 6.5025, c2 = 58.5225;
    SsimMeans result;
    int places = 0;
    for (int y = 0; y + 11 <= a.height(); ++y) {
        for (int x = 0; x + 11 <= a.width(); ++x) {
            double ma = 0.0, mb = 0.0, aa = 0.0, bb = 0.0, ab = 0.0;
            for (int i = 0; i < 121; ++i) {
                const double p = a.row(y + i / 11)[x + i % 11], q = b.row(y + i / 11)[x + i % 11];
                const double wi = w[static_cast<unsigned>(i)];
                ma += wi * p;
                mb += wi * q;
                aa += wi * p * p;
                bb += wi * q * q;
                ab += wi * p * q;
            }
            const double cs = (2.0 * (ab - ma * mb) + c2) / (aa - ma * ma + bb - mb * mb + c2);
            const double l = (2.0 * ma * mb + c1) / (ma * ma + mb * mb + c1);
            result.contrast += std::max(cs, 0.0);
            result.ssim += std::max(cs, 0.0) * l;
            ++places;
        }
    }
    return {result.ssim / places, result.contrast / places};
}

TEST_SUITE("unit") {
    TEST_CASE("ssim_means: the separable filter differs from the definition by less than 1e-9") {
        for (const char* kind : {"texture", "inverted", "patches", "flat"}) {
            CAPTURE(kind);
            const auto pair = test::picture(kind, {83, 71});
            const Plane<float> a = rounded_luma(pair.sr, Luma::y601, Profile::cuda);
            const Plane<float> b = rounded_luma(pair.hr, Luma::y601, Profile::cuda);
            const SsimMeans expected = by_definition(a, b);
            for (const Samples samples : {Samples::whole, Samples::fractional}) {
                const SsimMeans means = ssim_means(a, b, samples);
                CHECK(std::abs(means.ssim - expected.ssim) < 1e-9);
                CHECK(std::abs(means.contrast - expected.contrast) < 1e-9);
            }
        }
    }

    TEST_CASE("ssim_means: fractional samples keep their 16 bits") {
        Plane<float> a(40, 33), b(40, 33);
        for (int y = 0; y < 33; ++y) {
            for (int x = 0; x < 40; ++x) {
                a.row_(y)[x] = static_cast<float>(test::hash32(x, y, 1) % 65281U) / 256.0F;
                b.row_(y)[x] = static_cast<float>(test::hash32(x, y, 2) % 65281U) / 256.0F;
            }
        }
        const SsimMeans expected = by_definition(a, b);
        const SsimMeans means = ssim_means(a, b, Samples::fractional);
        CHECK(std::abs(means.ssim - expected.ssim) < 1e-9);
        CHECK(std::abs(means.contrast - expected.contrast) < 1e-9);
    }
}

}  // namespace
}  // namespace ultrasr
