// Times one step of each training stage on a family of random weights, and what its pictures take
// beside it; then group norm and SiLU with their gradients, torch's operators and ours in turn:
// tables in Markdown.
//
//   models_training_step_bench [--patch 128] [--batch 8] [--steps 4] [--threads N] [--device cpu]
//
// Variants of one run are measured one after the other: float32, bf16, and float32 that recomputes
// blocks; compare them with each other, not with another machine's.
#include <ATen/Parallel.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "data/base/random.h"
#include "data/file.h"
#include "data/image_io.h"
#include "models/layers/norm_silu_gradient.h"
#include "models/random_family.h"
#include "models/training/trainer.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

void write_pictures(const fs::path& folder, int side) {
    for (int i = 0; i < 8; ++i) {
        Rng rng(3, static_cast<std::uint64_t>(i));
        cv::Mat small(side / 8, side / 8, CV_8UC3), large;
        std::generate(small.begin<cv::Vec3b>(), small.end<cv::Vec3b>(), [&] {
            const auto value = [&] { return static_cast<unsigned char>(rng.below(256)); };
            return cv::Vec3b(value(), value(), value());
        });
        cv::resize(small, large, {side, side}, 0, 0, cv::INTER_CUBIC);
        write_file(folder / fmt::format("{}.jpg", i), encode_jpeg(large, 92, true));
    }
}

Json small_family() {
    return {{"vae",
             {{"block_out_channels", {16, 32, 48, 64}},
              {"layers_per_block", 1},
              {"latent_channels", 8},
              {"norm_num_groups", 8}}},
            {"unet",
             {{"in_channels", 8},
              {"out_channels", 8},
              {"block_out_channels", {32, 48}},
              {"layers_per_block", 1},
              {"down_block_types", {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D"}},
              {"up_block_types", {"CrossAttnUpBlock2D", "CrossAttnUpBlock2D"}},
              {"attention_head_dim", {2, 4}},
              {"cross_attention_dim", 16},
              {"norm_num_groups", 8}}},
            {"text_encoder",
             {{"hidden_size", 16},
              {"intermediate_size", 32},
              {"num_hidden_layers", 1},
              {"num_attention_heads", 2}}}};
}

/// Milliseconds of the median of `runs` forward and backward passes.
double passes_ms(int runs, const std::function<at::Tensor()>& forward, at::Tensor& x) {
    std::vector<double> all;
    for (int i = 0; i < runs; ++i) {
        x.mutable_grad() = at::Tensor();
        const auto start = std::chrono::steady_clock::now();
        const at::Tensor y = forward();
        y.backward(at::ones(y.sizes(), y.options()).contiguous(at::MemoryFormat::ChannelsLast));
        const std::chrono::duration<double, std::milli> took =
            std::chrono::steady_clock::now() - start;
        all.push_back(took.count());
    }
    std::ranges::nth_element(all, all.begin() + runs / 2);
    return all[static_cast<std::size_t>(runs / 2)];
}

void print_norms(std::int64_t batch, int threads) {
    at::set_num_threads(threads);
    fmt::print("\n| map | torch, ms | ours, ms | times as fast |\n|---|---|---|---|\n");
    constexpr std::array<std::array<std::int64_t, 2>, 3> maps{{{16, 128}, {32, 64}, {48, 32}}};
    for (const auto& [channels, side] : maps) {
        at::Tensor x = at::randn({batch, channels, side, side})
                           .contiguous(at::MemoryFormat::ChannelsLast)
                           .requires_grad_();
        const at::Tensor weight = at::ones({channels}).requires_grad_();
        const at::Tensor bias = at::zeros({channels}).requires_grad_();
        const std::int64_t groups = 8;
        const auto torch = [&] { return at::silu(at::group_norm(x, groups, weight, bias, 1e-5)); };
        const auto ours = [&] {
            return norm_silu_with_gradient(x, weight, bias, {.groups = groups});
        };
        std::vector<double> a, b;
        for (int turn = 0; turn < 5; ++turn) {
            a.push_back(passes_ms(9, torch, x));
            b.push_back(passes_ms(9, ours, x));
        }
        std::ranges::sort(a);
        std::ranges::sort(b);
        fmt::print("| {} x {} x {} x {} | {:.2f} | {:.2f} | {:.2f} |\n", batch, channels, side,
                   side, a[2], b[2], a[2] / b[2]);
    }
}

}  // namespace

int main(int argc, char** argv) {
    std::map<std::string, std::string> options{
        {"--patch", "128"},
        {"--batch", "8"},
        {"--steps", "4"},
        {"--threads", std::to_string(std::thread::hardware_concurrency())},
        {"--device", "cpu"}};
    for (int i = 1; i < argc; i += 2) {
        if (!options.contains(argv[i]) || i + 1 == argc) {
            fmt::print(stderr, "no option {}, or no value for it; the head of this file has all\n",
                       argv[i]);
            return 2;
        }
        options[argv[i]] = argv[i + 1];
    }
    const auto number = [&](const char* name) { return std::stoll(options.at(name)); };

    const fs::path folder =
        fs::temp_directory_path() / fmt::format("ultrasr_step_bench_{}", ::getpid());
    try {
        Progress quiet;
        write_pictures(folder / "hr", static_cast<int>(4 * number("--patch")));
        RandomFamilyOptions family;
        family.config = small_family();
        family.out = folder / "family";
        write_random_family(family, quiet);
        Json run{{"base", family.out.string()},
                 {"data", (folder / "hr").string()},
                 {"out", (folder / "run").string()},
                 {"stage", "vae,base,teacher,dml,rsd"},
                 {"batch", number("--batch")},
                 {"patch", number("--patch")},
                 {"teacher_stage", {{"lambda_lpips", 0}}}};
        const std::vector<std::pair<const char*, Json>> variants{
            {"fp32", Json::object()},
            {"bf16", {{"precision", "bf16"}}},
            {"fp32, blocks recomputed", {{"gradient_checkpointing", true}}}};
        fmt::print("| stage | numbers | s a step | pictures, s | pictures / step | images/s |\n");
        fmt::print("|---|---|---|---|---|---|\n");
        for (const auto& [name, changes] : variants) {
            Json changed = run;
            changed.update(changes);
            const auto estimates = estimate(train_settings(changed, "the benchmark"),
                                            {.device = options.at("--device"),
                                             .threads = static_cast<int>(number("--threads"))},
                                            quiet, number("--steps"));
            for (const StageEstimate& e : estimates) {
                fmt::print("| {} | {} | {:.3f} | {:.3f} | {:.2f} | {:.1f} |\n", e.stage, name,
                           e.seconds_a_step, e.data_seconds, e.data_seconds / e.seconds_a_step,
                           static_cast<double>(number("--batch")) / e.seconds_a_step);
            }
        }
    } catch (const std::exception& error) {
        fmt::print(stderr, "{}\n", error.what());
        fs::remove_all(folder);
        return 1;
    }
    fs::remove_all(folder);
    if (options.at("--device") == "cpu") {
        print_norms(number("--batch"), static_cast<int>(number("--threads")));
    }
    return 0;
}
