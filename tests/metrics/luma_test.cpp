#include "metrics/luma.h"

#include <array>
#include <cmath>

#include "data/image.h"
#include "tests/metrics/pictures.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

float luma_of(int r, int g, int b, Luma kind, Profile profile) {
    const std::array rgb{static_cast<float>(r) / 255.0F, static_cast<float>(g) / 255.0F,
                         static_cast<float>(b) / 255.0F};
    float y = 0.0F;
    luma_row(rgb.data(), 1, kind, profile, &y);
    return y;
}

TEST_SUITE("unit") {
    TEST_CASE("channel_row: cuda multiplies all 256 levels by the reciprocal, cpu divides") {
        std::array<float, 256> levels{}, cuda{}, cpu{};
        for (int k = 0; k < 256; ++k) {
            levels[static_cast<unsigned>(k)] = static_cast<float>(k) / 255.0F;
        }
        channel_row(levels.data(), 256, Profile::cuda, cuda.data());
        channel_row(levels.data(), 256, Profile::cpu, cpu.data());
        int different = 0;
        for (int k = 0; k < 256; ++k) {
            const auto i = static_cast<unsigned>(k);
            CHECK(cuda[i] == static_cast<float>(k) * (1.0F / 255.0F));
            CHECK(cpu[i] == levels[i]);
            different += cuda[i] != cpu[i];
        }
        CHECK(different > 20);  // else the two profiles would be one
    }

    TEST_CASE("channel_row: a value that is no 8-bit level is used as it is") {
        const std::array values{0.5F, 100.001F / 255.0F, 99.999F / 255.0F, -0.1F, 1.499F, 0.3921F};
        std::array<float, values.size()> out{};
        for (const Profile profile : {Profile::cuda, Profile::cpu}) {
            channel_row(values.data(), values.size(), profile, out.data());
            CHECK(out == values);
        }
    }

    TEST_CASE("luma_row: studio swing runs from 16 / 255 to 235 / 255, full range from 0 to 1") {
        for (const Profile profile : {Profile::cuda, Profile::cpu}) {
            // Three rounded float32 operations: 2e-7
            CHECK(std::abs(luma_of(0, 0, 0, Luma::y601, profile) - 16.0F / 255.0F) < 2e-7F);
            CHECK(std::abs(luma_of(255, 255, 255, Luma::y601, profile) - 235.0F / 255.0F) < 2e-7F);
            CHECK(luma_of(0, 0, 0, Luma::yiq, profile) == 0.0F);
            CHECK(std::abs(luma_of(255, 255, 255, Luma::yiq, profile) - 1.0F) < 2e-7F);
            CHECK(std::abs(luma_of(255, 0, 0, Luma::y601, profile) - 81.481F / 255.0F) < 2e-7F);
            CHECK(std::abs(luma_of(0, 255, 0, Luma::y601, profile) - 144.553F / 255.0F) < 2e-7F);
            CHECK(std::abs(luma_of(0, 0, 255, Luma::y601, profile) - 40.966F / 255.0F) < 2e-7F);
            CHECK(std::abs(luma_of(0, 255, 0, Luma::yiq, profile) - 0.587F) < 2e-7F);
        }
    }

    TEST_CASE("luma_row: cuda fuses, cpu rounds every step") {
        // Both chains written out in double, where a product of two float32 is exact
        const auto f = [](double v) { return static_cast<float>(v); };
        int different = 0;
        for (int i = 0; i < 2000; ++i) {
            const int r = static_cast<int>(test::hash32(i, 0, 1) % 256U);
            const int g = static_cast<int>(test::hash32(i, 1, 1) % 256U);
            const int b = static_cast<int>(test::hash32(i, 2, 1) % 256U);
            const float unit = 1.0F / 255.0F;
            const float rf = f(double{f(r)} * unit), gf = f(double{f(g)} * unit),
                        bf = f(double{f(b)} * unit);
            const float red = f(double{rf} * 0.299F);
            const float fused = f(double{bf} * 0.114F + f(double{gf} * 0.587F + red));
            CHECK(luma_of(r, g, b, Luma::yiq, Profile::cuda) == fused);

            const float rc = f(r / 255.0), gc = f(g / 255.0), bc = f(b / 255.0);
            const float two = f(double{f(double{rc} * 0.299F)} + f(double{gc} * 0.587F));
            const float plain = f(double{two} + f(double{bc} * 0.114F));
            CHECK(luma_of(r, g, b, Luma::yiq, Profile::cpu) == plain);
            different += fused != plain;
        }
        CHECK(different > 100);
    }

    TEST_CASE("rounded_luma: whole numbers; float32 decides ties, otherwise in each profile") {
        const auto pair = test::picture("texture", {50, 40});
        for (const Luma kind : {Luma::y601, Luma::yiq}) {
            const Plane<float> plane = rounded_luma(pair.hr, kind, Profile::cuda);
            CHECK(plane.width() == 50);
            CHECK(plane.height() == 40);
            for (int y = 0; y < 40; ++y) {
                std::array<float, 50> exact{};
                luma_row(pair.hr.row(y), 50, kind, Profile::cuda, exact.data());
                for (int x = 0; x < 50; ++x) {
                    const float value = 255.0F * exact[static_cast<unsigned>(x)];
                    CHECK(plane.row(y)[x] == std::round(plane.row(y)[x]));
                    CHECK(std::abs(plane.row(y)[x] - value) <= 0.5F);
                }
            }
        }
        // 299 R + 587 G + 114 B = 500 (mod 1000): float32 decides, and the profiles differ
        int ties_seen = 0;
        int decided_differently = 0;
        for (int i = 0; i < 200000; ++i) {
            const int r = static_cast<int>(test::hash32(i, 0, 2) % 256U);
            const int g = static_cast<int>(test::hash32(i, 1, 2) % 256U);
            const int b = static_cast<int>(test::hash32(i, 2, 2) % 256U);
            if ((299 * r + 587 * g + 114 * b) % 1000 != 500) continue;
            const Image image = test::flat({1, 1}, r, g, b);
            const float cuda = rounded_luma(image, Luma::yiq, Profile::cuda).row(0)[0];
            const float cpu = rounded_luma(image, Luma::yiq, Profile::cpu).row(0)[0];
            ++ties_seen;
            decided_differently += cuda != cpu;
        }
        CHECK(ties_seen > 50);
        CHECK(decided_differently > 5);
    }
}

}  // namespace
}  // namespace ultrasr
