#include "leaderboard/job.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/log.h"

namespace ultrasr {
namespace {

std::string_view profile_name(Profile profile) { return profile == Profile::cuda ? "cuda" : "cpu"; }

}  // namespace

std::string pictures(std::size_t n) { return n == 1 ? "1 picture" : fmt::format("{} pictures", n); }

void OddFiles::tell(const std::string& where) const {
    if (deep > 0) warn("{} of {} hold 16 bits; the high byte was used", pictures(deep), where);
    if (alpha > 0) warn("{} of {} have an alpha channel; it was dropped", pictures(alpha), where);
}

void OddFiles::tell_lossy(const std::string& where) const {
    if (lossy > 0) {
        warn("{} of {} are JPEG; compression lowers their scores, use PNG", pictures(lossy), where);
    }
}

void for_each(std::size_t n, int threads, const std::function<void(std::size_t)>& work) {
    if (threads <= 1) {
        for (std::size_t i = 0; i < n; ++i) work(i);
        return;
    }
    tbb::task_arena arena(threads);
    arena.execute([&] { tbb::parallel_for(std::size_t{0}, n, work, tbb::simple_partitioner{}); });
}

std::vector<LoadedMetric> load_metrics(const std::vector<std::string>& names,
                                       const MetricOptions& options) {
    std::vector<LoadedMetric> metrics;
    for (const std::string& name : names) {
        const MetricInfo& info = find_metric(name);
        const bool twice = std::any_of(metrics.begin(), metrics.end(),
                                       [&](const LoadedMetric& m) { return m.info == &info; });
        if (twice) fail(Fault::usage, "--metrics names {} twice", name);
        metrics.push_back(
            {&info, info.make(options), fmt::format("{} {}", name, profile_name(options.profile))});
    }
    if (metrics.empty()) fail(Fault::usage, "--metrics names no metric; --list-metrics shows them");
    return metrics;
}

void check_side(const LoadedMetric& metric, PixelSize size, const std::string& picture) {
    const int side = std::min(size.width, size.height);
    require(
        side >= metric.info->min_side,
        "{} is {} x {}, {} needs at least {} pixels a side; leave the metric or the picture out",
        picture, size.width, size.height, metric.info->name, metric.info->min_side);
}

MetricSummary summary_of(const LoadedMetric& metric, const std::vector<double>& values,
                         const MetricOptions& options, std::uint64_t seed,
                         const std::string& where) {
    MetricSummary summary = summarise(metric.info->name, values, seed);
    summary.settings = metric.info->settings;
    summary.settings["profile"] = profile_name(options.profile);
    if (summary.nan > 0) {
        warn("{} is undefined on {} of {} of {}; the mean leaves them out", metric.info->name,
             summary.nan, pictures(values.size()), where);
    }
    return summary;
}

MethodPtr make_method(const MethodSpec& spec, MethodOptions options) {
    options.label = spec.label;
    return while_doing(fmt::format("method {}", spec.label),
                       [&] { return spec.info->make(options, spec.argument); });
}

Json settings_of(const std::string& input_sha256, double scale, const std::string& method,
                 const Provenance& p) {
    Json weights = Json::array();
    for (const WeightRecord& w : p.weights) weights.push_back({w.file, w.sha256});
    Json extra = Json::object();
    for (const auto& [key, value] : p.settings) extra[key] = value;
    return {{"input files", input_sha256},
            {"scale", scale},
            {"method", method},
            {"weights", weights},
            {"scale policy", p.scale_policy},
            {"device", p.device},
            {"precision", p.dtype},
            {"rounding", p.rounding},
            {"method settings", extra}};
}

}  // namespace ultrasr
