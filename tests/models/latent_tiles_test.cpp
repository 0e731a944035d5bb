#include "models/latent_tiles.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "tests/models/formula_picture.h"
#include "tests/models/nets.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

using Offsets = std::vector<std::int64_t>;

at::Tensor latent(std::int64_t n, std::int64_t h, std::int64_t w) {
    return test::uniform({n, 4, h, w}, -3.0, 3.0, 5);
}

float largest(const at::Tensor& x) { return x.abs().max().item<float>(); }

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("gaussian_tile_weights equals the formula in double, symmetric and official") {
        const Json golden = test::golden_json("models_latent_tiles.json");
        CHECK(golden.at("weights").size() == 4);
        for (const Json& c : golden.at("weights")) {
            CAPTURE(c.at("side").get<int>());
            const std::int64_t side = c.at("side");
            const bool official = c.at("official");
            const at::Tensor weights = gaussian_tile_weights(
                side, official ? GaussianCentre::official : GaussianCentre::symmetric);
            CHECK((weights.sizes() == at::IntArrayRef({side, side})));
            const float* w = weights.const_data_ptr<float>();
            double worst = 0.0;
            std::size_t i = 0;
            for (const double expected : c.at("rows").at(0)) {
                worst = std::max(worst, std::abs(static_cast<double>(w[i++]) / expected - 1.0));
            }
            CHECK(i == static_cast<std::size_t>(side * side));
            CHECK(worst < 1e-7);  // one rounding to float32
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("plan_latent_tiles: 24 tiles of 96 for 3024 x 2008 pixels, the last ones flush") {
        const LatentTilePlan plan = plan_latent_tiles(251, 378, {});
        CHECK(plan.side == 96);
        CHECK(plan.ys == Offsets{0, 64, 128, 155});
        CHECK(plan.xs == Offsets{0, 64, 128, 192, 256, 282});
        // A tile that ends on the border is the last one
        CHECK(plan_latent_tiles(96, 160, {}).xs == Offsets{0, 64});
        CHECK(plan_latent_tiles(96, 161, {}).xs == Offsets{0, 64, 65});
        CHECK(plan_latent_tiles(96, 160, {}).ys == Offsets{0});
    }

    TEST_CASE("plan_latent_tiles: tiles shrink to the narrow side, and keep a stride") {
        LatentTileOptions options;
        LatentTilePlan plan = plan_latent_tiles(50, 120, options);  // 25 apart
        CHECK(plan.side == 50);
        CHECK(plan.ys == Offsets{0});
        CHECK(plan.xs == Offsets{0, 25, 50, 70});
        options.centre = GaussianCentre::official;  // 50 - 32 apart
        plan = plan_latent_tiles(50, 120, options);
        CHECK(plan.xs == Offsets{0, 18, 36, 54, 70});
        plan = plan_latent_tiles(20, 60, options);  // the official rule would never end
        CHECK(plan.side == 20);
        CHECK(plan.xs == Offsets{0, 10, 20, 30, 40});
        CHECK(plan_latent_tiles(1, 3, options).xs == Offsets{0, 1, 2});
        // An overlap that the tile as asked for has room for is kept
        CHECK(plan_latent_tiles(9, 12, {.tile = 8, .overlap = 6}).xs == Offsets{0, 2, 4});
    }

    TEST_CASE("plan_latent_tiles: impossible tiles are a usage error") {
        for (const LatentTileOptions& wrong :
             {LatentTileOptions{.tile = 32, .overlap = 32}, LatentTileOptions{.tile = -1},
              LatentTileOptions{.tile = 8, .overlap = -1}}) {
            CHECK_THROWS_AS(plan_latent_tiles(100, 100, wrong), Error);
        }
        CHECK_THROWS_AS(predict_tiled(latent(1, 9, 9), {.tile = 4, .overlap = 1, .batch = 0},
                                      [](const at::Tensor& x) { return x; }),
                        Error);
    }

    TEST_CASE("predict_tiled: what fits into one tile goes through whole") {
        for (const LatentTileOptions& options :
             {LatentTileOptions{.tile = 0}, LatentTileOptions{.tile = 12, .overlap = 4}}) {
            const at::Tensor z = latent(2, 9, 16);  // 144 latents
            int calls = 0;
            const at::Tensor result = predict_tiled(z, options, [&](const at::Tensor& x) {
                ++calls;
                CHECK((x.sizes() == z.sizes()));
                return at::sin(x);
            });
            CHECK(calls == 1);
            CHECK(result.equal(at::sin(z)));
            const at::Tensor half = z.to(at::kBFloat16);
            const auto same = [](const at::Tensor& x) { return x; };
            const at::Tensor back = predict_tiled(half, options, same);
            CHECK((back.scalar_type() == at::kFloat));
            CHECK(back.equal(half.to(at::kFloat)));
        }
    }

    TEST_CASE("predict_tiled: a tile's weight decides, as the official y midpoint shows") {
        // Two tiles one above the other, the first answers 0, the second 1: on their overlap stands
        // the second one's share
        for (const GaussianCentre centre : {GaussianCentre::symmetric, GaussianCentre::official}) {
            LatentTileOptions options{.tile = 8, .overlap = 4, .centre = centre};
            float answer = 0.0F;
            const at::Tensor share =
                predict_tiled(at::zeros({1, 4, 12, 8}), options, [&](const at::Tensor& x) {
                    return at::zeros_like(x) + std::exchange(answer, 1.0F);
                });
            const double middle = centre == GaussianCentre::official ? 4.0 : 3.5;
            const auto bell = [&](double y) {
                return std::exp(-(y - middle) * (y - middle) / (64.0 * 0.02));
            };
            for (int y = 0; y < 12; ++y) {
                const double first = y < 8 ? bell(y) : 0.0;
                const double second = y >= 4 ? bell(y - 4) : 0.0;
                CHECK(share[0][0][y][0].item<float>() ==
                      doctest::Approx(second / (first + second)).epsilon(1e-5));
            }
        }
    }

    TEST_CASE("predict_tiled: groups hold up to `batch` tiles, each with all latents of z") {
        const at::Tensor z = latent(2, 12, 20).to(at::kBFloat16);
        std::vector<std::int64_t> groups;
        const at::Tensor result =
            predict_tiled(z, {.tile = 8, .overlap = 4, .batch = 3}, [&](const at::Tensor& x) {
                CHECK((x.scalar_type() == at::kBFloat16));
                CHECK(x.is_contiguous());
                CHECK((x.sizes().slice(1) == at::IntArrayRef({4, 8, 8})));
                groups.push_back(x.size(0));
                return at::cat({x, x.narrow(1, 0, 1)}, 1);  // five channels
            });
        CHECK(groups == std::vector<std::int64_t>{6, 6, 4});  // 2 x 4 tiles
        CHECK((result.sizes() == at::IntArrayRef({2, 5, 12, 20})));
        CHECK((result.scalar_type() == at::kFloat));
        CHECK(largest(result.narrow(1, 0, 4) - z.to(at::kFloat)) < 2e-6F);
    }

    TEST_CASE("predict_tiled: a prediction of another size is our fault; it can be interrupted") {
        const LatentTileOptions options{.tile = 8, .overlap = 4};
        const auto cut = [](const at::Tensor& x) { return x.narrow(3, 0, 7); };
        CHECK_THROWS_AS(predict_tiled(latent(1, 12, 12), options, cut), Error);
        int calls = 0;
        const auto stop = [&](const at::Tensor& x) {
            ++calls;
            Progress::interrupt();
            return x;
        };
        CHECK_THROWS_AS(predict_tiled(latent(1, 12, 12), options, stop), Interrupted);
        Progress::resume();
        CHECK(calls == 1);
    }
}

TEST_SUITE("property") {
    TEST_CASE("plan_latent_tiles: every latent is covered, every tile inside") {
        for (const GaussianCentre centre : {GaussianCentre::symmetric, GaussianCentre::official}) {
            const LatentTileOptions options{.tile = 9, .overlap = 5, .centre = centre};
            int wrong = 0;
            for (std::int64_t h = 1; h <= 30; ++h) {
                for (std::int64_t w = 1; w <= 30; ++w) {
                    const LatentTilePlan plan = plan_latent_tiles(h, w, options);
                    for (const auto& [offsets, length] : {std::pair{plan.ys, h}, {plan.xs, w}}) {
                        wrong += offsets.front() != 0 || offsets.back() + plan.side != length;
                        for (std::size_t i = 1; i < offsets.size(); ++i) {
                            const std::int64_t stride = offsets[i] - offsets[i - 1];
                            wrong += stride <= 0 || stride > plan.side;
                        }
                    }
                }
            }
            CHECK(wrong == 0);
        }
    }

    TEST_CASE("predict_tiled: weights add up to one, whatever the sizes") {
        for (const GaussianCentre centre : {GaussianCentre::symmetric, GaussianCentre::official}) {
            for (const auto& [h, w] : {std::pair{13, 13}, {8, 31}, {40, 9}, {3, 200}, {25, 26}}) {
                const at::Tensor z = latent(1, h, w);
                const at::Tensor result =
                    predict_tiled(z, {.tile = 8, .overlap = 3, .centre = centre},
                                  [](const at::Tensor& x) { return x; });
                CHECK((result.sizes() == z.sizes()));
                // A few roundings of values up to 3
                CHECK(largest(result - z) < 2e-6F);
            }
        }
    }

    TEST_CASE("predict_tiled: tiles one by one and in groups of eight give the same bits") {
        const at::Tensor z = latent(2, 29, 41);
        const auto network = [](const at::Tensor& x) { return at::sin(x * 2.0) + x; };
        LatentTileOptions options{.tile = 12, .overlap = 5};
        const at::Tensor one = predict_tiled(z, options, network);
        for (const std::int64_t batch : {2, 3, 8, 100}) {
            options.batch = batch;
            CHECK(predict_tiled(z, options, network).equal(one));
        }
    }
}
