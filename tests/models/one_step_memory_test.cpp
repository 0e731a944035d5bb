#include "models/one_step_memory.h"

#include <sys/resource.h>

#include "data/base/error.h"
#include "models/one_step_files.h"
#include "tests/one_step_student.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using test::contains;
using test::sentence_of;

namespace {

const OneStepModel& tiny_model() {
    static const LoadedOneStep loaded = load_base_model(test::one_step_family(), {});
    return loaded.model;
}

constexpr double gib = 1024.0 * 1024.0 * 1024.0;

std::int64_t largest(std::int64_t side, const LatentTileOptions& tiles,
                     const Placement& placement = {}) {
    return one_step_memory(tiny_model(), side, side, tiles, placement).largest();
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("one_step_memory: grows with the picture, shrinks with tiles and half precision") {
        const LatentTileOptions whole{.tile = 0}, tiles{.tile = 32, .overlap = 8};
        CHECK(largest(1024, whole) < largest(2048, whole));
        const auto unet = [&](const LatentTileOptions& options) {
            return one_step_memory(tiny_model(), 2048, 2048, options, {}).unet;
        };
        CHECK(unet(tiles) < unet(whole) / 20);  // 32 x 32 of 256 x 256 latents
        LatentTileOptions batch = tiles;
        batch.batch = 4;
        CHECK(unet(batch) == 4 * unet(tiles));
        CHECK(unet({.tile = 256}) == unet(whole));  // one tile holds it
        const Placement half{.dtype = c10::kBFloat16};
        CHECK(largest(2048, tiles, half) < largest(2048, tiles));
    }

    TEST_CASE("free_memory: the process's own limit counts") {
        const std::int64_t before = free_memory({});
        CHECK(before > std::int64_t{1} << 20);
        rlimit old{};
        REQUIRE(::getrlimit(RLIMIT_AS, &old) == 0);
        rlimit tight = old;
        tight.rlim_cur = 1;  // less than is taken already
        REQUIRE(::setrlimit(RLIMIT_AS, &tight) == 0);
        const std::int64_t after = free_memory({});
        REQUIRE(::setrlimit(RLIMIT_AS, &old) == 0);
        CHECK(after == 0);
    }

    TEST_CASE("check_memory: names a tile, a precision or a size that would fit, and it does") {
        const LatentTileOptions tiles{.tile = 96};
        const auto error = [&](std::int64_t side, const LatentTileOptions& options, double most) {
            return sentence_of(Fault::device,
                               [&] { check_memory(tiny_model(), side, side, options, {}, most); });
        };
        CHECK(error(512, tiles, 64.0) == "no error");

        // Too many tiles at once for the UNet: one that fits
        const LatentTileOptions many{.tile = 256, .batch = 200};
        const OneStepMemory m = one_step_memory(tiny_model(), 4096, 4096, many, {});
        REQUIRE(m.unet > m.vae);
        const double between = static_cast<double>(m.vae + m.unet) / 2.0 / gib;
        const std::string tile = error(4096, many, between);
        CAPTURE(tile);
        CHECK(contains(tile, "4096 x 4096 pixels take"));
        CHECK(contains(tile, "--tile 96 would fit"));
        CHECK(error(4096, {.tile = 96}, between) == "no error");

        // The VAE is: half of the bytes a number
        const double vae = static_cast<double>(m.vae) / gib;
        const std::string precision = error(4096, tiles, 0.9 * vae);
        CAPTURE(precision);
        CHECK(contains(precision, "--precision bf16 would fit"));

        // Nothing helps but a smaller picture
        const std::string smaller = error(4096, tiles, 0.2 * vae);
        CAPTURE(smaller);
        CHECK(contains(smaller, "cut the picture: "));
        const std::int64_t side = std::stoll(smaller.substr(smaller.find("picture: ") + 9));
        CHECK(side >= 64);
        CHECK(side < 4096);
        CHECK(error(side, {.tile = 32}, 0.2 * vae) == "no error");
        CHECK(contains(error(512, tiles, 1e-6), "not even 64 x 64 pixels"));
    }
}
