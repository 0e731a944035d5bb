// Times a one-step model on one picture, a pass being encoder, UNet, formula and decoder. One JSON
// line.
//
//   one_step_bench --base DIR [--input FILE] [--size N] [--precision fp32|bf16|fp16]
//                  [--device cpu|cuda] [--runs N] [--threads N] [--dump FILE] [--plain]
//                  [--strips BYTES] [--keep-prompt] [--tile N] [--no-graphs]
//
// --input        safetensors: image [1,3,N,N] in [-1,1], ctx [1,77,C]; else both by formula
// --plain        layers as training has them: nothing fused, folded or packed ahead
// --strips       bytes of a strip; 0: whole maps
// --keep-prompt  keys and values of the prompt computed in every pass
// --no-graphs    on a GPU: every pass launched anew. With graphs the first pass of a size runs as
// it
//                is and the second is recorded, so take at least 5 runs
// --dump         z, pred, z_hr, sr [-1,1], float32, as compare_one_step.py reads them
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/base/random.h"
#include "data/tensor/named_tensors.h"
#include "models/layers/norm_silu.h"
#include "models/one_step_files.h"
#include "version.h"

using namespace ultrasr;

namespace {

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

double peak_mib() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

at::Tensor uniform(at::IntArrayRef shape, std::uint64_t item) {
    at::Tensor x = at::empty(shape, at::kFloat);
    Rng rng(1, item);
    float* p = x.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < x.numel(); ++i) p[i] = static_cast<float>(rng.uniform());
    return x;
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

int run(int argc, char** argv) {
    std::map<std::string, std::string> args{{"size", "512"},   {"precision", "fp32"},
                                            {"runs", "3"},     {"threads", "2"},
                                            {"device", "cpu"}, {"tile", "96"}};
    for (int i = 1; i < argc; ++i) {
        const std::string name = std::string(argv[i]).substr(2);
        const bool flag = name == "plain" || name == "keep-prompt" || name == "no-graphs";
        require(flag || i + 1 < argc, "{} needs a value", argv[i]);
        args[name] = flag ? "yes" : argv[++i];
    }
    const std::map<std::string, Precision> precisions{
        {"fp32", Precision::fp32}, {"bf16", Precision::bf16}, {"fp16", Precision::fp16}};
    const ComputeOptions compute{.device = args["device"],
                                 .threads = std::stoi(args["threads"]),
                                 .precision = precisions.at(args["precision"])};
    const Placement placement = place(compute);
    if (args.contains("strips")) set_strip_bytes(std::stoll(args["strips"]));
    const bool plain = args.contains("plain");
    LoadedOneStep loaded = load_base_model(args["base"], placement, !plain);
    OneStepModel& model = loaded.model;

    const std::int64_t size = std::stoll(args["size"]);
    at::Tensor x = uniform({1, 3, size, size}, 0);
    at::Tensor c = uniform({1, 77, model.unet().config().cross_attention_dim}, 1) * 3.46 - 1.73;
    if (args.contains("input")) {
        const NamedTensors given = load_tensors(args["input"]);
        x = given.at("image").to(at::kFloat) * 0.5 + 0.5;
        c = given.at("ctx").to(at::kFloat);
    }
    if (!plain && !args.contains("keep-prompt")) {
        model.fix_prompt(c);
        c.reset();
    }
    const bool gpu = placement.device.is_cuda();
    if (gpu && !args.contains("no-graphs")) model.use_graphs(open_graph_cache(placement.device));
    const double load_peak = peak_mib();
    std::ofstream("/proc/self/clear_refs") << "5";

    std::map<std::string, std::vector<double>> seconds;
    OneStepResult result;
    for (int i = 0; i <= std::stoi(args["runs"]); ++i) {
        StageTimes times;
        OneStepRun pass{.tiles = {.tile = std::stoll(args["tile"]), .batch = gpu ? 8 : 1},
                        .noise = {},
                        .taps = {},
                        .times = &times};
        const double cpu = cpu_seconds();
        const auto start = std::chrono::steady_clock::now();
        result = model.restore(x.to(placement.device), c, pass);
        result.x_hr = result.x_hr.to(at::kCPU);  // waits for a GPU
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
        if (i == 0) continue;
        for (const auto& [stage, s] : times.stages()) seconds[stage + "_s"].push_back(s);
        seconds["total_s"].push_back(taken.count());
        seconds["cpu_s"].push_back(cpu_seconds() - cpu);
    }
    const double pass_peak = peak_mib();
    if (args.contains("dump")) {
        save_tensors(args["dump"],
                     {{"z", result.z_lr.to(at::kCPU).contiguous()},
                      {"pred", result.epsilon.to(at::kCPU).contiguous()},
                      {"z_hr", result.z_hr.to(at::kCPU).contiguous()},
                      {"sr", (at::clamp(result.x_hr, 0.0, 1.0) * 2.0 - 1.0).contiguous()}});
    }

    Json line{{"what", plain ? "one-step, plain layers" : "one-step"},
              {"size", size},
              {"device", args["device"]},
              {"precision", args["precision"]},
              {"threads", compute.threads},
              {"commit", version_commit}};
    for (const auto& [key, values] : seconds) line[key] = median(values);
    line["peak_mib"] = std::max(load_peak, pass_peak);
    line["pass_peak_mib"] = pass_peak;
    if (gpu) {
        const auto stats =
            c10::getDeviceAllocator(at::kCUDA)->getDeviceStats(placement.device.index());
        line["gpu_reserved_peak_mib"] =
            static_cast<double>(stats.reserved_bytes[0].peak) / 1048576.0;
        line["graphs"] = !args.contains("no-graphs");
    }
    line["mean"] = result.x_hr.mean().item<double>();
    std::printf("%s\n", dump_json_line(line).c_str());
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
}
