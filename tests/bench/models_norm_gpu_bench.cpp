// Times group normalisation with SiLU on a GPU: our kernel against LibTorch's two operators, on the
// maps of Stable Diffusion 2.1's VAE and UNet at 512 x 512. One JSON line a map.
//
//   models_norm_gpu_bench [--device cuda] [--precision fp16|bf16|fp32] [--runs N]
//
// A run is 20 calls between two waits for the GPU, divided by 20; the median of the runs counts.
// `gb_per_s` counts what has to move: the map read twice and written once.
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/tensor/device.h"
#include "models/layers/norm_silu_cuda.h"
#include "version.h"

using namespace ultrasr;

namespace {

constexpr int calls = 20;

/// Milliseconds of one call.
template <class Work>
double milliseconds(const c10::Device& device, int runs, const Work& work) {
    const c10::impl::VirtualGuardImpl gpu(device.type());
    std::vector<double> taken;
    for (int run = 0; run <= runs; ++run) {
        gpu.getStream(device).synchronize();
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < calls; ++i) work();
        gpu.getStream(device).synchronize();
        const std::chrono::duration<double, std::milli> ms =
            std::chrono::steady_clock::now() - start;
        if (run > 0) taken.push_back(ms.count() / calls);  // the first one warms up
    }
    const auto middle = taken.begin() + static_cast<std::ptrdiff_t>(taken.size() / 2);
    std::nth_element(taken.begin(), middle, taken.end());
    return *middle;
}

int run(int argc, char** argv) {
    std::map<std::string, std::string> given{
        {"--device", "cuda"}, {"--precision", "fp16"}, {"--runs", "9"}};
    for (int i = 1; i < argc; i += 2) {
        require(i + 1 < argc && given.contains(argv[i]),
                "usage: models_norm_gpu_bench [--device cuda] [--precision fp16|bf16|fp32] "
                "[--runs N]");
        given[argv[i]] = argv[i + 1];
    }
    const std::map<std::string, c10::ScalarType> types{
        {"fp32", c10::kFloat}, {"bf16", c10::kBFloat16}, {"fp16", c10::kHalf}};
    require(types.contains(given["--precision"]), "unknown precision {}; known: fp16, bf16, fp32",
            given["--precision"]);
    const c10::ScalarType type = types.at(given["--precision"]);
    const int runs = std::max(1, std::stoi(given["--runs"]));
    const c10::Device device = open_device(given["--device"]);
    const c10::InferenceMode guard;

    struct Map {
        std::int64_t channels, side;
    };
    for (const Map& m : {Map{128, 512}, Map{256, 512}, Map{512, 256}, Map{512, 64}, Map{320, 64},
                         Map{960, 64}, Map{1280, 16}, Map{2560, 8}}) {
        const at::Tensor x =
            at::randn({1, m.channels, m.side, m.side}, at::TensorOptions().device(device))
                .to(type)
                .contiguous(at::MemoryFormat::ChannelsLast);
        require(norm_kernel_takes(x), "the kernel is for CUDA GPUs and builds with nvcc");
        const at::Tensor w = at::randn({m.channels}, at::TensorOptions().device(device));
        const at::Tensor b = at::randn({m.channels}, at::TensorOptions().device(device));
        const at::Tensor w_typed = w.to(type), b_typed = b.to(type);
        const auto ours = [&] {
            return run_norm_kernel(x, w, b, {.groups = 32, .eps = 1e-5, .silu = true, .out = type});
        };
        const auto theirs = [&] { return at::silu(at::group_norm(x, 32, w_typed, b_typed, 1e-5)); };
        const double ms = milliseconds(device, runs, ours);
        const double plain_ms = milliseconds(device, runs, theirs);
        const double bytes = 3.0 * static_cast<double>(x.numel() * x.element_size());
        const Json line{
            {"what", "group norm and SiLU"},
            {"map", {1, m.channels, m.side, m.side}},
            {"device", given["--device"]},
            {"precision", given["--precision"]},
            {"kernel_ms", ms},
            {"libtorch_ms", plain_ms},
            {"times", plain_ms / ms},
            {"gb_per_s", bytes / ms / 1e6},
            {"largest_difference",
             at::abs(ours().to(c10::kFloat) - theirs().to(c10::kFloat)).max().item<double>()},
            {"commit", version_commit}};
        std::printf("%s\n", dump_json_line(line).c_str());
    }
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
