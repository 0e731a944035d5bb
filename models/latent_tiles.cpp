#include "models/latent_tiles.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "data/base/error.h"
#include "data/base/progress.h"

namespace ultrasr {
namespace {

std::vector<std::int64_t> offsets(std::int64_t length, std::int64_t side, std::int64_t stride) {
    std::vector<std::int64_t> result;
    for (std::int64_t at = 0; at + side < length; at += stride) result.push_back(at);
    result.push_back(length - side);
    return result;
}

at::Tensor predicted(const std::function<at::Tensor(const at::Tensor&)>& predict,
                     const at::Tensor& tiles) {
    Progress::throw_if_interrupted();
    const at::Tensor result = predict(tiles).to(at::kFloat);
    if (result.dim() != 4 || result.size(0) != tiles.size(0) || result.size(2) != tiles.size(2) ||
        result.size(3) != tiles.size(3)) {
        fail(Fault::internal,
             "a prediction must keep the count and size of its {} latents of {} x {}",
             tiles.size(0), tiles.size(2), tiles.size(3));
    }
    return result;
}

}  // namespace

LatentTilePlan plan_latent_tiles(std::int64_t h, std::int64_t w, const LatentTileOptions& options) {
    if (options.tile <= 0 || options.overlap < 0 || options.overlap >= options.tile) {
        fail(Fault::usage,
             "tiles of {} latents cannot overlap by {}; the overlap must be smaller than the tile",
             options.tile, options.overlap);
    }
    LatentTilePlan plan;
    plan.side = std::min({options.tile, h, w});
    std::int64_t overlap = options.overlap;
    if (plan.side < options.tile &&
        (options.centre == GaussianCentre::symmetric || overlap >= plan.side)) {
        overlap = std::min(overlap, plan.side / 2);
    }
    plan.ys = offsets(h, plan.side, plan.side - overlap);
    plan.xs = offsets(w, plan.side, plan.side - overlap);
    return plan;
}

at::Tensor gaussian_tile_weights(std::int64_t side, GaussianCentre centre) {
    constexpr double variance = 0.01;  // in units of the side
    const double n = static_cast<double>(side);
    const double x0 = (n - 1.0) / 2.0;
    const double y0 = centre == GaussianCentre::official ? n / 2.0 : x0;
    const auto bell = [&](double d) { return std::exp(-d * d / (n * n) / (2.0 * variance)); };
    at::Tensor weights = at::empty({side, side}, at::kFloat);
    float* to = weights.mutable_data_ptr<float>();
    for (std::int64_t y = 0; y < side; ++y) {
        for (std::int64_t x = 0; x < side; ++x) {
            *to++ = static_cast<float>(bell(static_cast<double>(y) - y0) *
                                       bell(static_cast<double>(x) - x0));
        }
    }
    return weights;
}

at::Tensor predict_tiled(const at::Tensor& z, const LatentTileOptions& options,
                         const std::function<at::Tensor(const at::Tensor&)>& predict) {
    if (options.batch < 1) {
        fail(Fault::usage, "tiles are run in groups of 1 or more, not {}", options.batch);
    }
    const std::int64_t n = z.size(0), h = z.size(2), w = z.size(3);
    if (options.tile == 0 || h * w <= options.tile * options.tile) return predicted(predict, z);

    const LatentTilePlan plan = plan_latent_tiles(h, w, options);
    const std::int64_t side = plan.side;
    const at::Tensor weights = gaussian_tile_weights(side, options.centre).to(z.device());
    const auto columns = static_cast<std::int64_t>(plan.xs.size());
    const auto count = static_cast<std::int64_t>(plan.ys.size()) * columns;
    const auto cut = [&](const at::Tensor& whole, std::int64_t tile) {
        return whole.narrow(-2, plan.ys[static_cast<std::size_t>(tile / columns)], side)
            .narrow(-1, plan.xs[static_cast<std::size_t>(tile % columns)], side);
    };
    at::Tensor sum;
    const at::Tensor total = at::zeros({h, w}, weights.options());
    for (std::int64_t first = 0; first < count; first += options.batch) {
        // Predict a group of tiles
        std::vector<at::Tensor> tiles;
        for (std::int64_t k = first; k < std::min(first + options.batch, count); ++k) {
            tiles.push_back(cut(z, k));
        }
        const at::Tensor prediction =
            predicted(predict, tiles.size() == 1 ? tiles[0].contiguous() : at::cat(tiles));
        // Add them one after the other, so that their grouping does not show
        if (!sum.defined()) sum = at::zeros({n, prediction.size(1), h, w}, weights.options());
        for (std::size_t k = 0; k < tiles.size(); ++k) {
            const std::int64_t tile = first + static_cast<std::int64_t>(k);
            cut(sum, tile).add_(weights *
                                prediction.narrow(0, static_cast<std::int64_t>(k) * n, n));
            cut(total, tile).add_(weights);
        }
    }
    return sum / total;
}

}  // namespace ultrasr
