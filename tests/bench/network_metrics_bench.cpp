// Speed of the metrics made of networks. Prints one JSON line.
//
//   network_metrics_bench --weights DIR --metric NAME [--size 512 | --width W --height H]
//                         [--count 3] [--threads 2] [--precision fp32|bf16] [--warm 1]
//
// The pictures are the texture of tests/metrics/pictures.h. `ms` is the median over `count` calls
// after `warm` others; for fid the time of one picture's features when `count` pictures are given
// at once, and `score` the sum of a picture's features.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/image.h"
#include "metrics/metric.h"
#include "tests/metrics/pictures.h"
#include "version.h"

namespace {

using namespace ultrasr;

int run(const std::map<std::string, std::string>& given) {
    const auto number = [&](const char* name, int otherwise) {
        const auto found = given.find(name);
        return found == given.end() ? otherwise : std::stoi(found->second);
    };
    const PixelSize size{number("--width", number("--size", 512)),
                         number("--height", number("--size", 512))};
    const int count = number("--count", 3), warm = number("--warm", 1);
    MetricOptions options;
    options.weights = {given.at("--weights"), true};
    options.compute.threads = number("--threads", 2);
    const bool bf16 = given.contains("--precision") && given.at("--precision") == "bf16";
    options.compute.precision = bf16 ? Precision::bf16 : Precision::fp32;
    const MetricInfo& info = find_metric(given.at("--metric"));

    const auto start = std::chrono::steady_clock::now();
    const auto seconds = [](auto since) {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
    };
    const MetricPtr metric = info.make ? info.make(options) : nullptr;
    const SetMetricPtr set = info.make_set ? info.make_set(options) : nullptr;
    const double load = seconds(start);

    const auto pair = test::picture("texture", size);
    std::vector<double> times;
    double score = 0;
    const auto call = [&] {
        const auto begin = std::chrono::steady_clock::now();
        if (metric) {
            score = metric->score(pair.sr, pair.hr);
            times.push_back(1e3 * seconds(begin));
        } else {  // all pictures in one call, as the programs do
            const std::vector<Image> images(static_cast<std::size_t>(count), pair.sr);
            const auto rows = set->features_of(images);
            times.push_back(1e3 * seconds(begin) / count);
            score = std::accumulate(rows.begin(), rows.begin() + 2048, 0.0);
        }
    };
    for (int i = 0; i < warm; ++i) call();
    times.clear();
    for (int i = 0; i < (metric ? count : 3); ++i) call();
    std::sort(times.begin(), times.end());
    const double ms = times[times.size() / 2];
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const Json line{{"metric", info.name},
                    {"width", size.width},
                    {"height", size.height},
                    {"size", size.width},
                    {"threads", options.compute.threads},
                    {"precision", bf16 ? "bf16" : "fp32"},
                    {"load_s", load},
                    {"ms", ms},
                    {"score", score},
                    {"peak_mib", static_cast<double>(usage.ru_maxrss) / 1024},
                    {"commit", version_commit}};
    std::printf("%s\n", dump_json_line(line).c_str());
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    std::map<std::string, std::string> given;
    for (int i = 1; i + 1 < argc; i += 2) given[argv[i]] = argv[i + 1];
    if (argc % 2 == 0 || !given.contains("--weights") || !given.contains("--metric")) {
        std::fprintf(stderr, "usage: see the head of tests/bench/network_metrics_bench.cpp\n");
        return 2;
    }
    try {
        return run(given);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 3;
    }
}
