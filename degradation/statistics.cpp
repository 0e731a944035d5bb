#include "degradation/statistics.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <mutex>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/imgproc.hpp>

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "data/image_io.h"
#include "degradation/histogram_svg.h"
#include "degradation/result_folder.h"
#include "degradation/source_picture.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

using Samples = std::map<std::string, std::vector<double>>;

void add_draws(const Json& draws, const std::string& prefix, Samples& samples) {
    for (const auto& [name, pair] : draws.items()) {
        if (pair.size() != 2) continue;
        const Json& value = pair[1];
        samples[prefix + name].push_back(value.is_boolean() ? (value.get<bool>() ? 1 : 0)
                                                            : value.get<double>());
    }
}

/// Standard deviation of the noise in [0,255], from the median of diagonal second differences.
/// Source: Immerkaer 1996, mask; median as in Donoho and Johnstone 1994.
double noise_of(const cv::Mat& luma) {
    std::vector<int> values;
    for (int y = 1; y + 1 < luma.rows; ++y) {
        for (int x = 1; x + 1 < luma.cols; ++x) {
            const auto at = [&](int dy, int dx) { return int{luma.ptr(y + dy)[x + dx]}; };
            values.push_back(std::abs(4 * at(0, 0) -
                                      2 * (at(-1, 0) + at(1, 0) + at(0, -1) + at(0, 1)) +
                                      at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)));
        }
    }
    if (values.empty()) return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle / 0.6745 / 6;  // the mask's norm is 6
}

/// What can be said of an LR picture without its GT.
void measure(const cv::Mat& rgb, const std::string& prefix, Samples& samples) {
    cv::Mat luma;
    cv::cvtColor(rgb, luma, cv::COLOR_RGB2GRAY);
    samples[prefix + "noise"].push_back(noise_of(luma));
    samples[prefix + "sharpness"].push_back(std::sqrt(sharpness_of(luma)));
    samples[prefix + "blockiness"].push_back(blockiness_of(luma));
}

struct Gathered {
    Samples samples;
    std::size_t pictures = 0;
    std::string kind;  ///< records, pictures
};

Gathered from_records(const fs::path& path, int threads, Progress& progress) {
    const ResultFolder folder(path);
    Gathered out{{}, folder.records().size(), "records"};
    std::vector<Samples> each(folder.records().size());
    std::atomic<std::size_t> done{0};
    tbb::task_arena arena(threads);
    arena.execute([&] {
        tbb::parallel_for(std::size_t{0}, each.size(), [&](std::size_t i) {
            const Json& record = folder.records()[i];
            add_draws(record.at("draws"), "", each[i]);
            for (const Json& level : record.at("levels")) {
                const auto name = level.at("name").get<std::string>();
                add_draws(level.at("draws"), name + ".", each[i]);
                if (level.contains("psnr")) {
                    each[i][name + ".psnr"].push_back(number_from_json(level["psnr"]));
                    each[i][name + ".gradient_energy"].push_back(
                        level["gradient_energy"].get<double>());
                }
                if (const auto lr = folder.picture(i, "lr_" + name)) {
                    measure(*lr, name + ".lr_", each[i]);
                }
            }
            progress.step("measure", ++done, each.size());
        });
    });
    for (Samples& part : each) {
        for (auto& [name, values] : part) {
            auto& all = out.samples[name];
            all.insert(all.end(), values.begin(), values.end());
        }
    }
    return out;
}

/// A folder of real LR pictures: what is measured, under the names of every level of the other.
Gathered from_pictures(const fs::path& path, const Samples& like, Progress& progress) {
    const SourceList list = list_sources(path);
    Samples measured;
    for (std::size_t i = 0; i < list.files.size(); ++i) {
        progress.step("measure", i, list.files.size());
        measure(read_rgb8(list.files[i].path), "lr_", measured);
    }
    Gathered out{{}, list.files.size(), "pictures"};
    for (const auto& [name, values] : like) {
        const std::size_t at = name.find(".lr_");
        if (at == std::string::npos) continue;
        if (const auto found = measured.find(name.substr(at + 1)); found != measured.end()) {
            out.samples[name] = found->second;
        }
    }
    return out;
}

Gathered gather(const fs::path& path, const Samples* like, int threads, Progress& progress) {
    std::error_code code;
    if (like && fs::is_directory(path, code) && !fs::exists(path / "records.jsonl")) {
        return from_pictures(path, *like, progress);
    }
    return from_records(path, threads, progress);
}

double quantile(const std::vector<double>& sorted, double p) {
    const double at = p * static_cast<double>(sorted.size() - 1);
    const auto i = static_cast<std::size_t>(at);
    const double t = at - static_cast<double>(i);
    return i + 1 < sorted.size() ? sorted[i] * (1 - t) + sorted[i + 1] * t : sorted[i];
}

Json summary_of(std::vector<double>& values) {
    std::erase_if(values, [](double v) { return !std::isfinite(v); });
    std::sort(values.begin(), values.end());
    Json out{{"count", values.size()}};
    if (values.empty()) return out;
    double sum = 0, square = 0;
    for (const double v : values) sum += v;
    const double mean = sum / static_cast<double>(values.size());
    for (const double v : values) square += (v - mean) * (v - mean);
    out["mean"] = mean;
    out["std"] = std::sqrt(square / static_cast<double>(values.size()));
    out["quantiles"] = {quantile(values, 0.05), quantile(values, 0.5), quantile(values, 0.95)};
    return out;
}

Json bins_of(const std::vector<double>& sorted, double low, double high) {
    constexpr std::size_t n = 24;
    std::vector<std::size_t> counts(n);
    for (const double v : sorted) {
        const double t = high > low ? (v - low) / (high - low) : 0.5;
        ++counts[std::min(static_cast<std::size_t>(std::max(t, 0.0) * n), n - 1)];
    }
    return counts;
}

/// Largest distance of two distribution functions; both sorted.
double ks_distance(const std::vector<double>& a, const std::vector<double>& b) {
    double most = 0;
    for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
        const double at = std::min(a[i], b[j]);
        while (i < a.size() && a[i] <= at) ++i;
        while (j < b.size() && b[j] <= at) ++j;
        most = std::max(most, std::abs(static_cast<double>(i) / static_cast<double>(a.size()) -
                                       static_cast<double>(j) / static_cast<double>(b.size())));
    }
    return most;
}

std::string csv_of(const Json& quantities) {
    std::string text = "quantity,of,count,mean,std,q05,q50,q95,bin_low,bin_high,bins\n";
    for (const auto& [name, q] : quantities.items()) {
        for (const char* of : {"source", "against"}) {
            if (!q.contains(of) || !q[of].contains("mean")) continue;
            const Json& s = q[of];
            std::string bins;
            for (const Json& count : s["bins"]) {
                bins += (bins.empty() ? "" : " ") + dump_json_line(count);
            }
            text += fmt::format("{},{},{},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{}\n",
                                name, of, s["count"].get<std::size_t>(), s["mean"].get<double>(),
                                s["std"].get<double>(), s["quantiles"][0].get<double>(),
                                s["quantiles"][1].get<double>(), s["quantiles"][2].get<double>(),
                                q["low"].get<double>(), q["high"].get<double>(), bins);
        }
    }
    return text;
}

}  // namespace

Json statistics(const StatisticsOptions& options, Progress& progress) {
    Gathered source = gather(options.source, nullptr, options.threads, progress);
    Gathered against;
    if (!options.against.empty()) {
        against = gather(options.against, &source.samples, options.threads, progress);
    }
    Json quantities = Json::object();
    for (auto& [name, values] : source.samples) {
        Json entry{{"source", summary_of(values)}};
        const auto other = against.samples.find(name);
        const bool both = other != against.samples.end();
        if (both) entry["against"] = summary_of(other->second);
        if (values.empty()) continue;
        double low = values.front(), high = values.back();
        if (both && !other->second.empty()) {
            low = std::min(low, other->second.front());
            high = std::max(high, other->second.back());
        }
        entry["low"] = low;
        entry["high"] = high;
        entry["source"]["bins"] = bins_of(values, low, high);
        if (both && !other->second.empty()) {
            entry["against"]["bins"] = bins_of(other->second, low, high);
            entry["ks"] = ks_distance(values, other->second);
        }
        quantities[name] = std::move(entry);
    }
    Json result{{"records", source.pictures}};
    if (!options.against.empty()) result["against_" + against.kind] = against.pictures;
    if (!options.csv.empty()) write_file(options.csv, csv_of(quantities));
    if (!options.svg.empty()) {
        write_file(options.svg, histogram_svg(quantities, options.source.filename().string(),
                                              options.against.filename().string()));
    }
    result["quantities"] = std::move(quantities);
    return result;
}

std::string statistics_text(const Json& result) {
    std::string text = fmt::format("{} records\n{:<34} {:>8} {:>10} {:>10} {:>10} {:>10} {:>7}\n",
                                   result["records"].get<std::size_t>(), "", "count", "mean", "5 %",
                                   "50 %", "95 %", "KS");
    for (const auto& [name, q] : result["quantities"].items()) {
        const Json& s = q["source"];
        if (!s.contains("mean")) continue;
        text += fmt::format("{:<34} {:>8} {:>10.4g} {:>10.4g} {:>10.4g} {:>10.4g} {:>7}\n", name,
                            s["count"].get<std::size_t>(), s["mean"].get<double>(),
                            s["quantiles"][0].get<double>(), s["quantiles"][1].get<double>(),
                            s["quantiles"][2].get<double>(),
                            q.contains("ks") ? fmt::format("{:.3f}", q["ks"].get<double>()) : "");
    }
    return text;
}

}  // namespace ultrasr
