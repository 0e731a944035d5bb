#include "leaderboard/job.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/log.h"

namespace ultrasr {
namespace {

// Tables 1 and 2 of the SDD paper; conventions: metrics.md 11.
constexpr std::array<std::string_view, 7> paper_metrics{
    "psnr-y601", "ssim-y601", "lpips-alex", "fid", "niqe", "musiq", "clipiqa"};

std::string_view profile_name(Profile profile) { return profile == Profile::cuda ? "cuda" : "cpu"; }

/// The weight files with their hashes, and whether they are the ones we know.
void note_weights(std::map<std::string, std::string>& settings,
                  const std::vector<WeightRecord>& weights) {
    std::string files;
    bool verified = true;
    for (const WeightRecord& w : weights) {
        files += fmt::format("{}{} {}", files.empty() ? "" : ", ", w.file, w.sha256);
        verified = verified && w.verified;
    }
    settings["weights"] = files;
    settings["weights_verified"] = verified ? "yes" : "no";
}

/// All that a stored score depends on. Metrics without networks keep the keys they always had.
std::string key_of(const MetricInfo& info, const MetricProvenance& provenance, Profile profile) {
    if (provenance.weights.empty()) return fmt::format("{} {}", info.name, profile_name(profile));
    std::string key = info.name;
    for (const auto& [name, value] : provenance.settings) {
        // Another GPU of the same machine gives the same scores
        const std::string_view kind = std::string_view(value).substr(0, value.find(':'));
        key += fmt::format(" {}", name == "device" ? kind : value);
    }
    for (const WeightRecord& w : provenance.weights)
        key += fmt::format(" {}", w.sha256.substr(0, 8));
    return key;
}

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
    // Look all names up before any weights are read
    std::vector<const MetricInfo*> infos;
    const auto add = [&](std::string_view name) {
        const MetricInfo& info = find_metric(name);
        if (std::find(infos.begin(), infos.end(), &info) != infos.end()) {
            fail(Fault::usage, "--metrics names {} twice", name);
        }
        infos.push_back(&info);
    };
    for (const std::string& name : names) {
        if (name == "paper") {
            for (const std::string_view member : paper_metrics) add(member);
        } else {
            add(name);
        }
    }
    if (infos.empty()) fail(Fault::usage, "--metrics names no metric; --list-metrics shows them");

    std::vector<LoadedMetric> metrics;
    for (const MetricInfo* info : infos) {
        LoadedMetric m{info, {}, {}, info->settings, {}};
        MetricProvenance provenance;
        if (info->make_set) {
            m.set = info->make_set(options);
            provenance = m.set->provenance();
        } else {
            m.metric = info->make(options);
            provenance = m.metric->provenance();
        }
        m.settings.insert(provenance.settings.begin(), provenance.settings.end());
        if (provenance.weights.empty()) {
            m.settings["profile"] = profile_name(options.profile);
        } else {
            note_weights(m.settings, provenance.weights);
        }
        m.key = key_of(*info, provenance, options.profile);
        metrics.push_back(std::move(m));
    }
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
                         std::uint64_t seed, const std::string& where) {
    MetricSummary summary = summarise(metric.info->name, values, seed);
    summary.settings = metric.settings;
    if (summary.nan > 0) {
        warn("{} is undefined on {} of {} of {}; the mean leaves them out", metric.info->name,
             summary.nan, pictures(values.size()), where);
    }
    return summary;
}

double median(std::vector<double> values) {
    std::erase_if(values, [](double v) { return std::isnan(v); });
    if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

StageTimes median_split(const std::vector<StageTimes>& splits) {
    std::vector<std::pair<std::string, std::vector<double>>> columns;
    for (const StageTimes& split : splits) {
        for (const auto& [part, seconds] : split.stages()) {
            const auto same = [&](const auto& column) { return column.first == part; };
            auto column = std::find_if(columns.begin(), columns.end(), same);
            if (column == columns.end()) column = columns.insert(column, {part, {}});
            column->second.push_back(seconds);
        }
    }
    StageTimes result;
    for (const auto& [part, seconds] : columns) result.add(part, median(seconds));
    return result;
}

bool reads_option(const MethodInfo& method, std::string_view option) {
    return std::find(method.options.begin(), method.options.end(), option) != method.options.end();
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
