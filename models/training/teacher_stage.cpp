// Stage teacher: OSEDiff's recipe at the low scale (Wu et al. 2024; one_step_models.md 2.3).
#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/mse_loss.h>
#include <c10/core/GradMode.h>

#include "models/training/stages.h"

namespace ultrasr {
namespace {

class TeacherStage final : public LearningStage {
  public:
    TeacherStage(const TrainSettings& settings, const Placement& placement)
        : settings_(settings),
          folders_(settings),
          parts_(read_family(folders_.base)),
          schedule_(parts_.schedule()),
          vae_(parts_.vae,
               encoder_learning(parts_.vae, settings.teacher_stage.rank_vae,
                                settings.teacher_stage.alpha, settings.seed),
               placement),
          unet_(parts_.unet,
                unet_learning(parts_.unet, settings.teacher_stage.rank_unet,
                              settings.teacher_stage.alpha, settings.seed),
                placement),
          prompts_(settings, folders_.base, parts_.prompt, unet_.net().config().cross_attention_dim,
                   placement.device) {
        if (settings.teacher_stage.lambda_lpips > 0) lpips_.emplace(placement);
        if (settings.teacher_stage.lambda_vsd > 0) {
            vsd_.emplace(parts_.unet, schedule_, settings, placement);
            negative_ = prompts_.of_text(settings.teacher_stage.negative_prompt);
        }
        vae_.net().run_blocks_by(block_runner(settings));
        unet_.net().run_blocks_by(block_runner(settings));
    }

    std::vector<ParameterGroup> groups() const override {
        NamedTensors own = with_prefix(vae_.parameters(), "vae.");
        own.merge(with_prefix(unet_.parameters(), "unet."));
        std::vector<ParameterGroup> groups{{"", std::move(own)}};
        if (vsd_) groups.push_back({"regulariser", with_prefix(vsd_->parameters(), "unet.")});
        return groups;
    }

    SampleLevels levels(std::int64_t) const override {
        return {.scales = {static_cast<int>(settings_.scale_teacher)}};
    }

    StageLoss loss(const MicroBatch& batch) override {
        const auto& w = settings_.teacher_stage;
        const at::Tensor c = prompts_.of(batch.names);
        const Posterior p = vae_.net().encode(batch.lr_up.at(0));
        const at::Tensor z = w.sample ? p.sample(batch_noise(batch, settings_.seed, Draw::posterior,
                                                             0, p.mean.sizes().slice(1)))
                                      : p.mean;
        const at::Tensor z_hr = clean(z, c);
        at::Tensor x = vae_.net().decode(z_hr);
        if (w.clamp) x = at::clamp(x, 0.0, 1.0);  // inside the graph: no gradient beyond
        const at::Tensor mse = at::mse_loss(signed_range(x), signed_range(batch.hr));
        StageLoss loss{
            .total = w.lambda_mse * mse, .parts = {{"mse", mse.item<double>()}}, .more = {}};
        if (lpips_) {
            const at::Tensor distance = (*lpips_)(x, batch.hr);
            loss.total = loss.total + w.lambda_lpips * distance;
            loss.parts.emplace_back("lpips", distance.item<double>());
        }
        if (vsd_) {
            const Vsd::Losses vsd = (*vsd_)(batch, z_hr, c, negative_);
            loss.total = loss.total + w.lambda_vsd * vsd.generator + vsd.regulariser;
            loss.parts.emplace_back("vsd", vsd.generator.item<double>());
            loss.parts.emplace_back("regulariser", vsd.regulariser.item<double>());
        }
        return loss;
    }

    Validation validate(const MicroBatch& batch) override {
        const c10::NoGradGuard no_gradient;
        const at::Tensor x = vae_.net().decode(
            clean(vae_.net().encode(batch.lr_up.at(0)).mean, prompts_.of(batch.names)));
        return {.figures = {{"val_psnr", mean_psnr(x, batch.hr)},
                            {"val_psnr_lr", mean_psnr(batch.lr_up.at(0), batch.hr)}},
                .pictures = {{"LR x" + std::to_string(settings_.scale_teacher), batch.lr_up.at(0)},
                             {"teacher", x},
                             {"HR", batch.hr}}};
    }

    void write(const NamedTensors& learnt) override {
        write_one_step(folders_.teacher, parts_, unet_.merged(without_prefix(learnt, "unet.")),
                       vae_.merged(without_prefix(learnt, "vae.")), prompts_.constant(),
                       prompts_.constant_text(), run_record(settings_, "teacher"));
    }

  private:
    at::Tensor clean(const at::Tensor& z, const at::Tensor& c) const {
        const auto t = parts_.timestep;
        return schedule_.clean_latent(z, unet_.net().forward(z, t, c), static_cast<int>(t));
    }

    TrainSettings settings_;
    RunFolders folders_;
    ModelParts parts_;
    NoiseSchedule schedule_;
    TrainedNet<Vae> vae_;
    TrainedNet<UNet> unet_;
    Prompts prompts_;
    std::optional<LpipsLoss> lpips_;
    std::optional<Vsd> vsd_;
    at::Tensor negative_;
};

}  // namespace

std::unique_ptr<LearningStage> make_teacher_stage(const TrainSettings& settings,
                                                  const Placement& placement) {
    return std::make_unique<TeacherStage>(settings, placement);
}

}  // namespace ultrasr
