// Passes as graphs: the cache with recordings that run on the CPU, and CUDA's own on a GPU.
#include "models/cuda_graph.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "models/one_step.h"
#include "tests/metrics/generated_weights.h"
#include "tests/models/devices.h"
#include "tests/models/one_step_goldens.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

using Tensors = GraphCache::Tensors;

struct Counts {
    int recorded = 0, replayed = 0, alive = 0;
};

/// What a GPU's graph does, seen from outside: nothing while it is recorded, then the work on the
/// tensors it was recorded with.
class Repeated final : public DeviceGraph {
  public:
    Repeated(DeviceGraphs::Work work, Counts& counts)
        : work_(std::move(work)), outputs_(work_()), counts_(counts) {
        for (const at::Tensor& output : outputs_) output.fill_(std::nan(""));
        ++counts_.alive;
    }
    ~Repeated() override { --counts_.alive; }
    void replay() override {
        ++counts_.replayed;
        const Tensors results = work_();
        for (std::size_t i = 0; i < results.size(); ++i) outputs_[i].copy_(results[i]);
    }
    const Tensors& outputs() const override { return outputs_; }

  private:
    DeviceGraphs::Work work_;
    Tensors outputs_;
    Counts& counts_;
};

class RepeatedGraphs final : public DeviceGraphs {
  public:
    explicit RepeatedGraphs(Counts& counts) : counts_(counts) {}
    std::unique_ptr<DeviceGraph> record(const Work& work) override {
        work();
        ++counts_.recorded;
        return std::make_unique<Repeated>(work, counts_);
    }

  private:
    Counts& counts_;
};

/// Counts its runs.
struct Doubled {
    int runs = 0;

    GraphCache::Pass pass() {
        return [this](const Tensors& in) {
            ++runs;
            return Tensors{in[0] * 2.0};
        };
    }
};

at::Tensor filled(std::int64_t n, double value) { return at::full({1, n}, value, at::kFloat); }

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE(
        "GraphCache: the first pass of a size runs, the second is recorded, others repeat it") {
        const c10::InferenceMode guard;
        Counts counts;
        GraphCache cache(std::make_unique<RepeatedGraphs>(counts));
        Doubled doubled;
        const auto run = [&](std::int64_t n, double value) {
            return cache.run("double", {filled(n, value)}, doubled.pass())[0];
        };
        CHECK(run(3, 1.0).sum().item<double>() == 6.0);
        CHECK(counts.recorded == 0);
        const at::Tensor second = run(3, 2.0), third = run(3, 5.0);
        CHECK(counts.recorded == 1);
        CHECK(counts.replayed == 2);
        // Each its own numbers, and what was returned stays
        CHECK(second.sum().item<double>() == 12.0);
        CHECK(third.sum().item<double>() == 30.0);
        // Another size, type or name is another graph
        run(4, 1.0);
        cache.run("double", {filled(3, 1.0).to(at::kDouble)}, doubled.pass());
        cache.run("other", {filled(3, 1.0)}, doubled.pass());
        CHECK(counts.recorded == 1);
        CHECK(counts.replayed == 2);
    }

    TEST_CASE("GraphCache: what is longest unused goes, and clear() forgets all") {
        const c10::InferenceMode guard;
        Counts counts;
        GraphCache cache(std::make_unique<RepeatedGraphs>(counts), 2);
        Doubled doubled;
        const auto run = [&](std::int64_t n) {
            cache.run("double", {filled(n, 1.0)}, doubled.pass());
        };
        for (const std::int64_t n : {1, 1, 2, 2, 1, 3, 3}) run(n);  // 2 goes for 3
        CHECK(counts.recorded == 3);
        CHECK(counts.alive == 2);
        run(1);
        run(3);
        CHECK(counts.recorded == 3);
        run(2);  // as for the first time
        CHECK(counts.recorded == 3);
        run(2);
        CHECK(counts.recorded == 4);
        CHECK(counts.alive == 2);
        cache.clear();
        CHECK(counts.alive == 0);
        run(3);
        CHECK(counts.recorded == 4);
        run(3);
        CHECK(counts.recorded == 5);
    }

    TEST_CASE("GraphCache: a pass that cannot be recorded runs as it is") {
        class Refusing final : public DeviceGraphs {
          public:
            std::unique_ptr<DeviceGraph> record(const Work&) override {
                ++asked;
                throw std::runtime_error("operation not permitted");
            }
            int asked = 0;
        };
        const c10::InferenceMode guard;
        auto refusing = std::make_unique<Refusing>();
        Refusing& device = *refusing;
        GraphCache cache(std::move(refusing));
        Doubled doubled;
        for (int i = 0; i < 4; ++i) {
            CHECK(cache.run("double", {filled(2, 3.0)}, doubled.pass())[0].sum().item<double>() ==
                  12.0);
        }
        CHECK(device.asked == 1);
        CHECK(doubled.runs == 4);
    }
}

namespace {

OneStepModel tiny_model(const Placement& placement) {
    const Json unet_file = test::one_step_golden("unet.json");
    const Json vae_file = test::one_step_golden("vae.json");
    StateDict unet_weights = test::generated_weights(), vae_weights = test::generated_weights();
    Vae vae(vae_weights, VaeConfig::from_json(vae_file.at("configs").at("tiny"), "vae"), placement);
    UNet unet(unet_weights, UNetConfig::from_json(unet_file.at("configs").at("tiny"), "unet"),
              placement);
    return {std::move(vae), std::move(unet), NoiseSchedule(NoiseScheduleConfig{}), 999};
}

at::Tensor picture(std::int64_t height, std::int64_t width) {
    return test::generated_tensor("graph.picture", {1, 3, height, width}) * 0.1 + 0.5;
}
at::Tensor prompt() { return test::generated_tensor("graph.prompt", {1, 77, 24}); }

void check_equal(const OneStepResult& a, const OneStepResult& b) {
    CHECK(at::equal(a.z_lr, b.z_lr));
    CHECK(at::equal(a.epsilon, b.epsilon));
    CHECK(at::equal(a.z_hr, b.z_hr));
    CHECK(at::equal(a.x_hr, b.x_hr));
}

OneStepRun run_with(bool graphs, bool tiles) {
    OneStepRun run;
    run.graphs = graphs;
    if (tiles) run.tiles = {.tile = 6, .overlap = 2, .batch = 3};
    return run;
}

}  // namespace

TEST_SUITE("property") {
    TEST_CASE("OneStepModel: with graphs bit for bit what it gives without") {
        const c10::InferenceMode guard;
        for (const c10::Device& device : test::devices()) {
            for (const c10::ScalarType type : {c10::kFloat, c10::kHalf}) {
                if (device.is_cpu() && type == c10::kHalf) continue;
                Counts counts;
                OneStepModel model =
                    tiny_model({.device = device, .dtype = type, .inference_only = true});
                model.use_graphs(device.is_cpu() ? std::make_unique<GraphCache>(
                                                       std::make_unique<RepeatedGraphs>(counts))
                                                 : open_graph_cache(device));
                struct Kind {
                    bool fixed, tiles;
                };
                for (const Kind& kind : {Kind{false, false}, Kind{true, false}, Kind{true, true}}) {
                    CAPTURE(device.str());
                    CAPTURE(kind.tiles);
                    CAPTURE(kind.fixed);
                    OneStepModel plain =
                        tiny_model({.device = device, .dtype = type, .inference_only = true});
                    if (kind.fixed) {
                        plain.fix_prompt(prompt());
                        if (!kind.tiles) model.fix_prompt(prompt());
                        if (!kind.tiles) CHECK(counts.alive == 0);
                    }
                    const at::Tensor c = kind.fixed ? at::Tensor() : prompt().to(device);
                    double brightness = 0.5;
                    for (const std::int64_t width : {64, 64, 96, 64, 96}) {
                        brightness += 0.1;
                        const at::Tensor x = picture(64, width).to(device) * brightness;
                        check_equal(model.restore(x, c, run_with(true, kind.tiles)),
                                    plain.restore(x, c, run_with(false, kind.tiles)));
                    }
                }
                if (device.is_cpu()) {
                    CHECK(counts.recorded > 6);
                    CHECK(counts.replayed > counts.recorded);
                }
            }
        }
    }

    TEST_CASE("OneStepModel: a listener hears every pass, graphs or not") {
        const c10::InferenceMode guard;
        Counts counts;
        OneStepModel model = tiny_model({.inference_only = true});
        model.use_graphs(std::make_unique<GraphCache>(std::make_unique<RepeatedGraphs>(counts)));
        model.fix_prompt(prompt());
        for (int i = 0; i < 3; ++i) {
            test::Listener listener;
            OneStepRun run;
            run.taps = listener.taps();
            model.restore(picture(64, 64), {}, run);
            CHECK(listener.heard.contains("decoder.conv_out"));
        }
        CHECK(counts.recorded == 0);
        OneStepRun off;
        off.graphs = false;
        for (int i = 0; i < 3; ++i) model.restore(picture(64, 64), {}, off);
        CHECK(counts.recorded == 0);
    }
}
