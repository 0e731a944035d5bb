// Blur kernels and their application against plain sums in double precision.
#include "degradation/steps/blur.h"
#include "degradation/steps/blur_pixel.h"

#include "degradation/steps/blur_pixel.h"
#include "degradation/steps/steps.h"
#include "tests/degradation/steps.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

/// Walks to an index, turning round at the edges without repeating them.
int bounced(int index, int n) {
    int at = 0, step = 1;
    if (n == 1) return 0;
    for (int i = 0; i < std::abs(index); ++i) {  // alike on both sides of 0
        if (at + step < 0 || at + step >= n) step = -step;
        at += step;
    }
    return at;
}

/// Every tap, in double.
std::vector<double> plain_blur(const std::vector<double>& plane, int height, int width,
                               const std::vector<double>& taps, int size) {
    const int R = size / 2;
    std::vector<double> out;
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            double sum = 0;
            for (int j = -R; j <= R; ++j) {
                for (int i = -R; i <= R; ++i) {
                    const int source = bounced(y + j, height) * width + bounced(x + i, width);
                    sum += taps[static_cast<std::size_t>((j + R) * size + i + R)] *
                           plane[static_cast<std::size_t>(source)];
                }
            }
            out.push_back(sum);
        }
    }
    return out;
}

double off_plain(const Planar& picture, const BlurKernel& kernel) {
    const std::vector<double> taps(kernel.taps.begin(), kernel.taps.end());
    const Planar ours = blur(picture, kernel);
    double largest = test::same_shape(ours, picture) ? 0 : INFINITY;
    for (int c = 0; c < picture.channels(); ++c) {
        const std::vector<double> wanted =
            plain_blur({picture.plane(c), picture.plane(c) + picture.plane_values()},
                       picture.height(), picture.width(), taps, kernel.size);
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            largest = std::max(largest, std::abs(ours.plane(c)[i] - wanted[i]));
        }
    }
    return largest;
}

std::vector<KernelSpec> all_shapes() {
    std::vector<KernelSpec> specs;
    for (const KernelType type :
         {KernelType::iso, KernelType::aniso, KernelType::generalized_iso,
          KernelType::generalized_aniso, KernelType::plateau_iso, KernelType::plateau_aniso}) {
        for (const auto& [size, sigma] :
             {std::pair{1, 1.0}, {3, 0.2}, {7, 3.0}, {13, 1.1}, {21, 0.6}}) {
            specs.push_back({.type = type,
                             .size = size,
                             .sigma_x = sigma,
                             .sigma_y = 0.7 * sigma,
                             .rotation = 0.8,
                             .beta = size == 13 ? 0.6 : 1.7});
        }
    }
    specs.push_back({.type = KernelType::sinc, .size = 7, .omega = 1.3});
    specs.push_back({.type = KernelType::sinc, .size = 13, .omega = std::numbers::pi});
    return specs;
}

KernelSpec drawn_spec(Rng& rng) {
    const auto between = [&](double a, double b) { return a + (b - a) * rng.uniform(); };
    return {.type = static_cast<KernelType>(rng.below(7)),
            .size = 7 + 2 * static_cast<int>(rng.below(8)),
            .sigma_x = between(0.2, 3),
            .sigma_y = between(0.2, 3),
            .rotation = between(-std::numbers::pi, std::numbers::pi),
            .beta = between(0.5, 4),
            .omega = between(std::numbers::pi / 5, std::numbers::pi)};
}

TEST_SUITE("unit") {
    TEST_CASE("reflected: the edge is not repeated, as often as needed") {
        for (const int n : {1, 2, 3, 7}) {
            for (int i = -60; i < 60; ++i) REQUIRE(reflected(i, n) == bounced(i, n));
        }
        CHECK(reflected(-1, 5) == 1);
        CHECK(reflected(5, 5) == 3);
    }

    TEST_CASE("blur: every path, shape and tier equals the plain sum") {
        double exact = 0, fast = 0;
        for (const auto& [height, width] :
             {std::pair{1, 1}, {3, 2}, {2, 3}, {1, 40}, {9, 33}, {4, 171}}) {
            const Planar picture = test::noise_picture(2, height, width, 1, -0.2, 1.3);
            for (const KernelSpec& spec : all_shapes()) {
                INFO(kernel_type_name(spec.type), " ", spec.size, " on ", width, " x ", height);
                const double d = off_plain(picture, make_kernel(spec));
                CHECK(d <= 2e-6);
                exact = std::max(exact, d);
                const double f = off_plain(picture, make_kernel(spec, Tier::fast));
                CHECK(f <= 4e-6);
                fast = std::max(fast, f);
            }
        }
        MESSAGE("largest difference: exact " << exact << ", fast " << fast);
    }

    TEST_CASE("blur: it correlates, so a lone tap looks its own way") {
        std::vector<float> taps(25, 0.0F);
        taps[0 * 5 + 4] = 1;  // two up, two right
        const Planar picture = test::noise_picture(1, 11, 12, 2);
        const Planar out = blur(picture, make_kernel(5, taps));
        CHECK(out.row(0, 6)[5] == picture.row(0, 4)[7]);
        CHECK(out.row(0, 0)[11] == picture.row(0, 2)[9]);  // reflected in both
        Rng rng(3, 0);
        for (float& tap : taps) tap = static_cast<float>(rng.uniform() - 0.4) / 5;
        const BlurKernel kernel = make_kernel(5, taps);
        CHECK_FALSE(kernel.folds);
        CHECK(off_plain(picture, kernel) <= 2e-6);
    }

    TEST_CASE("blur: a pulse leaves every bit, whatever its values") {
        Planar picture = test::noise_picture(3, 5, 6, 4, -2, 3);
        CHECK(test::same_bytes(blur(picture, make_kernel(KernelSpec{})), picture));
        std::vector<float> taps(441, 0.0F);
        taps[220] = 1;
        CHECK(test::same_bytes(blur(picture, make_kernel(21, taps)), picture));
        CHECK(test::same_bytes(blur(picture, make_kernel(3, std::vector<float>(9, 0.0F))),
                               test::flat_picture(3, 5, 6, 0.0F)));
    }

    TEST_CASE("make_kernel: which kernels fold, separate or are cut") {
        const auto kernel = [](KernelType type, double sigma, Tier tier = Tier::exact) {
            return make_kernel(
                {.type = type, .size = 21, .sigma_x = sigma, .sigma_y = 1.4, .rotation = 0.5},
                tier);
        };
        CHECK(kernel(KernelType::iso, 2).separable.size() == 21);
        CHECK(kernel(KernelType::iso, 0.5).separable.size() < 9);
        CHECK(kernel(KernelType::aniso, 2).separable.empty());
        CHECK(kernel(KernelType::plateau_iso, 2).folds);
        CHECK(kernel(KernelType::generalized_iso, 2).folds);
        CHECK_FALSE(kernel(KernelType::aniso, 2).folds);
        CHECK(make_kernel({.type = KernelType::sinc, .size = 21, .omega = 2}).folds);
        // What is left out weighs less than the tier says
        for (const auto& [tier, budget] : {std::pair{Tier::exact, 0x1p-25}, {Tier::fast, 1e-6}}) {
            const BlurKernel narrow = kernel(KernelType::aniso, 0.4, tier);
            double left_out = 0, visited = 0;
            for (int y = 0; y < 21; ++y) {
                const TapRow row = narrow.rows[static_cast<std::size_t>(y)];
                for (int x = 0; x < 21; ++x) {
                    const bool inside = x >= row.first && x <= row.last;
                    visited += inside;
                    if (!inside)
                        left_out += std::abs(narrow.taps[static_cast<std::size_t>(21 * y + x)]);
                }
            }
            CHECK(visited < 200);
            CHECK(left_out <= budget);
        }
    }

    TEST_CASE("make_kernel: a truncated Gaussian is narrower than its sigma") {
        const BlurKernel kernel = make_kernel({.type = KernelType::iso, .size = 7, .sigma_x = 3});
        double variance = 0;
        for (int y = 0; y < 7; ++y) {
            for (int x = -3; x <= 3; ++x) {
                variance += static_cast<float>(x * x) *
                            kernel.taps[static_cast<std::size_t>(7 * y + x + 3)];
            }
        }
        CHECK(std::abs(std::sqrt(variance) - 1.835) < 1e-3);  // degradation.md, corrections
    }

    TEST_CASE("make_kernel: columns are x: a wide sigma_x with no rotation blurs along the row") {
        const BlurKernel k =
            make_kernel({.type = KernelType::aniso, .size = 7, .sigma_x = 3, .sigma_y = 0.3});
        CHECK(k.taps[7 * 3 + 6] > 0.1F);
        CHECK(k.taps[7 * 6 + 3] < 1e-6F);
        // A positive angle turns x towards y, downwards
        const BlurKernel turned = make_kernel({.type = KernelType::aniso,
                                               .size = 7,
                                               .sigma_x = 3,
                                               .sigma_y = 0.3,
                                               .rotation = std::numbers::pi / 4});
        CHECK(turned.taps[7 * 5 + 5] > 100 * turned.taps[7 * 1 + 5]);
    }

    TEST_CASE("KernelSpec: faults name the key; JSON and back keeps what the type uses") {
        const auto fault = [](const char* json) {
            return test::sentence_of([&] { KernelSpec::from_json(Json::parse(json)); });
        };
        CHECK(test::has(fault(R"({"type":"iso","size":8})"), "odd and from 1 to 81, not 8"));
        CHECK(test::has(fault(R"({"type":"iso","size":83})"), "odd and from 1 to 81, not 83"));
        CHECK(test::has(fault(R"({"type":"iso","size":7.5})"), "'size' is a whole number"));
        CHECK(test::has(fault(R"({"type":"iso","size":7,"sigma_x":0})"), "sigma is above 0"));
        CHECK(test::has(fault(R"({"type":"plateau_iso","size":7,"beta":-1})"), "beta is above 0"));
        CHECK(test::has(fault(R"({"type":"sinc","size":7,"omega":3.2})"), "(0, pi], not at 3.2"));
        CHECK(test::has(fault(R"({"type":"iso","size":7,"sigma":1})"),
                        "unknown key 'sigma'; known:"));
        CHECK(test::has(fault(R"({"size":7})"), "'type' is missing"));
        CHECK(test::has(test::sentence_of([] { kernel_type("box"); }, Fault::usage),
                        "unknown kernel type 'box'; known: iso, aniso"));
        CHECK(test::has(test::sentence_of([] { make_kernel(4, std::vector<float>(16, 0.0F)); }),
                        "square with an odd side"));
        for (const KernelSpec& spec : all_shapes()) {
            const KernelSpec again = KernelSpec::from_json(spec.json());
            CHECK(make_kernel(again).hash() == make_kernel(spec).hash());
            CHECK(again.json() == spec.json());
        }
        CHECK_FALSE(all_shapes()[0].json().contains("sigma_y"));
    }

    TEST_CASE("usm_taps: the Gaussian of 51 taps has sigma 8") {
        const std::vector<float> taps = usm_taps(50);
        REQUIRE(taps.size() == 26);
        CHECK(usm_taps(51) == taps);
        double sum = taps[0];
        for (std::size_t d = 1; d < taps.size(); ++d) {
            sum += 2.0 * taps[d];
            const double x = static_cast<double>(d);
            CHECK(std::abs(taps[d] / taps[0] - std::exp(-x * x / 128)) < 1e-6);
        }
        CHECK(std::abs(sum - 1) < 1e-6);
        for (const int radius : {0, 201}) {
            CHECK(test::has(test::sentence_of([&] { usm_taps(radius); }), "lies in 1 to 200"));
        }
    }

    TEST_CASE("usm_sharpen: each option does what it says, against the formula in double") {
        // A picture of clear steps: no residual close to the threshold
        const int h = 9, w = 12;
        const Planar picture = test::made_picture(
            3, h, w, [](int c, int y, int x) { return (x > 5) != (y > 3) ? 0.7 + 0.05 * c : 0.3; });
        for (const UsmOptions& o :
             {UsmOptions{}, UsmOptions{1.5, 6, 10}, UsmOptions{0.8, 7, 40.5}}) {
            CAPTURE(o.radius);
            const int n = o.radius | 1, R = n / 2;
            const double sigma = 0.3 * ((n - 1) * 0.5 - 1) + 0.8;
            std::vector<double> taps;
            double sum = 0;
            for (int j = -R; j <= R; ++j) {
                for (int i = -R; i <= R; ++i) {
                    taps.push_back(std::exp(-(i * i + j * j) / (2 * sigma * sigma)));
                    sum += taps.back();
                }
            }
            for (double& tap : taps) tap /= sum;
            const Planar ours = usm_sharpen(picture, o);
            for (int c = 0; c < 3; ++c) {
                const std::vector<double> I(picture.plane(c), picture.plane(c) + h * w);
                const std::vector<double> B = plain_blur(I, h, w, taps, n);
                std::vector<double> mask;
                for (std::size_t i = 0; i < I.size(); ++i) {
                    const double residual = 255 * std::abs(I[i] - B[i]);
                    REQUIRE(std::abs(residual - o.threshold) > 1e-3);
                    mask.push_back(residual > o.threshold);
                }
                const std::vector<double> S = plain_blur(mask, h, w, taps, n);
                for (std::size_t i = 0; i < I.size(); ++i) {
                    const double P = std::clamp(I[i] + o.weight * (I[i] - B[i]), 0.0, 1.0);
                    REQUIRE(std::abs(ours.plane(c)[i] - (S[i] * P + (1 - S[i]) * I[i])) < 4e-6);
                }
            }
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE("make_kernel: 3000 drawn kernels sum to 1, stay finite and are point-symmetric") {
        Rng rng(5, 0);
        for (int n = 0; n < 3000; ++n) {
            const KernelSpec spec = drawn_spec(rng);
            const BlurKernel kernel = make_kernel(spec);
            CAPTURE(spec.json().dump());
            double sum = 0;
            const std::size_t all = kernel.taps.size();
            for (std::size_t i = 0; i < all; ++i) {
                REQUIRE(std::abs(kernel.taps[i]) <= 1);  // false for a NaN
                REQUIRE(std::abs(kernel.taps[i] - kernel.taps[all - 1 - i]) <= 1e-7F);
                sum += kernel.taps[i];
            }
            REQUIRE(std::abs(sum - 1) <= 1e-6);
            if (kernel.separable.empty()) continue;
            const int R = static_cast<int>(kernel.separable.size()) / 2, K = kernel.size;
            for (int y = -R; y <= R; ++y) {
                for (int x = -R; x <= R; ++x) {
                    const float product = kernel.separable[static_cast<std::size_t>(R + y)] *
                                          kernel.separable[static_cast<std::size_t>(R + x)];
                    const auto at = static_cast<std::size_t>((K / 2 + y) * K + K / 2 + x);
                    REQUIRE(std::abs(product - kernel.taps[at]) <= 2e-7F);
                }
            }
        }
    }

    TEST_CASE("BlurKernel::hash: any tap and the size count") {
        const std::vector<float> taps(9, 1.0F / 9);
        std::vector<float> other = taps;
        other[8] = std::nextafter(other[8], 1.0F);
        CHECK(make_kernel(3, taps).hash() == make_kernel(3, taps).hash());
        CHECK(make_kernel(3, taps).hash() != make_kernel(3, other).hash());
        CHECK(make_kernel(1, {1.0F}).hash() != make_kernel(3, taps).hash());
    }
}

}  // namespace
}  // namespace ultrasr
