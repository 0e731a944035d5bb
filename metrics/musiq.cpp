#include "metrics/musiq.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <vector>

#include "data/image.h"
#include "metrics/input_check.h"
#include "metrics/musiq_patches.h"
#include "metrics/net_metric.h"
#include "metrics/nets/musiq_net.h"

namespace ultrasr {
namespace {

constexpr std::array longer_sides{224, 384, 0};  // of the versions; 0: the picture's own

// Patches that are cut and embedded together: 64 kB each on their way.
constexpr int patches_at_once = 256;

}  // namespace

double musiq_score(const MusiqNet& net, const at::Tensor& rgb) {
    const PixelSize size{static_cast<int>(rgb.size(3)), static_cast<int>(rgb.size(2))};
    std::vector<at::Tensor> tokens;
    for (std::size_t v = 0; v < longer_sides.size(); ++v) {
        const MusiqGrid grid = musiq_grid(size, longer_sides[v]);
        const at::Tensor version = musiq_version(rgb, grid);
        const at::Tensor places =
            net.places(musiq_cells(grid.rows, grid.columns), static_cast<std::int64_t>(v));
        const int rows_at_once = std::max(1, patches_at_once / grid.columns);
        for (int row = 0; row < grid.rows; row += rows_at_once) {
            const int rows = std::min(rows_at_once, grid.rows - row);
            const at::Tensor embedded = net.embed(musiq_patches(version, grid, row, rows));
            tokens.push_back(embedded + places.narrow(0, row * grid.columns, rows * grid.columns));
        }
    }
    return net.score(at::cat(tokens));
}

namespace {

class Musiq final : public NetMetric {
  public:
    Musiq(const MetricInfo& info, const MetricOptions& options, std::int64_t outputs)
        : NetMetric(info, options) {
        StateDict weights = load(info.weight_files.front());
        net_.emplace(weights, outputs, placement_);
        weights.finish();
    }

    double score(const Image& sr, const Image& hr) const override {
        check_input(info_, sr, hr);
        const c10::InferenceMode guard;
        return musiq_score(*net_, picture_on(sr, placement_));
    }

  private:
    std::optional<MusiqNet> net_;
};

/// What the four sets of weights have in common.
MetricInfo musiq_info(const char* name, const char* title, const char* setting, const char* file,
                      std::function<MetricPtr(const MetricOptions&)> make) {
    return {.name = name,
            .title = title,
            .unit = "",
            .source = "transformer over patches at three sizes (Ke et al. 2021), resized as pyiqa",
            .reference = Reference::none,
            .better = Better::higher,
            .decimals = 2,
            .min_side = 1,
            .settings = {{"setting", setting}, {"longer_sides", "224, 384, original"}},
            .weight_files = {file},
            .make = std::move(make),
            .make_set = {}};
}

}  // namespace

extern const MetricInfo musiq, musiq_spaq, musiq_paq2piq, musiq_ava;

const MetricInfo musiq = musiq_info(
    "musiq", "MUSIQ", "musiq_koniq", "musiq_koniq_ckpt-e95806b9.pth",
    [](const MetricOptions& o) -> MetricPtr { return std::make_unique<Musiq>(musiq, o, 1); });

const MetricInfo musiq_spaq = musiq_info(
    "musiq-spaq", "MUSIQ (SPAQ)", "musiq_spaq", "musiq_spaq_ckpt-358bb6af.pth",
    [](const MetricOptions& o) -> MetricPtr { return std::make_unique<Musiq>(musiq_spaq, o, 1); });

const MetricInfo musiq_paq2piq =
    musiq_info("musiq-paq2piq", "MUSIQ (PaQ-2-PiQ)", "musiq_paq2piq",
               "musiq_paq2piq_ckpt-364c0c84.pth", [](const MetricOptions& o) -> MetricPtr {
                   return std::make_unique<Musiq>(musiq_paq2piq, o, 1);
               });

const MetricInfo musiq_ava = musiq_info(
    "musiq-ava", "MUSIQ (AVA)", "musiq_ava", "musiq_ava_ckpt-e8d3f067.pth",
    [](const MetricOptions& o) -> MetricPtr { return std::make_unique<Musiq>(musiq_ava, o, 10); });

}  // namespace ultrasr
