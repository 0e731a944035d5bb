// Outputs of record format version 1 as numbers: every build, processor and later version must make
// these very bytes, or say that it writes another version.
#include <cstdint>
#include <string>
#include <vector>
#include <fmt/format.h>

#include "data/base/random.h"
#include "degradation/pipeline.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

/// Steps, ramps and noise of integers alone: 8-bit levels, so that no platform makes another one.
Planar frozen_picture() {
    cv::Mat rgb(150, 170, CV_8UC3);
    Rng rng(1, 2);
    for (int y = 0; y < rgb.rows; ++y) {
        for (int x = 0; x < 3 * rgb.cols; ++x) {
            const unsigned edge = (x / 24 + y / 13) % 2 == 0 ? 60U : 0U;
            rgb.ptr(y)[x] = static_cast<unsigned char>((static_cast<unsigned>(x + 2 * y) % 140U) +
                                                       edge + rng.below(40));
        }
    }
    return planar_of_rgb(rgb);
}

/// FNV-1a over the 8-bit LR of all levels.
std::uint64_t hash_of(const Degraded& result) {
    std::uint64_t h = 0xcbf29ce484222325;
    for (const DegradedLevel& level : result.levels) {
        const cv::Mat rgb = rgb8_of_planar(level.lr);
        for (std::size_t i = 0; i < 3 * rgb.total(); ++i) h = (h ^ rgb.data[i]) * 0x100000001b3;
    }
    return h;
}

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("run_plan: the bytes of record version 1, on every processor") {
        // Made by this test on 2026-11-25; equal in AVX2 and AVX-512 builds
        const std::vector<std::pair<std::string, std::uint64_t>> expected{
            {"realesrgan", 0x99ae97853e139e4c}, {"osediff", 0x9f05b5ac5e887112},
            {"seesr-mild", 0xc910c2ddef41ed19}, {"stablesr", 0x5f47501411481ef4},
            {"ultra-mild", 0xc99542cd467cbf26}, {"ultra-severe", 0x5ccd9aa2594c4cc8}};
        const Planar gt = frozen_picture();
        for (const auto& [name, hash] : expected) {
            CAPTURE(name);
            const Preset preset = load_preset(name).preset;
            std::uint64_t all = 0;
            for (std::uint32_t draw = 0; draw < 8; ++draw) {
                const Plan plan =
                    make_plan({{7, 11, draw}, gt.size(), {{4, preset}, {14, preset}}});
                all = all * 31 + hash_of(run_plan(plan, gt));
            }
            CHECK(fmt::format("{:016x}", all) == fmt::format("{:016x}", hash));
        }
    }
}
