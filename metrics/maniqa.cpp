#include "metrics/maniqa.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <map>
#include <vector>

#include "data/base/progress.h"
#include "data/image.h"
#include "metrics/input_check.h"
#include "metrics/net_metric.h"

namespace ultrasr {
namespace {

constexpr const char* weight_file = "MANIQA_PIPAL-ae6d356b.pth";

constexpr std::size_t crops_on_gpu = 10;  // at once; a CPU's thread is busy with one

/// Calls look(0) ... look(count - 1) on a CPU. With OpenMP and enough crops each thread takes its
/// own: no thread waits for another a hundred times a crop, which on a busy machine costs more than
/// the crop. Otherwise the threads share each crop's operators. The bits are the same.
template <class Look>
void one_by_one(std::size_t count, const Look& look) {
#ifdef _OPENMP
    const auto n = static_cast<std::int64_t>(count);
    if (n >= at::get_num_threads()) {
        at::parallel_for(0, n, 1, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) look(static_cast<std::size_t>(i));
        });
        return;
    }
#endif
    for (std::size_t i = 0; i < count; ++i) look(i);
}

/// The factor itself, not the quotient of the sizes, places the samples.
at::Tensor enlarge(const at::Tensor& rgb) {
    const double factor =
        maniqa_enlargement({static_cast<int>(rgb.size(3)), static_cast<int>(rgb.size(2))});
    if (factor == 1.0) return rgb;
    return at::upsample_bilinear2d(rgb, std::nullopt, /*align_corners=*/false,
                                   at::ArrayRef<double>{factor, factor});
}

class Maniqa : public NetMetric {
  public:
    Maniqa(const MetricInfo& info, const MetricOptions& options)
        : NetMetric(info, options), net_(take_net()) {}

    double score(const Image& sr, const Image& hr) const override {
        return score_in_list(sr, hr, {});
    }

    double score_in_list(const Image& sr, const Image& hr,
                         std::span<const PixelSize> before) const override {
        check_input(info_, sr, hr);
        return maniqa_score(net_, picture_on(sr, placement_),
                            maniqa_crops({sr.width(), sr.height()}, options_.crops, before));
    }

    MetricProvenance provenance() const override {
        MetricProvenance result = NetMetric::provenance();
        result.settings["crops"] = crops_name(options_.crops);
        return result;
    }

  private:
    ManiqaNet take_net() {
        StateDict weights = load(weight_file);
        ManiqaNet net(weights, placement_);
        weights.finish();
        return net;
    }

    ManiqaNet net_;
};

}  // namespace

double maniqa_score(const ManiqaNet& net, const at::Tensor& rgb,
                    std::span<const CropCorner> crops) {
    const c10::InferenceMode inference;

    // Look at equal crops once: a picture that was enlarged has but a few
    std::map<CropCorner, int> times;
    for (const CropCorner& corner : crops) ++times[corner];
    const at::Tensor picture = enlarge(rgb)[0];
    std::vector<at::Tensor> views;
    std::vector<double> counts;
    for (const auto& [corner, count] : times) {
        views.push_back(picture.slice(1, corner.y, corner.y + maniqa_crop_side)
                            .slice(2, corner.x, corner.x + maniqa_crop_side));
        counts.push_back(count);
    }

    // Sum each crop's tokens
    std::vector<double> sums(views.size()), weights(views.size());
    const auto look_at = [&](std::size_t begin, std::size_t end) {
        Progress::throw_if_interrupted();  // a crop takes a second, a picture many
        const c10::InferenceMode guard;    // each thread has its own mode
        const TokenScores tokens = net(at::stack(at::TensorList(&views[begin], end - begin)));
        const at::Tensor w = tokens.weight.to(at::kDouble);
        const at::Tensor sum = (w * tokens.score).sum(1).cpu(), sum_w = w.sum(1).cpu();
        for (std::size_t i = begin; i < end; ++i) {
            sums[i] = sum[static_cast<std::int64_t>(i - begin)].item<double>();
            weights[i] = sum_w[static_cast<std::int64_t>(i - begin)].item<double>();
        }
    };
    if (rgb.is_cpu()) {
        one_by_one(views.size(), [&](std::size_t i) { look_at(i, i + 1); });
    } else {
        for (std::size_t begin = 0; begin < views.size(); begin += crops_on_gpu) {
            look_at(begin, std::min(begin + crops_on_gpu, views.size()));
        }
    }

    // Average over all tokens of all crops together
    double total = 0, total_weight = 0;
    for (std::size_t i = 0; i < views.size(); ++i) {
        total += counts[i] * sums[i];
        total_weight += counts[i] * weights[i];
    }
    return total / (total_weight + 1e-8);  // pyiqa's guard against all weights zero
}

extern const MetricInfo maniqa_pipal;

const MetricInfo maniqa_pipal{
    .name = "maniqa-pipal",
    .title = "MANIQA",
    .unit = "",
    .source =
        "ViT-B/8 features, channel and window attention, weighted mean over the tokens of "
        "20 crops of 224 x 224 (Yang et al. 2022)",
    .reference = Reference::none,
    .better = Better::higher,
    .decimals = 4,
    .min_side = 1,
    .settings = {{"setting", "maniqa_pipal"}, {"crop_border", "0"}},
    .weight_files = {weight_file},
    .make = [](const MetricOptions& o) -> MetricPtr {
        return std::make_unique<Maniqa>(maniqa_pipal, o);
    }};

}  // namespace ultrasr
