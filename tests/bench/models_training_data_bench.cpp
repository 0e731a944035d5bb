// Times training batches: patches of 128, 256 and 512 pixels with levels x4, x8, x16, as preset
// osediff degrades them. One JSON line for each patch, thread count and cache.
//
//   models_training_data_bench [--data FOLDER] [--preset osediff] [--count 8] [--seconds 2]
//
// Without --data, on eight JPEG photographs of 12 megapixels made for the purpose. `cached`: all
// pictures are decoded before the clock starts, else each is decoded for its sample. A rate is that
// of the median batch of --count samples; `decode` and `degrade` are shares of the threads' time,
// the former with cropping.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <unistd.h>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/base/random.h"
#include "data/file.h"
#include "data/image_io.h"
#include "models/training/data.h"

using namespace ultrasr;

namespace {

/// Noise of many sizes, as a camera stores it; under 100 MB in all.
void write_photographs(const std::filesystem::path& folder, int count) {
    constexpr int width = 4000, height = 3000;
    for (int i = 0; i < count; ++i) {
        Rng rng(7, static_cast<std::uint64_t>(i));
        cv::Mat sum = cv::Mat::zeros(height, width, CV_32FC3);
        for (const int cell : {4, 16, 64, 256}) {
            cv::Mat noise(height / cell + 2, width / cell + 2, CV_32FC3), large;
            std::generate(noise.begin<cv::Vec3f>(), noise.end<cv::Vec3f>(), [&] {
                const auto grey = static_cast<float>(rng.below(80));
                return cv::Vec3f(grey, grey, grey + static_cast<float>(rng.below(16)));
            });
            cv::resize(noise, large, sum.size(), 0, 0, cv::INTER_CUBIC);
            sum += large * 0.8;
        }
        cv::Mat rgb;
        sum.convertTo(rgb, CV_8U);
        write_file(folder / (std::to_string(i) + ".jpg"), encode_jpeg(rgb, 92, true));
    }
}

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

Json measure(const TrainingDataOptions& options, int count, double seconds) {
    const TrainingData data(options);
    for (std::size_t i = 0; options.cache_bytes > 0 && i < data.pictures(); ++i) {
        data.source().get(i);
    }
    std::vector<double> taken;
    double sum = 0, decode = 0, degrade = 0;
    std::uint64_t first = 0;
    data.batch(first, 1, {{4, 8, 16}});  // tables are made
    while (sum < seconds || taken.size() < 3) {
        const TrainingBatch batch = data.batch(first, count, {{4, 8, 16}});
        first += static_cast<std::uint64_t>(count);
        taken.push_back(batch.seconds);
        sum += batch.seconds;
        decode += batch.decode_seconds;
        degrade += batch.degrade_seconds;
    }
    return {{"patch", options.patch},
            {"threads", options.threads},
            {"cached", options.cache_bytes > 0},
            {"images_per_s", count / median(taken)},
            {"ms_per_image_and_thread", 1000 * (decode + degrade) / static_cast<double>(first)},
            {"decode", decode / (decode + degrade)},
            {"degrade", degrade / (decode + degrade)},
            {"batches", taken.size()}};
}

int run(int argc, char** argv) {
    std::map<std::string, std::string> given{
        {"--data", ""}, {"--preset", "osediff"}, {"--count", "8"}, {"--seconds", "2"}};
    for (int i = 1; i < argc; i += 2) {
        require(i + 1 < argc && given.contains(argv[i]),
                "usage: models_training_data_bench [--data FOLDER] [--preset NAME] [--count N] "
                "[--seconds S]");
        given[argv[i]] = argv[i + 1];
    }
    std::filesystem::path folder = given["--data"];
    const bool made = folder.empty();
    if (made) {
        folder = std::filesystem::temp_directory_path() /
                 ("ultrasr-training-data-" + std::to_string(::getpid()));
        make_folders(folder);
        write_photographs(folder, 8);
    }
    TrainingDataOptions options;
    options.roots = {folder};
    options.presets = {given["--preset"]};
    for (const bool cached : {true, false}) {
        for (const int patch : {128, 256, 512}) {
            for (const int threads : {1, 2}) {
                options.patch = patch;
                options.threads = threads;
                options.cache_bytes = cached ? std::size_t{1} << 30 : 0;
                const Json line =
                    measure(options, std::stoi(given["--count"]), std::stod(given["--seconds"]));
                std::printf("%s\n", line.dump().c_str());
                std::fflush(stdout);
            }
        }
    }
    if (made) std::filesystem::remove_all(folder);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const Error& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return static_cast<int>(error.fault());
    }
}
