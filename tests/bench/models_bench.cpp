// Times the GAN networks and checks the run that was timed. One JSON line each.
//
//   models_bench [--weights DIR] [--size N] [--threads N] [--runs N] [--net NAME] [--dump FILE]
//
// --net    rrdb (default), srvgg16, srvgg32
// --dump   writes the input `x` and the float32 output `y` as safetensors, for compare_models.py
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/base/random.h"
#include "data/weights/weight_store.h"
#include "models/method.h"
#include "models/rrdbnet.h"
#include "models/srvgg.h"
#include "version.h"

using namespace ultrasr;

namespace {

struct Subject {
    const char* file;
    double value;  ///< of the output at [0,0,0], input of peer_methods.md 8.1
};
const std::map<std::string, Subject> subjects{
    {"rrdb", {"RealESRGAN_x4plus.safetensors", 0.3151435}},
    {"srvgg16", {"realesr-animevideov3.safetensors", 0.08411}},
    {"srvgg32", {"realesr-general-x4v3.safetensors", -0.03614}},
};

std::unique_ptr<UpscaleNet> load(const std::string& name, const MethodOptions& options) {
    const KnownWeights known = load_known_weights(subjects.at(name).file, options);
    if (name == "rrdb") return std::make_unique<RrdbNet>(known.tensors, place(options), name);
    return std::make_unique<SrvggNet>(known.tensors, place(options), name);
}

at::Tensor noise(std::int64_t size) {
    at::Tensor x = at::empty({1, 3, size, size});
    Rng rng(1, 0);
    float* p = x.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < x.numel(); ++i) p[i] = static_cast<float>(rng.uniform());
    return x;
}

at::Tensor ramp() {
    at::Tensor x = at::empty({1, 3, 8, 8});
    float* p = x.mutable_data_ptr<float>();
    for (int i = 0; i < 192; ++i) {
        p[i] = static_cast<float>((37 * (i / 64) + 11 * (i / 8 % 8) + 7 * (i % 8)) % 64) / 63.0F;
    }
    return x;
}

struct Time {
    double wall_ms;
    double cpu_ms;  ///< of all threads
};

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

Time time_of(const UpscaleNet& net, const at::Tensor& x, int runs) {
    std::vector<double> walls;
    std::vector<double> cpus;
    for (int i = 0; i <= runs; ++i) {
        const auto start = std::chrono::steady_clock::now();
        const std::clock_t busy = std::clock();
        net.forward(x);
        const std::chrono::duration<double, std::milli> wall =
            std::chrono::steady_clock::now() - start;
        if (i == 0) continue;  // the first one warms up
        walls.push_back(wall.count());
        cpus.push_back(1e3 * static_cast<double>(std::clock() - busy) / CLOCKS_PER_SEC);
    }
    return {median(walls), median(cpus)};
}

double peak_mib() {
    struct rusage usage {};
    ::getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

}  // namespace

int main(int argc, char** argv) {
    std::map<std::string, std::string> given{{"--net", "rrdb"},  {"--size", "128"}, {"--runs", "9"},
                                             {"--threads", "2"}, {"--weights", ""}, {"--dump", ""}};
    for (int i = 1; i + 1 < argc; i += 2) given.at(argv[i]) = argv[i + 1];
    MethodOptions options;
    options.weights = given["--weights"];
    options.threads = std::stoi(given["--threads"]);
    const std::string name = given["--net"];
    const at::Tensor x = noise(std::stoi(given["--size"]));
    const int runs = std::stoi(given["--runs"]);

    at::Tensor exact;
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
        options.precision = precision;
        const auto net = load(name, options);
        const Time time = time_of(*net, x, runs);
        const at::Tensor y = net->forward(x);
        Json line{{"what", name},
                  {"shape", {1, 3, x.size(2), x.size(3)}},
                  {"device", options.device},
                  {"threads", options.threads},
                  {"dtype", dtype_name(place(options))},
                  {"milliseconds", time.wall_ms},
                  {"cpu_milliseconds", time.cpu_ms},
                  {"images_per_second", 1000.0 / time.wall_ms},
                  {"peak_mib", peak_mib()},
                  {"commit", version_commit}};
        if (precision == Precision::fp32) {
            exact = y;
            line["vector_error"] = std::abs(net->forward(ramp()).flatten()[0].item<double>() -
                                            subjects.at(name).value);
            if (!given["--dump"].empty()) save_tensors(given["--dump"], {{"x", x}, {"y", y}});
        } else {
            const double mse = (y.clamp(0, 1) - exact.clamp(0, 1)).square().mean().item<double>();
            line["psnr_against_fp32"] = json_number(10.0 * std::log10(1.0 / mse));
        }
        std::puts(dump_json_line(line).c_str());
        std::fflush(stdout);
    }
}
