// Stages vae and base: a small family from scratch, where no Stable Diffusion weights are at hand.
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/l1_loss.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/std.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <cmath>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "models/osediff_loss.h"
#include "models/training/stages.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

/// Writes a family whose networks are those of another, one of them replaced.
void write_family(const fs::path& from, const fs::path& to, const std::string& component,
                  const Json& config, const NamedTensors& tensors) {
    std::error_code ignored;
    fs::remove(to / "model_index.json", ignored);  // not whole while it is missing
    if (!fs::equivalent(from, to, ignored)) {
        for (const char* part : {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}) {
            if (part == component || !fs::exists(from / part, ignored)) continue;
            make_folders(to / part);
            for (const auto& entry : fs::directory_iterator(from / part)) {
                const fs::path target = to / part / entry.path().filename();
                if (fs::exists(target, ignored)) continue;
                TemporaryFile copy(target);
                std::error_code fault;
                fs::copy_file(entry.path(), copy.path(), fault);
                if (fault || copy.become(target) != 0) {
                    fail(Fault::storage, "cannot copy {} to {}", entry.path().string(),
                         target.string());
                }
            }
        }
    }
    const fs::path folder = to / component;
    save_tensors(folder / "diffusion_pytorch_model.safetensors", tensors, {{"format", "pt"}});
    write_file(folder / "config.json", dump_json(config));
    write_file(to / "model_index.json", dump_json({{"_class_name", "StableDiffusionPipeline"}}));
}

Learning everything(std::uint64_t seed) {
    return {.whole = [](const std::string&) { return true; }, .modules = {}, .seed = seed};
}

/// |difference of horizontal and vertical neighbours' differences|: edges as sharp as they were.
at::Tensor gradient_loss(const at::Tensor& x, const at::Tensor& y) {
    const at::Tensor d = x - y;
    const auto along = [&](std::int64_t dim) {
        const std::int64_t n = d.size(dim);
        return at::abs(d.narrow(dim, 1, n - 1) - d.narrow(dim, 0, n - 1)).mean();
    };
    return along(2) + along(3);
}

// ---- vae ----

class VaeStage final : public LearningStage {
  public:
    VaeStage(const TrainSettings& settings, const Placement& placement)
        : settings_(settings),
          folders_(settings),
          base_(settings.base),
          vae_(read_model_folder(open_family(base_).vae, "diffusion_pytorch_model"),
               everything(settings.seed), placement) {
        if (settings.vae_stage.lambda_lpips > 0) lpips_.emplace(placement);
        vae_.net().run_blocks_by(block_runner(settings));
    }

    std::vector<ParameterGroup> groups() const override {
        return {{"", with_prefix(vae_.parameters(), "vae.")}};
    }

    SampleLevels levels(std::int64_t) const override { return {}; }

    StageLoss loss(const MicroBatch& batch) override {
        const auto& w = settings_.vae_stage;
        const Posterior p = vae_.net().encode(batch.hr);
        const at::Tensor z = p.sample(
            batch_noise(batch, settings_.seed, Draw::posterior, 0, p.mean.sizes().slice(1)));
        const at::Tensor decoded = vae_.net().decode(z);
        const at::Tensor x = signed_range(decoded), y = signed_range(batch.hr);
        const at::Tensor l1 = at::l1_loss(x, y), mse = at::mse_loss(x, y);
        const at::Tensor edges = gradient_loss(x, y);
        const at::Tensor mean = p.mean / p.scale;  // of the unscaled latent, as logvar is
        const at::Tensor kl = 0.5 * (mean.square() + at::exp(p.logvar) - 1.0 - p.logvar).mean();
        StageLoss loss;
        loss.total =
            w.lambda_l1 * l1 + w.lambda_mse * mse + w.lambda_gradient * edges + w.lambda_kl * kl;
        loss.parts = {{"l1", l1.item<double>()},
                      {"mse", mse.item<double>()},
                      {"gradient", edges.item<double>()},
                      {"kl", kl.item<double>()}};
        if (lpips_) {
            const at::Tensor distance = (*lpips_)(decoded, batch.hr);
            loss.total = loss.total + w.lambda_lpips * distance;
            loss.parts.emplace_back("lpips", distance.item<double>());
        }
        return loss;
    }

    Validation validate(const MicroBatch& batch) override {
        const c10::NoGradGuard no_gradient;
        const Posterior p = vae_.net().encode(batch.hr);
        const at::Tensor x = vae_.net().decode(p.mean);
        return {.figures = {{"val_psnr", mean_psnr(x, batch.hr)},
                            {"val_latent_std", at::std(p.mean).item<double>()}},
                .pictures = {{"HR", batch.hr}, {"decoded", x}}};
    }

    /// The latents' size at the end, so that they can be scaled to variance 1.
    void look_at(const MicroBatch& batch) override {
        const c10::NoGradGuard no_gradient;
        const Posterior p = vae_.net().encode(batch.hr);
        latent_std_ = at::std(p.mean / p.scale).item<double>();
    }

    void write(const NamedTensors& learnt) override {
        Json config = vae_.config();
        if (latent_std_ > 0) config["scaling_factor"] = 1.0 / latent_std_;
        write_family(base_, folders_.own_base, "vae", config,
                     vae_.merged(without_prefix(learnt, "vae.")));
    }

  private:
    TrainSettings settings_;
    RunFolders folders_;
    fs::path base_;
    TrainedNet<Vae> vae_;
    std::optional<LpipsLoss> lpips_;
    double latent_std_ = 0.0;
};

// ---- base ----

class BaseStage final : public LearningStage {
  public:
    BaseStage(const TrainSettings& settings, const Placement& placement)
        : settings_(settings),
          folders_(settings),
          parts_(read_family(folders_.base)),
          schedule_(parts_.schedule()),
          vae_(frozen_net<Vae>(parts_.vae, placement)),
          unet_(parts_.unet, everything(settings.seed), placement),
          prompts_(settings, folders_.base, parts_.prompt, unet_.net().config().cross_attention_dim,
                   placement.device) {
        unet_.net().run_blocks_by(block_runner(settings));
    }

    std::vector<ParameterGroup> groups() const override {
        return {{"", with_prefix(unet_.parameters(), "unet.")}};
    }

    SampleLevels levels(std::int64_t) const override { return {}; }

    StageLoss loss(const MicroBatch& batch) override {
        // Ho et al. 2020, L_simple, in the latents of Rombach et al. 2022
        const at::Tensor l = denoising_loss(batch, context_of(batch));
        return {.total = l, .parts = {{"mse", l.item<double>()}}, .more = {}};
    }

    Validation validate(const MicroBatch& batch) override {
        const c10::NoGradGuard no_gradient;
        const at::Tensor c = prompts_.of(batch.names);
        return {.figures = {{"val_mse", denoising_loss(batch, c).item<double>()}}, .pictures = {}};
    }

    void write(const NamedTensors& learnt) override {
        write_family(folders_.base, folders_.own_base, "unet", unet_.config(),
                     unet_.merged(without_prefix(learnt, "unet.")));
    }

  private:
    at::Tensor context_of(const MicroBatch& batch) {
        const double dropped = settings_.base_stage.prompt_dropout;
        const at::Tensor c = prompts_.of(batch.names);
        std::vector<at::Tensor> rows;
        for (std::int64_t i = 0; i < c.size(0); ++i) {
            Rng rng = stream_of(settings_.seed, Draw::prompt,
                                batch.first + static_cast<std::uint64_t>(i));
            rows.push_back(rng.uniform() < dropped ? prompts_.of_text("") : c.narrow(0, i, 1));
        }
        return at::cat(rows, 0);
    }

    at::Tensor denoising_loss(const MicroBatch& batch, const at::Tensor& c) const {
        at::Tensor z;
        {
            const c10::NoGradGuard no_gradient;
            const Posterior p = vae_.encode(batch.hr);
            z = p.sample(
                batch_noise(batch, settings_.seed, Draw::posterior, 0, p.mean.sizes().slice(1)));
        }
        const auto last = static_cast<std::int64_t>(schedule_.alphas_cumprod().size()) - 1;
        const at::Tensor t = batch_timesteps(batch, settings_.seed, Draw::timestep, 0, last);
        const at::Tensor noise =
            batch_noise(batch, settings_.seed, Draw::noise, 0, z.sizes().slice(1));
        const at::Tensor z_t = add_noise(z, noise, alpha_bars(schedule_, t, z.device()));
        return at::mse_loss(unet_.net().forward(z_t, t, c), noise);
    }

    TrainSettings settings_;
    RunFolders folders_;
    ModelParts parts_;
    NoiseSchedule schedule_;
    Vae vae_;
    TrainedNet<UNet> unet_;
    Prompts prompts_;
};

}  // namespace

std::unique_ptr<LearningStage> make_vae_stage(const TrainSettings& settings,
                                              const Placement& placement) {
    return std::make_unique<VaeStage>(settings, placement);
}

std::unique_ptr<LearningStage> make_base_stage(const TrainSettings& settings,
                                               const Placement& placement) {
    return std::make_unique<BaseStage>(settings, placement);
}

}  // namespace ultrasr
