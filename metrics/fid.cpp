#include "metrics/fid.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/image.h"
#include "data/weights/safetensors.h"
#include "metrics/net_metric.h"
#include "metrics/nets/inception.h"
#include "metrics/pillow_resize.h"

namespace ultrasr {
namespace {

constexpr const char* network_file = "pt_inception-2015-12-05-6726825d.pth";
constexpr const char* format_name = "ultrasr-fid-stats";
constexpr std::int64_t batch = 8;  // pictures at once: enough for the small maps, 25 MB a picture

}  // namespace

void write_fid_stats(const std::filesystem::path& path, const FidStats& stats) {
    const auto view = [](const char* name, std::vector<std::int64_t> shape,
                         const std::vector<double>& values) {
        return TensorView{name, Dtype::f64, std::move(shape), std::as_bytes(std::span(values))};
    };
    const auto n = static_cast<std::int64_t>(stats.statistics.mean.size());
    const std::vector<TensorView> tensors{view("mean", {n}, stats.statistics.mean),
                                          view("covariance", {n, n}, stats.statistics.covariance)};
    write_safetensors(path, tensors,
                      {{"format", format_name},
                       {"version", "1"},
                       {"count", std::to_string(stats.statistics.count)},
                       {"network_sha256", stats.network_sha256},
                       {"pictures_sha256", stats.pictures_sha256},
                       {"resize", "clean"}});
}

FidStats read_fid_stats(const std::filesystem::path& path) {
    const SafetensorsFile file(path);
    const auto text = [&](const std::string& key) {
        const auto found = file.metadata().find(key);
        return found == file.metadata().end() ? std::string() : found->second;
    };
    constexpr std::int64_t n = FidInception::features;
    const TensorView* mean = file.find("mean");
    const TensorView* covariance = file.find("covariance");
    FidStats stats;
    const std::string count = text("count");
    const auto [end, code] =
        std::from_chars(count.data(), count.data() + count.size(), stats.statistics.count);
    require(text("format") == format_name && text("version") == "1" && mean && covariance &&
                mean->dtype == Dtype::f64 && covariance->dtype == Dtype::f64 &&
                mean->shape == std::vector<std::int64_t>{n} &&
                covariance->shape == std::vector<std::int64_t>{n, n} && code == std::errc{} &&
                end == count.data() + count.size() && stats.statistics.count >= 2,
            "{} holds no FID statistics; make them with ultrasr-bench fid-stats DIR --out FILE",
            path.string());
    const auto take = [&](const TensorView& view, std::vector<double>& values) {
        values.resize(view.bytes.size() / sizeof(double));
        std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
        require(
            std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); }),
            "{}: {} holds NaN or infinite values; make the statistics again", path.string(),
            view.name);
    };
    take(*mean, stats.statistics.mean);
    take(*covariance, stats.statistics.covariance);
    stats.network_sha256 = text("network_sha256");
    stats.pictures_sha256 = text("pictures_sha256");
    return stats;
}

// ---- The metric ----

extern const MetricInfo fid;

namespace {

class Fid final : public SetMetric {
  public:
    explicit Fid(const MetricOptions& options) : placement_(place(options)) {
        StateDict weights = load_for_metric(fid, network_file, options, weights_);
        net_.emplace(weights, placement_);
        weights.ignore("fc.");
        weights.finish();
        if (options.fid_stats.empty()) return;
        reference_ = read_fid_stats(options.fid_stats);
        require(reference_->network_sha256 == weights_.front().sha256,
                "{} was made with another network (SHA-256 {}, here {}); make it again with "
                "ultrasr-bench fid-stats",
                options.fid_stats.string(), reference_->network_sha256, weights_.front().sha256);
    }

    std::size_t features() const override { return FidInception::features; }
    bool has_reference() const override { return reference_.has_value(); }

    std::vector<float> features_of(std::span<const Image> images) const override {
        const c10::InferenceMode guard;
        std::vector<float> rows(images.size() * features());
        for (std::size_t first = 0; first < images.size(); first += batch) {
            const auto part =
                images.subspan(first, std::min<std::size_t>(batch, images.size() - first));
            const at::Tensor out = net_->forward(prepare(part).to(placement_.device)).to(at::kCPU);
            std::memcpy(rows.data() + first * features(), out.contiguous().const_data_ptr(),
                        out.nbytes());
        }
        return rows;
    }

    double distance(std::span<const float> sr, std::span<const float> hr) const override {
        const std::size_t n = sr.size() / features();
        const bool small = n <= features();
        if (reference_) {
            return small ? frechet_distance_of_rows(sr, reference_->statistics)
                         : frechet_distance(statistics_of(sr, features()), reference_->statistics);
        }
        if (small && hr.size() / features() <= features()) {
            return frechet_distance_of_rows(sr, hr, features());
        }
        return small
                   ? frechet_distance_of_rows(sr, statistics_of(hr, features()))
                   : frechet_distance(statistics_of(sr, features()), statistics_of(hr, features()));
    }

    MetricProvenance provenance() const override {
        MetricProvenance p{
            weights_, {{"device", device_name(placement_)}, {"precision", dtype_name(placement_)}}};
        if (reference_) {
            p.settings["reference_pictures"] = std::to_string(reference_->statistics.count);
            p.settings["reference_sha256"] = reference_->pictures_sha256;
        }
        return p;
    }

  private:
    /// Resized, clipped to [0, 255] without rounding, (x - 128) / 128; N x 3 x 299 x 299.
    static at::Tensor prepare(std::span<const Image> images) {
        constexpr int side = FidInception::side;
        const auto layout =
            at::TensorOptions(at::kFloat).memory_format(at::MemoryFormat::ChannelsLast);
        at::Tensor x = at::empty({static_cast<std::int64_t>(images.size()), 3, side, side}, layout);
        float* to = x.mutable_data_ptr<float>();
        at::parallel_for(0, x.size(0), 1, [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t i = first; i < last; ++i) {
                const Image& image = images[static_cast<std::size_t>(i)];
                require(!image.empty(), "fid needs pictures, got one of 0x0");
                float* out = to + i * 3 * side * side;
                for (const float level : pillow_bicubic(image, {side, side})) {
                    *out++ = (std::clamp(level, 0.0F, 255.0F) - 128.0F) / 128.0F;
                }
            }
        });
        return x;
    }

    Placement placement_;
    std::vector<WeightRecord> weights_;
    std::optional<FidInception> net_;
    std::optional<FidStats> reference_;
};

}  // namespace

const MetricInfo fid{
    .name = "fid",
    .title = "FID",
    .unit = "",
    .source = "Frechet distance of Inception features, clean resize (Heusel 2017, Parmar 2022)",
    .reference = Reference::set,
    .better = Better::lower,
    .decimals = 2,
    .min_side = 1,
    .settings = {{"setting", "fid_clean"},
                 {"resize", "Pillow bicubic, 299 x 299, float32, not rounded"},
                 {"network", "Inception 2015-12-05"}},
    .weight_files = {network_file},
    .make_set = [](const MetricOptions& o) -> SetMetricPtr { return std::make_unique<Fid>(o); }};

}  // namespace ultrasr
