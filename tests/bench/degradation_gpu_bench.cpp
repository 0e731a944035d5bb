// Times the batched degradation on a GPU: copying in, every kernel, copying out, and the whole with
// its plans; and compares the results of that very run with the CPU's. One JSON line each.
//
//   degradation_gpu_bench [--preset NAME] [--scales 4,8,14] [--patch N] [--batch N] [--runs N]
//                         [--gpu N] [--host-twin yes]
//
// --host-twin  runs what the GPU would run on the CPU, once, and times nothing: shows the launches
//              and that the results agree, where no GPU is
// Pictures are made, not read. "whole" counts what a training step waits for: launches are planned,
// pixels copied, results there; "plans" is the drawing of the plans, which a loader does before.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/random.h"
#include "degradation/degrade_batch.h"
#include "degradation/preset.h"
#include "version.h"

using namespace ultrasr;

namespace {

double peak_mib() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024.0;
    }
    return 0;
}

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

struct Results {
    std::vector<std::vector<float>> pictures;
    std::vector<BatchItem> items;

    Results(const std::vector<Plan>& plans, const std::vector<std::vector<std::uint8_t>>& gt) {
        const auto room = [&](PixelSize size) {
            pictures.emplace_back(3 * static_cast<std::size_t>(size.width) *
                                  static_cast<std::size_t>(size.height));
            return pictures.back().data();
        };
        for (std::size_t i = 0; i < plans.size(); ++i) {
            BatchItem item;
            item.plan = &plans[i];
            item.gt.pixels = gt[i].data();
            for (const LevelPlan& level : plans[i].levels) {
                float* lr = room(level.lr);
                item.levels.push_back({lr, level.back.empty() ? nullptr : room(plans[i].gt)});
            }
            items.push_back(item);
        }
    }
};

std::size_t differing_values(const Results& a, const Results& b) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < a.pictures.size(); ++i) {
        for (std::size_t k = 0; k < a.pictures[i].size(); ++k) {
            count += std::memcmp(&a.pictures[i][k], &b.pictures[i][k], sizeof(float)) != 0;
        }
    }
    return count;
}

template <class Action>
double milliseconds_of(Action&& action) {
    const auto start = std::chrono::steady_clock::now();
    action();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
}

int run(std::map<std::string, std::string> given) {
    // Plans and pictures
    const int patch = std::stoi(given["--patch"]), runs = std::stoi(given["--runs"]);
    const std::size_t n = std::stoul(given["--batch"]);
    const Preset preset = load_preset(given["--preset"]).preset;
    std::vector<LevelRequest> levels;
    std::istringstream scales(given["--scales"]);
    for (std::string scale; std::getline(scales, scale, ',');) {
        levels.push_back({std::stoi(scale), preset});
    }
    std::vector<PlanRequest> requests(n);
    std::vector<std::vector<std::uint8_t>> gt(n);
    for (std::size_t i = 0; i < n; ++i) {
        requests[i] = {.stream = {.seed = 1, .id = i + 1}, .gt = {patch, patch}, .levels = levels};
        Rng rng(3, i);
        for (int v = 0; v < 3 * patch * patch; ++v) {
            const int x = v / 3 % patch, y = v / 3 / patch;
            const int value =
                60 * (x / 31 % 3) + 50 * (y / 17 % 2) + static_cast<int>(rng.below(24));
            gt[i].push_back(static_cast<std::uint8_t>(value));
        }
    }
    std::vector<Plan> plans;
    const double plan_ms = milliseconds_of([&] { plans = make_plans(requests); });

    // The CPU's results, then those of the GPU: whole runs, then runs with marks between kernels
    Results expected(plans, gt), got(plans, gt);
    DegradeBatch().run(expected.items);
    const bool twin = given["--host-twin"] == "yes";
    DegradeBatch batch({.kind = twin ? BatchDevice::cuda_on_cpu : BatchDevice::cuda,
                        .index = std::stoi(given["--gpu"])});
    std::vector<double> whole;
    std::map<std::string, std::vector<double>> parts;
    std::vector<BatchTime> times;
    for (int r = 0; !twin && r <= runs; ++r) {
        const double ms = milliseconds_of([&] { batch.run(got.items); });
        if (r > 0) whole.push_back(ms);
    }
    batch.measure(true);
    for (int r = 0; r <= (twin ? 0 : runs); ++r) {
        batch.run(got.items);
        times = batch.times();
        if (r == 0) continue;
        for (const BatchTime& t : times) parts[t.what].push_back(t.milliseconds);
    }
    const std::size_t differing = differing_values(expected, got);

    // One line for each part
    const auto line = [&](const std::string& what, int launches, double ms) {
        Json json{{"what", what},
                  {"preset", preset.name},
                  {"scales", given["--scales"]},
                  {"shape", {n, 3, patch, patch}},
                  {"device", twin ? "cpu as cuda" : "cuda:" + given["--gpu"]},
                  {"launches", launches},
                  {"device_mib", static_cast<double>(batch.device_bytes()) / 1048576.0},
                  {"peak_mib", peak_mib()},
                  {"commit", version_commit},
                  {"values_unlike_cpu", differing}};
        if (!twin) {
            json["milliseconds"] = ms;
            json["images_per_second"] = 1000.0 * static_cast<double>(n) / ms;
        }
        std::puts(dump_json_line(json).c_str());
    };
    int launches = 0;
    for (const BatchTime& t : times) {
        line(t.what, t.launches, twin ? 0 : median(parts[t.what]));
        launches += t.launches;
    }
    if (!twin) line("plans", 0, plan_ms);
    line("whole", launches, twin ? 0 : median(whole));
    return differing == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    std::map<std::string, std::string> given{
        {"--preset", "realesrgan"}, {"--scales", "4,8,14"}, {"--patch", "512"},
        {"--batch", "16"},          {"--runs", "9"},        {"--gpu", "0"},
        {"--host-twin", "no"}};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc || !given.contains(argv[i])) {
            std::fputs(
                "usage: degradation_gpu_bench [--preset NAME] [--scales 4,8,14] [--patch N] "
                "[--batch N] [--runs N] [--gpu N] [--host-twin yes]\n",
                stderr);
            return 2;
        }
        given[argv[i]] = argv[i + 1];
    }
    try {
        return run(given);
    } catch (const Error& error) {
        std::fprintf(stderr, "error: %s\n", error.sentence().c_str());
        return static_cast<int>(error.fault());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: a number is expected: %s\n", error.what());
        return 2;
    }
}
