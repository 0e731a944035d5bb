#include "metrics/dists.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "data/base/error.h"
#include "data/image.h"
#include "data/tensor.h"
#include "metrics/input_check.h"
#include "metrics/net_metric.h"

namespace ultrasr {
namespace {

constexpr double c1 = 1e-6;  // of S1, metrics.md 9
constexpr double c2 = 1e-6;  // of S2
constexpr double under_root = 1e-12;

/// Sums over the pixels of one channel pair.
struct Moments {
    std::vector<double> x, y, xx, yy, xy;
    explicit Moments(std::int64_t channels)
        : x(static_cast<std::size_t>(channels)), y(x), xx(x), yy(x), xy(x) {}

    void add(const Moments& other) {
        for (auto sums : {&Moments::x, &Moments::y, &Moments::xx, &Moments::yy, &Moments::xy}) {
            for (std::size_t c = 0; c < x.size(); ++c) (this->*sums)[c] += (other.*sums)[c];
        }
    }

    template <class T>
    void add_pixel(const T* a, const T* b) {
        for (std::size_t c = 0; c < x.size(); ++c) {
            const auto p = static_cast<double>(a[c]), q = static_cast<double>(b[c]);
            x[c] += p;
            y[c] += q;
            xx[c] += p * p;
            yy[c] += q * q;
            xy[c] += p * q;
        }
    }
};

/// Blocks of pixels are summed apart and then in order, whatever the threads.
template <class T>
Moments moments_of(const at::Tensor& a, const at::Tensor& b) {
    const std::int64_t channels = a.size(1), pixels = a.size(2) * a.size(3);
    const T* from_a = a.const_data_ptr<T>();
    const T* from_b = b.const_data_ptr<T>();
    constexpr std::int64_t block = 4096;
    std::vector<Moments> parts(static_cast<std::size_t>((pixels + block - 1) / block),
                               Moments(channels));
    at::parallel_for(0, static_cast<std::int64_t>(parts.size()), 1,
                     [&](std::int64_t first, std::int64_t last) {
                         for (std::int64_t k = first; k < last; ++k) {
                             Moments& part = parts[static_cast<std::size_t>(k)];
                             const std::int64_t end = std::min(pixels, (k + 1) * block);
                             for (std::int64_t p = k * block; p < end; ++p) {
                                 part.add_pixel(from_a + p * channels, from_b + p * channels);
                             }
                         }
                     });
    Moments total(channels);
    for (const Moments& part : parts) total.add(part);
    return total;
}

/// One row of l2_pool: the window's rows are blurred to one, then its columns, channels inside.
void pool_row(const float* above, const float* row, const float* below, std::int64_t width,
              std::int64_t channels, std::vector<float>& line, float* out) {
    // Vertical 1/4 1/2 1/4 of squares, with one column of zeros on either side
    const auto n = static_cast<std::size_t>(width * channels);
    const auto margin = static_cast<std::size_t>(channels);
    std::fill(line.begin(), line.end(), 0.0F);
    float* inner = line.data() + margin;
    for (std::size_t i = 0; i < n; ++i) inner[i] = 0.5F * row[i] * row[i];
    for (const float* other : {above, below}) {
        if (!other) continue;
        for (std::size_t i = 0; i < n; ++i) inner[i] += 0.25F * other[i] * other[i];
    }

    // Horizontal, every second place
    for (std::int64_t x = 0; x < (width + 1) / 2; ++x) {
        const float* centre = inner + 2 * x * channels;
        for (std::int64_t c = 0; c < channels; ++c) {
            const float sum =
                0.25F * centre[c - channels] + 0.5F * centre[c] + 0.25F * centre[c + channels];
            out[x * channels + c] = std::sqrt(sum + static_cast<float>(under_root));
        }
    }
}

at::Tensor l2_pool_loop(const at::Tensor& given) {
    const at::Tensor x = given.contiguous(at::MemoryFormat::ChannelsLast);
    const std::int64_t channels = x.size(1), height = x.size(2), width = x.size(3);
    const std::int64_t rows = (height + 1) / 2, columns = (width + 1) / 2;
    at::Tensor result =
        at::empty({1, channels, rows, columns}, x.options(), at::MemoryFormat::ChannelsLast);
    const float* from = x.const_data_ptr<float>();
    float* to = result.mutable_data_ptr<float>();
    at::parallel_for(0, rows, 4, [&](std::int64_t first, std::int64_t last) {
        std::vector<float> line(static_cast<std::size_t>((width + 3) * channels));
        const auto row_at = [&](std::int64_t y) {
            return y >= 0 && y < height ? from + y * width * channels : nullptr;
        };
        for (std::int64_t y = first; y < last; ++y) {
            pool_row(row_at(2 * y - 1), row_at(2 * y), row_at(2 * y + 1), width, channels, line,
                     to + y * columns * channels);
        }
    });
    return result;
}

}  // namespace

at::Tensor l2_pool(const at::Tensor& x) {
    if (x.device().is_cpu() && x.size(0) == 1 && x.scalar_type() == at::kFloat &&
        needs_no_gradient(x)) {
        return l2_pool_loop(x);
    }
    const std::int64_t channels = x.size(1);
    const at::Tensor row = at::tensor({0.25, 0.5, 0.25}, at::kDouble);
    const at::Tensor window = (row.view({3, 1}) * row.view({1, 3}))
                                  .to(x.options())
                                  .expand({channels, 1, 3, 3})
                                  .contiguous();
    const at::Tensor blurred = at::conv2d(x * x, window, {}, {2, 2}, {1, 1}, {1, 1}, channels);
    return at::sqrt(blurred + under_root);
}

DistsWeights::DistsWeights(StateDict& weights, const Placement& placement) {
    const at::Tensor alpha = weights.take("alpha", {1, 1475, 1, 1}).view({-1}).to(at::kDouble);
    const at::Tensor beta = weights.take("beta", {1, 1475, 1, 1}).view({-1}).to(at::kDouble);
    const at::Tensor sum = alpha.sum() + beta.sum();
    std::int64_t first = 0;
    for (std::size_t map = 0; map < channels.size(); ++map) {
        const auto part = [&](const at::Tensor& all, at::Tensor& on_device,
                              std::vector<double>& on_cpu) {
            const at::Tensor own = (all.narrow(0, first, channels[map]) / sum).contiguous();
            on_device = own.to(placement.device, at::kFloat);
            on_cpu.assign(own.const_data_ptr<double>(),
                          own.const_data_ptr<double>() + channels[map]);
        };
        part(alpha, alpha_[map], alpha_cpu_[map]);
        part(beta, beta_[map], beta_cpu_[map]);
        first += channels[map];
    }
}

at::Tensor DistsWeights::similarity(std::size_t map, const at::Tensor& a,
                                    const at::Tensor& b) const {
    const at::Tensor x = a.to(at::kFloat), y = b.to(at::kFloat);
    const at::Tensor mx = at::mean(x, {2, 3}, true), my = at::mean(y, {2, 3}, true);
    const at::Tensor s1 = (2 * mx * my + c1) / (mx * mx + my * my + c1);
    const at::Tensor dx = x - mx, dy = y - my;
    const at::Tensor vx = at::mean(dx * dx, {2, 3}), vy = at::mean(dy * dy, {2, 3});
    // The mean product of deviations: E[xy] - mx my without its cancellation in float32
    const at::Tensor cov = at::mean(dx * dy, {2, 3});
    const at::Tensor s2 = (2 * cov + c2) / (vx + vy + c2);
    return at::sum(alpha_[map] * s1.flatten(1) + beta_[map] * s2, {1});
}

double DistsWeights::fused_similarity(std::size_t map, const at::Tensor& a,
                                      const at::Tensor& b) const {
    const at::Tensor x = a.contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor y = b.contiguous(at::MemoryFormat::ChannelsLast);
    const Moments m =
        x.scalar_type() == at::kBFloat16 ? moments_of<at::BFloat16>(x, y) : moments_of<float>(x, y);
    const double n = static_cast<double>(x.size(2) * x.size(3));
    double sum = 0;
    for (std::size_t c = 0; c < m.x.size(); ++c) {
        const double mx = m.x[c] / n, my = m.y[c] / n;
        const double vx = std::max(0.0, m.xx[c] / n - mx * mx);
        const double vy = std::max(0.0, m.yy[c] / n - my * my);
        const double cov = m.xy[c] / n - mx * my;
        const double s1 = (2 * mx * my + c1) / (mx * mx + my * my + c1);
        const double s2 = (2 * cov + c2) / (vx + vy + c2);
        sum += alpha_cpu_[map][c] * s1 + beta_cpu_[map][c] * s2;
    }
    return sum;
}

at::Tensor dists(const Vgg16& net, const DistsWeights& weights, const ImageBatch& sr,
                 const ImageBatch& hr) {
    require(sr.nchw.sizes() == hr.nchw.sizes(),
            "DISTS compares batches of equal shape, got {} and {}", shape_text(sr.nchw.sizes()),
            shape_text(hr.nchw.sizes()));
    std::array<at::Tensor, 5> reference;
    net.forward(imagenet_normalised(hr.nchw, net.placement()), l2_pool,
                [&](std::size_t stage, const at::Tensor& map) { reference[stage] = map; });
    at::Tensor similarity = weights.similarity(0, sr.nchw, hr.nchw);
    net.forward(imagenet_normalised(sr.nchw, net.placement()), l2_pool,
                [&](std::size_t stage, const at::Tensor& map) {
                    similarity = similarity + weights.similarity(stage + 1, map, reference[stage]);
                    reference[stage].reset();
                });
    return 1 - similarity;
}

// ---- The metric ----

extern const MetricInfo dists_metric;

namespace {

class Dists final : public NetMetric {
  public:
    explicit Dists(const MetricOptions& options) : NetMetric(dists_metric, options) {
        StateDict weights = load("DISTS_weights-f5e65c96.pth");
        channel_weights_.emplace(weights, placement_);
        weights.finish();
        net_ = SharedVgg16::load(info_, options_, weights_);
    }

    double score(const Image& sr, const Image& hr) const override {
        check_input(info_, sr, hr);
        const c10::InferenceMode guard;
        const auto similarity = [&](std::size_t map, const at::Tensor& a, const at::Tensor& b) {
            return placement_.device.is_cpu()
                       ? channel_weights_->fused_similarity(map, a, b)
                       : channel_weights_->similarity(map, a, b).item<double>();
        };
        const auto run = [&](const Image& image, const Vgg16::Tap& tap) {
            const at::Tensor first = net_->first_stage(image);
            tap(0, first);
            net_->net().later_stages(first, l2_pool, tap);
        };
        std::array<at::Tensor, 5> reference;
        run(hr, [&](std::size_t stage, const at::Tensor& map) { reference[stage] = map; });
        double sum = similarity(0, picture_on(sr, placement_), picture_on(hr, placement_));
        run(sr, [&](std::size_t stage, const at::Tensor& map) {
            sum += similarity(stage + 1, map, reference[stage]);
            reference[stage].reset();
        });
        return 1 - sum;
    }

  private:
    std::optional<DistsWeights> channel_weights_;
    std::shared_ptr<const SharedVgg16> net_;
};

}  // namespace

const MetricInfo dists_metric{
    .name = "dists",
    .title = "DISTS",
    .unit = "",
    .source = "structure and texture similarity of VGG16's features (Ding et al. 2020)",
    .reference = Reference::full,
    .better = Better::lower,
    .decimals = 4,
    .min_side = 1,
    .settings = {{"setting", "dists"}, {"resize", "none"}, {"crop_border", "0"}},
    .weight_files = {"DISTS_weights-f5e65c96.pth", "vgg16-397923af.pth"},
    .make = [](const MetricOptions& o) -> MetricPtr { return std::make_unique<Dists>(o); }};

}  // namespace ultrasr
