// What each technique of the one-step engine gains: layers of Stable Diffusion 2.1's sizes at
// 512 x 512, with and without it, turn by turn. One JSON line for each technique.
//
//   one_step_parts_bench [--base DIR] [--threads N] [--runs N] [--precision fp32|bf16]
//
// --base   a family (sdd-train init); the techniques that concern the whole UNet need it and are
//          left out without
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/tensor/attention.h"
#include "models/diffusers_folder.h"
#include "models/layers/norm_silu.h"
#include "models/layers/resnet_block.h"
#include "models/unet.h"
#include "version.h"

using namespace ultrasr;

namespace {

using Work = std::function<at::Tensor()>;

double seconds_of(const Work& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

struct Bench {
    int runs = 9;
    int threads = 2;
    std::string precision;

    void line(const std::string& technique, const std::string& shape, const Work& before,
              const Work& after) const {
        const at::Tensor a = before().to(at::kFloat), b = after().to(at::kFloat);
        const double largest = std::max(1e-12, a.abs().max().item<double>());
        std::vector<double> before_s, after_s;
        for (int i = 0; i < runs; ++i) {
            before_s.push_back(seconds_of(before));
            after_s.push_back(seconds_of(after));
        }
        const Json json{{"technique", technique},
                        {"shape", shape},
                        {"precision", precision},
                        {"threads", threads},
                        {"before_ms", 1e3 * median(before_s)},
                        {"after_ms", 1e3 * median(after_s)},
                        {"times_as_fast", median(before_s) / median(after_s)},
                        {"largest_difference", (a - b).abs().max().item<double>() / largest},
                        {"commit", version_commit}};
        std::printf("%s\n", dump_json_line(json).c_str());
        std::fflush(stdout);
    }
};

/// Weights that keep activations near unit variance, the same for the same name.
StateDict random_weights() {
    return StateDict(
        [made = NamedTensors()](const std::string& name, at::IntArrayRef shape) mutable {
            double fan_in = 1.0;
            for (std::size_t d = 1; d < shape.size(); ++d) fan_in *= static_cast<double>(shape[d]);
            const bool norm = shape.size() == 1 && name.ends_with("weight");
            at::Tensor& values = made[name];
            if (!values.defined()) {
                values = norm ? at::randn(shape) * 0.1 + 1.0 : at::randn(shape) / std::sqrt(fan_in);
            }
            return values;
        });
}

/// The UNet's techniques: merged adapters, constant time, constant prompt.
void unet_lines(const Bench& bench, const std::string& base, Placement placement) {
    placement.inference_only = true;
    const auto load = [&](AdapterTable* adapters) {
        ModelFiles files = read_model_folder(open_family(base).unet, "diffusion_pytorch_model");
        const UNetConfig config = UNetConfig::from_json(files.config, files.what);
        StateDict weights(std::move(files.tensors), files.what);
        Placement p = placement;
        p.inference_only = adapters == nullptr;
        return UNet(weights, config, p, adapters);
    };
    const at::Tensor z = at::randn({1, 4, 64, 64});
    std::optional<UNet> unet = load(nullptr);
    const at::Tensor c = at::randn({1, 77, unet->config().cross_attention_dim});
    const Work pass = [&] { return unet->forward(z, 999, c); };

    // Adapters of rank 4 beside every module, but with B = 0: the same prediction
    {
        AdapterTable table;
        const UNet plain = load(&table);
        LoraSet adapters;
        for (const auto& [name, shape] : UNet::tensor_shapes(unet->config())) {
            if (!name.ends_with(".weight")) continue;
            const std::string module = name.substr(0, name.size() - 7);
            if (!table.contains(module)) continue;
            std::vector<std::int64_t> a = shape, b(shape.size(), 1);
            a[0] = b[1] = 4;
            b[0] = shape[0];
            adapters[module].push_back({.a = at::randn(a), .b = at::zeros(b), .scale = 2.0});
        }
        const Work unmerged = [&] { return plain.forward(z, 999, c); };
        const double without = [&] {
            unmerged();
            return std::min(seconds_of(unmerged), seconds_of(unmerged));
        }();
        attach_lora(table, adapters, placement, "the UNet");
        const Work attached = [&] { return plain.forward(z, 999, c); };
        bench.line("1 LoRA merged (before: attached, layers unfused)", "UNet, 64 x 64", attached,
                   pass);
        std::printf("%s\n", dump_json_line(Json{{"technique", "1 without any adapter, unfused"},
                                                {"after_ms", 1e3 * without}})
                                .c_str());
    }
    const auto folded = [&](const char* what, const std::function<void(UNet&)>& fold) {
        UNet other = load(nullptr);
        fold(other);
        bench.line(what, "UNet, 64 x 64", pass, [&] { return other.forward(z, 999, c); });
    };
    folded("2 constant time folded into biases", [](UNet& u) { u.fix_timestep(999); });
    folded("3 constant prompt's keys and values kept", [&](UNet& u) { u.fix_prompt(c); });
}

int run(int argc, char** argv) {
    std::map<std::string, std::string> args{{"threads", "2"}, {"runs", "9"}, {"precision", "fp32"}};
    for (int i = 1; i + 1 < argc; i += 2) args[std::string(argv[i]).substr(2)] = argv[i + 1];
    const bool half = args["precision"] == "bf16";
    const Bench bench{std::stoi(args["runs"]), std::stoi(args["threads"]), args["precision"]};
    Placement placement = place(ComputeOptions{
        .threads = bench.threads, .precision = half ? Precision::bf16 : Precision::fp32});
    placement.inference_only = true;
    const c10::InferenceMode guard;
    const auto tensor = [&](at::IntArrayRef shape) { return at::randn(shape).to(placement.dtype); };

    if (args.contains("base")) unet_lines(bench, args["base"], placement);

    // 4. Layout and precision of a convolution of the decoder
    const at::Tensor w = at::randn({128, 128, 3, 3}) / 34.0, b = at::randn({128});
    const Conv conv(w, b, {.padding = {1, 1}}, placement);
    const at::Tensor exact = at::randn({1, 128, 512, 512});
    const at::Tensor map = to_activation(exact, placement);
    bench.line(
        "4 channels-last, packed weights (before: NCHW, float32)", "3 x 3, 128, 512 x 512",
        [&] { return at::conv2d(exact, w, b, 1, 1); }, [&] { return conv(map); });

    // 6. Attention
    for (const auto& [tokens, heads, width] :
         {std::array<std::int64_t, 3>{4096, 5, 64}, {1024, 10, 64}, {4096, 1, 512}}) {
        const at::Tensor q = tensor({1, tokens, heads, width}), k = tensor(q.sizes()),
                         v = tensor(q.sizes());
        bench.line(
            "6 attention head by head (before: LibTorch's fused operator)",
            fmt::format("{} tokens, {} heads of {}", tokens, heads, width),
            [&] { return fused_attention(q, k, v); },
            [&] { return attention_by_head(q, k, v, placement); });
    }

    // 7. Group norm, SiLU and a convolution
    StateDict weights = random_weights();
    const GroupNorm2d norm(weights, "norm", 128, 32, 1e-6, placement);
    bench.line(
        "7 group norm and SiLU in one loop (before: two operators)", "128, 512 x 512",
        [&] { return norm.plain_silu(map); }, [&] { return norm.silu(map); });
    const StripConv strips(
        norm, AdaptedConv({weights, placement}, "conv", 128, 128, 3, {.padding = {1, 1}}),
        placement.dtype);
    const std::int64_t bytes = strip_bytes();
    bench.line(
        "7 norm, SiLU, convolution in strips (before: whole maps)", "128, 512 x 512",
        [&] {
            set_strip_bytes(0);
            const at::Tensor y = strips(map);
            set_strip_bytes(bytes);
            return y;
        },
        [&] { return strips(map); });

    // 8. Joint and fused linear layers
    const at::Tensor x = tensor({1, 4096, 320});
    const at::Tensor all = at::randn({960, 320}) / 18.0;
    const Linear qkv(all, {}, placement), q(all.narrow(0, 0, 320), {}, placement),
        k(all.narrow(0, 320, 320), {}, placement), v(all.narrow(0, 640, 320), {}, placement);
    bench.line(
        "8 q, k, v in one layer (before: three)", "4096 x 320",
        [&] {
            return at::cat({q(x), k(x), v(x)}, 2);
        },
        [&] { return qkv(x); });
    const at::Tensor both = at::randn({2560, 320}) / 18.0, zero = at::zeros({2560});
    const Linear proj(both, zero, placement),
        value(both.narrow(0, 0, 1280), zero.narrow(0, 0, 1280), placement),
        gate(both.narrow(0, 1280, 1280), zero.narrow(0, 0, 1280), placement);
    bench.line(
        "8 GEGLU fused into its layers (before: one layer, then two operators)",
        "4096 x 320 to 1280",
        [&] {
            const at::Tensor y = proj(x);
            return y.narrow(2, 0, 1280) * at::gelu(y.narrow(2, 1280, 1280));
        },
        [&] { return value.mul(x, gate.gelu(x)); });

    // 9. Nearest and a 3 x 3 convolution as four 2 x 2 ones
    const Doubling doubling({weights, placement}, "up", 256);
    Placement unfolded = placement;
    unfolded.inference_only = false;
    const Doubling plain({weights, unfolded}, "up", 256);
    const at::Tensor small = to_activation(at::randn({1, 256, 256, 256}), placement);
    bench.line(
        "9 doubling by four 2 x 2 convolutions (before: nearest, 3 x 3)",
        "256, 256 x 256 to 512 x 512", [&] { return plain(small); },
        [&] { return doubling(small); });
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
