// Times the degradation operator on 512 x 512 patches in memory: draws, plan and all steps, from GT
// to LR and back to GT's size as OSEDiff's loader wants it. One JSON line a configuration.
//
//   degradation_bench [--json-lines] [--photo FILE] [--draws N] [--scales 4,8] [--threads 1,2]
//
// --photo  a picture of at least 512 x 512, default data/demo/photographs/astronaut.jpg
// ms_per_image is the median over the draws (variants of one seed), mean_ms their mean: times
// depend on what is drawn. With several threads it is wall clock by images. `accuracy` is this
// run's: exact, the largest difference of a second run (0 = the same bytes); fast, the share of LR
// bytes equal to tier exact and the PSNR between them, the worst picture's.
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/image_io.h"
#include "degradation/pipeline.h"
#include "version.h"

using namespace ultrasr;

namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}
double mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double v : values) sum += v;
    return sum / static_cast<double>(values.size());
}

double peak_mib() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024.0;
    }
    return std::nan("");
}

struct Setting {
    bool usm = false;
    Tier tier = Tier::exact;
    int scale = 4;
    std::string what() const {
        return std::string(tier == Tier::exact ? "exact" : "fast") + (usm ? " usm" : "");
    }
};

Plan plan_of(const Setting& setting, PixelSize gt, std::uint32_t draw) {
    Preset preset = load_preset("osediff").preset;
    preset.usm = setting.usm;
    return make_plan({{1, 7, draw}, gt, {{setting.scale, preset}}, Couple::stage1, setting.tier});
}

/// Worst share of equal LR bytes and worst PSNR between the tiers.
Json tier_distance(const Setting& setting, const Planar& gt, int draws) {
    double least_equal = 1, least_psnr = 200;
    Setting exact = setting;
    exact.tier = Tier::exact;
    for (int i = 0; i < draws; ++i) {
        const auto draw = static_cast<std::uint32_t>(i);
        const cv::Mat a =
            rgb8_of_planar(run_plan(plan_of(exact, gt.size(), draw), gt).levels[0].lr);
        const cv::Mat b =
            rgb8_of_planar(run_plan(plan_of(setting, gt.size(), draw), gt).levels[0].lr);
        double equal = 0, square = 0;
        for (std::size_t k = 0; k < a.total() * 3; ++k) {
            const int d = a.data[k] - b.data[k];
            equal += d == 0;
            square += d * d;
        }
        const auto n = static_cast<double>(a.total() * 3);
        least_equal = std::min(least_equal, equal / n);
        if (square > 0) {
            least_psnr = std::min(least_psnr, 10 * std::log10(255 * 255 * n / square));
        }
    }
    return {{"least_equal_bytes", least_equal}, {"least_psnr_db", least_psnr}};
}

double repeat_difference(const Setting& setting, const Planar& gt) {
    double most = 0;
    for (std::uint32_t draw = 0; draw < 4; ++draw) {
        const Plan plan = plan_of(setting, gt.size(), draw);
        const Planar a = run_plan(plan, gt).levels[0].lr, b = run_plan(plan, gt).levels[0].lr;
        for (std::size_t i = 0; i < a.values(); ++i) {
            most = std::max(most, std::abs(static_cast<double>(a.data()[i] - b.data()[i])));
        }
    }
    return most;
}

Json one_thread(const Setting& setting, const Planar& gt, int draws) {
    std::vector<double> each;
    std::map<std::string, double> steps;
    for (int i = -2; i < draws; ++i) {  // two to warm up
        const auto draw = static_cast<std::uint32_t>(std::max(i, 0));
        auto last = Clock::now();
        const auto start = last;
        const Plan plan = plan_of(setting, gt.size(), draw);
        std::map<std::string, double> parts{{"plan", ms_since(last)}};
        last = Clock::now();
        run_plan(plan, gt, [&](const std::string& name, const Planar&) {
            const std::size_t level = name.starts_with("x") ? name.find('.') + 1 : 0;
            parts[name.substr(level)] += ms_since(last);
            last = Clock::now();
        });
        if (i < 0) continue;
        each.push_back(ms_since(start));
        for (const auto& [name, ms] : parts) steps[name] += ms / draws;
    }
    return {{"ms_per_image", median(each)}, {"mean_ms", mean(each)}, {"mean_ms_by_step", steps}};
}

Json many_threads(const Setting& setting, const Planar& gt, int draws, int threads) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                    static_cast<std::size_t>(threads));
    const auto work = [&](int n) {
        tbb::parallel_for(0, n, [&](int i) {
            run_plan(plan_of(setting, gt.size(), static_cast<std::uint32_t>(i)), gt);
        });
    };
    work(2 * threads);
    const auto start = Clock::now();
    work(draws);
    const double ms = ms_since(start) / draws;
    return {{"ms_per_image", ms}, {"mean_ms", ms}};
}

std::vector<int> numbers(const std::string& text) {
    std::vector<int> out;
    std::istringstream words(text);
    for (std::string word; std::getline(words, word, ',');) out.push_back(std::stoi(word));
    return out;
}

}  // namespace

int main(int argc, char** argv) try {
    std::string photo = "data/demo/photographs/astronaut.jpg";
    std::vector<int> scales{4, 8}, threads{1, 2};
    int draws = 256;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        const auto value = [&]() -> std::string {
            require(i + 1 < argc, "{} needs a value", word);
            return argv[++i];
        };
        if (word == "--photo") {
            photo = value();
        } else if (word == "--draws") {
            draws = std::stoi(value());
        } else if (word == "--scales") {
            scales = numbers(value());
        } else if (word == "--threads") {
            threads = numbers(value());
        } else {
            require(word == "--json-lines", "unknown option {}", word);
        }
    }
    const cv::Mat rgb = read_rgb8(photo);
    require(rgb.rows >= 512 && rgb.cols >= 512, "{} is smaller than 512 x 512", photo);
    const Planar gt = planar_of_rgb(rgb(cv::Rect(0, 0, 512, 512)));
    for (const int scale : scales) {
        for (const Tier tier : {Tier::exact, Tier::fast}) {
            for (const bool usm : {true, false}) {
                const Setting setting{usm, tier, scale};
                for (const int n : threads) {
                    Json line{{"what", setting.what()}, {"scale", scale}, {"shape", {512, 512, 3}},
                              {"device", "cpu"},        {"threads", n},   {"draws", draws}};
                    line.update(n == 1 ? one_thread(setting, gt, draws)
                                       : many_threads(setting, gt, draws, n));
                    line["images_per_second"] = 1000 / line["mean_ms"].get<double>();
                    line["accuracy"] = tier == Tier::exact
                                           ? Json(repeat_difference(setting, gt))
                                           : tier_distance(setting, gt, std::min(draws, 32));
                    line["peak_mib"] = peak_mib();
                    line["commit"] = version_commit;
                    std::printf("%s\n", dump_json_line(line).c_str());
                    std::fflush(stdout);
                }
            }
        }
    }
    return 0;
} catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return static_cast<int>(error.fault());
}
