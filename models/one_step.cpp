#include "models/one_step.h"

#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace ultrasr {
namespace {

// Larger passes hide their launches behind their work, and a graph's memory stays taken
constexpr std::int64_t most_latents_in_vae = 128 * 128, most_latents_in_unet = 8 * 96 * 96;

std::int64_t pixels_of(const at::Tensor& map) { return map.size(0) * map.size(2) * map.size(3); }

void wait_for(const c10::Device& device) {
    if (device.is_cpu()) return;
    c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
}

}  // namespace

OneStepModel::OneStepModel(Vae vae, UNet unet, NoiseSchedule schedule, std::int64_t timestep)
    : vae_(std::move(vae)),
      unet_(std::move(unet)),
      schedule_(std::move(schedule)),
      timestep_(timestep) {
    const c10::InferenceMode guard;
    unet_.fix_timestep(timestep);
}

void OneStepModel::fix_prompt(const at::Tensor& c) {
    const c10::InferenceMode guard;
    unet_.fix_prompt(c);
    if (graphs_) graphs_->clear();
}

// ---- E, epsilon_theta and G, each in one pass ----

GraphCache::Tensors OneStepModel::pass(const char* name, std::int64_t latents, std::int64_t most,
                                       const GraphCache::Tensors& inputs, const OneStepRun& run,
                                       const GraphCache::Pass& work) const {
    const bool as_graph = graphs_ && run.graphs && !run.taps && latents <= most;
    return as_graph ? graphs_->run(name, inputs, work) : work(inputs);
}

Posterior OneStepModel::encode(const at::Tensor& x_lr, const OneStepRun& run) const {
    const VaeConfig& config = vae_.config();
    const auto moments =
        pass("encode", pixels_of(x_lr) / (config.factor() * config.factor()), most_latents_in_vae,
             {x_lr}, run, [this, taps = run.taps](const GraphCache::Tensors& in) {
                 const Posterior p = vae_.encode(in[0], taps);
                 return GraphCache::Tensors{p.mean, p.logvar};
             });
    return {.mean = moments[0], .logvar = moments[1], .scale = config.scaling_factor};
}

at::Tensor OneStepModel::predict(const at::Tensor& tiles, const at::Tensor& c,
                                 const OneStepRun& run) const {
    GraphCache::Tensors inputs{tiles};
    if (c.defined()) inputs.push_back(c.repeat({tiles.size(0) / c.size(0), 1, 1}));
    return pass("predict", pixels_of(tiles), most_latents_in_unet, inputs, run,
                [this, taps = run.taps](const GraphCache::Tensors& in) {
                    const at::Tensor prompt = in.size() > 1 ? in[1] : at::Tensor();
                    return GraphCache::Tensors{unet_.forward(in[0], timestep_, prompt, taps)};
                })[0];
}

at::Tensor OneStepModel::decode(const at::Tensor& z_hr, const OneStepRun& run) const {
    return pass("decode", pixels_of(z_hr), most_latents_in_vae, {z_hr}, run,
                [this, taps = run.taps](const GraphCache::Tensors& in) {
                    return GraphCache::Tensors{vae_.decode(in[0], taps)};
                })[0];
}

// ---- the paper's three equations ----

OneStepResult OneStepModel::restore(const at::Tensor& x_lr, const at::Tensor& c,
                                    const OneStepRun& run) const {
    const c10::InferenceMode guard;
    const auto timed = [&](const char* stage, const auto& work) {
        const StageTimer timer(run.times, stage);
        const at::Tensor result = work();
        if (run.times) wait_for(result.device());
        return result;
    };
    OneStepResult r;
    r.z_lr = timed("encode", [&] {  // Eq. 1: z_LR = E(x_LR)
        const Posterior posterior = encode(x_lr, run);
        return run.noise.defined() ? posterior.sample(run.noise) : posterior.mean;
    });
    r.epsilon = timed("unet", [&] {
        return predict_tiled(r.z_lr, run.tiles,
                             [&](const at::Tensor& tiles) { return predict(tiles, c, run); });
    });
    r.z_hr = schedule_.clean_latent(r.z_lr, r.epsilon, static_cast<int>(timestep_));  // Eq. 2
    r.x_hr = timed("decode", [&] { return decode(r.z_hr, run); });                    // Eq. 3
    return r;
}

}  // namespace ultrasr
