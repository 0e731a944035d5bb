#include "metrics/lpips.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <cmath>

#include "data/base/error.h"
#include "data/image.h"
#include "data/tensor.h"
#include "metrics/input_check.h"
#include "metrics/net_metric.h"

namespace ultrasr {
namespace {

constexpr double epsilon = 1e-10;  // added to the norm, not under the root (metrics.md 4.3)

/// sum_c w_c (a_c/|a| - b_c/|b|)^2 of one pixel.
template <class T>
float pixel_distance(const T* a, const T* b, const float* w, std::int64_t channels) {
    float aa = 0, bb = 0;
    for (std::int64_t c = 0; c < channels; ++c) {
        const auto x = static_cast<float>(a[c]), y = static_cast<float>(b[c]);
        aa += x * x;
        bb += y * y;
    }
    const float to_unit_a = 1.0F / (std::sqrt(aa) + static_cast<float>(epsilon));
    const float to_unit_b = 1.0F / (std::sqrt(bb) + static_cast<float>(epsilon));
    float sum = 0;
    for (std::int64_t c = 0; c < channels; ++c) {
        const float d = static_cast<float>(a[c]) * to_unit_a - static_cast<float>(b[c]) * to_unit_b;
        sum += w[c] * d * d;
    }
    return sum;
}

template <class T>
double map_distance(const at::Tensor& a, const at::Tensor& b, const float* w) {
    const std::int64_t channels = a.size(1), pixels = a.size(2) * a.size(3);
    const T* from_a = a.const_data_ptr<T>();
    const T* from_b = b.const_data_ptr<T>();
    constexpr std::int64_t block = 1024;  // pixels of one partial sum
    std::vector<double> sums(static_cast<std::size_t>((pixels + block - 1) / block));
    at::parallel_for(
        0, static_cast<std::int64_t>(sums.size()), 1, [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t k = first; k < last; ++k) {
                double sum = 0;
                for (std::int64_t p = k * block; p < std::min(pixels, (k + 1) * block); ++p) {
                    sum +=
                        pixel_distance(from_a + p * channels, from_b + p * channels, w, channels);
                }
                sums[static_cast<std::size_t>(k)] = sum;
            }
        });
    double total = 0;
    for (const double sum : sums) total += sum;
    return total / static_cast<double>(pixels);
}

template <class Net>
at::Tensor lpips_of(const Net& net, const LpipsHeads& heads, const ImageBatch& sr,
                    const ImageBatch& hr, int min_side) {
    require(sr.nchw.sizes() == hr.nchw.sizes(),
            "LPIPS compares batches of equal shape, got {} and {}", shape_text(sr.nchw.sizes()),
            shape_text(hr.nchw.sizes()));
    require(std::min(sr.nchw.size(2), sr.nchw.size(3)) >= min_side,
            "LPIPS needs sides of at least {} pixels, got {}", min_side,
            shape_text(sr.nchw.sizes()));
    std::array<at::Tensor, 5> reference;
    const auto run = [&](const ImageBatch& batch, const typename Net::Tap& tap) {
        const at::Tensor x = imagenet_normalised(batch.nchw, net.placement());
        if constexpr (std::is_same_v<Net, Vgg16>) {
            net.forward(x, max_pool_2x2, tap);
        } else {
            net.forward(x, tap);
        }
    };
    run(hr, [&](std::size_t tap, const at::Tensor& map) { reference[tap] = map; });
    at::Tensor total = at::zeros({sr.nchw.size(0)}, sr.nchw.options());
    run(sr, [&](std::size_t tap, const at::Tensor& map) {
        total = total + heads.distance(tap, map, reference[tap]);
        reference[tap].reset();
    });
    return total;
}

}  // namespace

LpipsHeads::LpipsHeads(StateDict& weights, std::array<std::int64_t, 5> channels,
                       const Placement& placement) {
    for (std::size_t tap = 0; tap < channels.size(); ++tap) {
        const at::Tensor w =
            weights.take(fmt::format("lin{}.model.1.weight", tap), {1, channels[tap], 1, 1});
        weights_[tap] = w.to(placement.device);
        weights_cpu_[tap] = w.view({-1}).contiguous();
    }
}

at::Tensor LpipsHeads::distance(std::size_t tap, const at::Tensor& a, const at::Tensor& b) const {
    const auto unit = [](const at::Tensor& map) {
        const at::Tensor f = map.to(at::kFloat);
        return f / (at::sqrt(at::sum(f * f, {1}, true)) + epsilon);
    };
    const at::Tensor d = unit(a) - unit(b);
    return at::sum(d * d * weights_[tap], {1}).mean({1, 2});
}

double LpipsHeads::fused_distance(std::size_t tap, const at::Tensor& a, const at::Tensor& b) const {
    const float* w = weights_cpu_[tap].const_data_ptr<float>();
    const at::Tensor x = a.contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor y = b.contiguous(at::MemoryFormat::ChannelsLast);
    return x.scalar_type() == at::kBFloat16 ? map_distance<at::BFloat16>(x, y, w)
                                            : map_distance<float>(x, y, w);
}

at::Tensor lpips(const AlexNet& net, const LpipsHeads& heads, const ImageBatch& sr,
                 const ImageBatch& hr) {
    return lpips_of(net, heads, sr, hr, 31);
}

at::Tensor lpips(const Vgg16& net, const LpipsHeads& heads, const ImageBatch& sr,
                 const ImageBatch& hr) {
    return lpips_of(net, heads, sr, hr, 16);
}

// ---- The metrics ----

extern const MetricInfo lpips_alex, lpips_vgg;

namespace {

/// The distance of one pair, tap by tap, the HR picture's maps first.
template <class Run>
double score_pair(const LpipsHeads& heads, const Placement& placement, const Run& run_sr,
                  const Run& run_hr) {
    std::array<at::Tensor, 5> reference;
    run_hr([&](std::size_t tap, const at::Tensor& map) { reference[tap] = map; });
    double total = 0;
    run_sr([&](std::size_t tap, const at::Tensor& map) {
        total += placement.device.is_cpu()
                     ? heads.fused_distance(tap, map, reference[tap])
                     : heads.distance(tap, map, reference[tap]).item<double>();
        reference[tap].reset();
    });
    return total;
}

class LpipsAlex final : public NetMetric {
  public:
    explicit LpipsAlex(const MetricOptions& options) : NetMetric(lpips_alex, options) {
        StateDict heads = load("LPIPS_v0.1_alex-df73285e.pth");
        heads_.emplace(heads, AlexNet::channels, placement_);
        heads.finish();
        StateDict net = load("alexnet-owt-7be5be79.pth");
        net_.emplace(net, placement_);
        net.ignore("classifier.");
        net.finish();
    }

    double score(const Image& sr, const Image& hr) const override {
        check_input(info_, sr, hr);
        const c10::InferenceMode guard;
        const auto run = [&](const Image& image) {
            return std::function([&, this](const AlexNet::Tap& tap) {
                net_->forward(imagenet_normalised(picture_on(image, placement_), placement_), tap);
            });
        };
        return score_pair(*heads_, placement_, run(sr), run(hr));
    }

  private:
    std::optional<LpipsHeads> heads_;
    std::optional<AlexNet> net_;
};

class LpipsVgg final : public NetMetric {
  public:
    explicit LpipsVgg(const MetricOptions& options) : NetMetric(lpips_vgg, options) {
        StateDict heads = load("LPIPS_v0.1_vgg-a78928a0.pth");
        heads_.emplace(heads, Vgg16::channels, placement_);
        heads.finish();
        net_ = SharedVgg16::load(info_, options_, weights_);
    }

    double score(const Image& sr, const Image& hr) const override {
        check_input(info_, sr, hr);
        const c10::InferenceMode guard;
        const auto run = [&](const Image& image) {
            return std::function([&, this](const Vgg16::Tap& tap) {
                const at::Tensor first = net_->first_stage(image);
                tap(0, first);
                net_->net().later_stages(first, max_pool_2x2, tap);
            });
        };
        return score_pair(*heads_, placement_, run(sr), run(hr));
    }

  private:
    std::optional<LpipsHeads> heads_;
    std::shared_ptr<const SharedVgg16> net_;
};

}  // namespace

const MetricInfo lpips_alex{
    .name = "lpips-alex",
    .title = "LPIPS",
    .unit = "",
    .source = "learned distance of AlexNet's features, v0.1 heads (Zhang et al. 2018)",
    .reference = Reference::full,
    .better = Better::lower,
    .decimals = 4,
    .min_side = 31,
    .settings = {{"setting", "lpips_alex_v0.1"}, {"crop_border", "0"}},
    .weight_files = {"LPIPS_v0.1_alex-df73285e.pth", "alexnet-owt-7be5be79.pth"},
    .make = [](const MetricOptions& o) -> MetricPtr { return std::make_unique<LpipsAlex>(o); }};

const MetricInfo lpips_vgg{
    .name = "lpips-vgg",
    .title = "LPIPS (VGG)",
    .unit = "",
    .source = "learned distance of VGG16's features, v0.1 heads (Zhang et al. 2018)",
    .reference = Reference::full,
    .better = Better::lower,
    .decimals = 4,
    .min_side = 16,
    .settings = {{"setting", "lpips_vgg_v0.1"}, {"crop_border", "0"}},
    .weight_files = {"LPIPS_v0.1_vgg-a78928a0.pth", "vgg16-397923af.pth"},
    .make = [](const MetricOptions& o) -> MetricPtr { return std::make_unique<LpipsVgg>(o); }};

}  // namespace ultrasr
