// Times the metrics on pairs of pictures that lie in memory, and checks the scores of that very
// run. One JSON line a metric.
//
//   metrics_bench SR HR [--expected FILE.csv] [--metric NAME] [--profile cuda|cpu] [--threads N]
//                 [--runs N]
//
// SR, HR      folders; pairs have equal names
// --expected  a table image,<metric>,...: the largest difference to it stands in the line
// Threads share the pictures; one picture is scored by one thread. A run scores all pictures once.
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/image_io.h"
#include "metrics/metric.h"
#include "version.h"

using namespace ultrasr;

namespace {

struct Pair {
    std::string name;
    Image sr;
    Image hr;
};

std::vector<Pair> read_pairs(const std::filesystem::path& sr, const std::filesystem::path& hr) {
    std::vector<Pair> pairs;
    for (const auto& path : list_images(sr)) {
        pairs.push_back({path.filename().string(), read_image(path).image,
                         read_image(hr / path.filename()).image});
    }
    require(!pairs.empty(), "{} holds no pictures", sr.string());
    return pairs;
}

/// Column by column: metric, then picture.
std::map<std::string, std::map<std::string, double>> read_expected(const std::string& path) {
    std::map<std::string, std::map<std::string, double>> columns;
    std::ifstream file(path);
    std::vector<std::string> names;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with('#')) continue;
        std::istringstream cells(line);
        std::vector<std::string> values;
        for (std::string cell; std::getline(cells, cell, ',');) values.push_back(cell);
        if (names.empty()) {
            names = values;
            continue;
        }
        for (std::size_t i = 1; i < std::min(names.size(), values.size()); ++i) {
            if (!values[i].empty()) columns[names[i]][values[0]] = std::stod(values[i]);
        }
    }
    return columns;
}

/// Of this process alone; getrusage would count the parent's until exec.
double peak_mib() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024.0;
    }
    return std::nan("");
}

/// Scores all pairs `runs` times after a warm-up; leaves the scores of the last run.
double median_ms(const Metric& metric, const std::vector<Pair>& pairs, int runs,
                 std::vector<double>& scores) {
    std::vector<double> times;
    for (int run = 0; run <= runs; ++run) {
        const auto start = std::chrono::steady_clock::now();
        tbb::parallel_for(std::size_t{0}, pairs.size(), [&](std::size_t i) {
            scores[i] = metric.score(pairs[i].sr, pairs[i].hr);
        });
        const std::chrono::duration<double, std::milli> t =
            std::chrono::steady_clock::now() - start;
        if (run > 0) times.push_back(t.count() / static_cast<double>(pairs.size()));
    }
    std::nth_element(times.begin(), times.begin() + runs / 2, times.end());
    return times[static_cast<std::size_t>(runs / 2)];
}

}  // namespace

int main(int argc, char** argv) {
    std::map<std::string, std::string> given{{"--expected", ""},
                                             {"--metric", ""},
                                             {"--profile", "cpu"},
                                             {"--threads", "2"},
                                             {"--runs", "9"}};
    if (argc < 3 || argc % 2 == 0) {
        std::fputs(
            "usage: metrics_bench SR HR [--expected FILE.csv] [--metric NAME] "
            "[--profile cuda|cpu] [--threads N] [--runs N]\n",
            stderr);
        return 2;
    }
    for (int i = 3; i + 1 < argc; i += 2) given.at(argv[i]) = argv[i + 1];
    const int threads = std::stoi(given["--threads"]);
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                    static_cast<std::size_t>(threads));
    const std::vector<Pair> pairs = read_pairs(argv[1], argv[2]);
    const auto expected = read_expected(given["--expected"]);
    const MetricOptions options{given["--profile"] == "cuda" ? Profile::cuda : Profile::cpu};

    for (const MetricInfo* info : all_metrics()) {
        if (!given["--metric"].empty() && given["--metric"] != info->name) continue;
        std::vector<double> scores(pairs.size());
        const double ms =
            median_ms(*info->make(options), pairs, std::stoi(given["--runs"]), scores);

        double sum = 0.0;
        double largest = 0.0;
        int compared = 0;
        for (std::size_t i = 0; i < pairs.size(); ++i) {
            sum += scores[i];
            const auto column = expected.find(info->name);
            if (column == expected.end() || !column->second.contains(pairs[i].name)) continue;
            largest = std::max(largest, std::abs(scores[i] - column->second.at(pairs[i].name)));
            ++compared;
        }
        Json line{{"what", info->name},
                  {"shape", {pairs.size(), 3, pairs[0].sr.height(), pairs[0].sr.width()}},
                  {"device", "cpu"},
                  {"threads", threads},
                  {"milliseconds", ms},
                  {"images_per_second", 1000.0 / ms},
                  {"peak_mib", json_number(peak_mib())},
                  {"commit", version_commit},
                  {"mean_score", json_number(sum / static_cast<double>(pairs.size()))}};
        if (compared > 0) line["largest_difference"] = json_number(largest);
        std::puts(dump_json_line(line).c_str());
        std::fflush(stdout);
    }
}
