// Stage rsd: Region-aware Selective Distillation of the student's UNet (Eq. 8 to 10).
#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include "models/sdd_loss.h"
#include "models/training/stages.h"

namespace ultrasr {
namespace {

/// E_S as stage dml left it; without DML (Table 3) as it began.
ModelFiles student_encoder(const TrainSettings& settings, const RunFolders& folders,
                           const ModelParts& teacher) {
    if (settings.dml.enabled) return read_encoder(folders.encoder);
    return settings.dml.init == EncoderStart::teacher ? teacher.vae : read_family(folders.base).vae;
}

ModelFiles student_unet(const TrainSettings& settings, const RunFolders& folders,
                        const ModelParts& teacher) {
    return settings.rsd.init == DenoiserStart::teacher ? teacher.unet
                                                       : read_family(folders.base).unet;
}

class RsdStage final : public LearningStage {
  public:
    RsdStage(const TrainSettings& settings, const Placement& placement)
        : settings_(settings),
          folders_(settings),
          teacher_(read_one_step(folders_.teacher, folders_.base)),
          schedule_(teacher_.schedule()),
          vae_t_(frozen_net<Vae>(teacher_.vae, placement)),
          unet_t_(frozen_net<UNet>(teacher_.unet, placement)),
          student_vae_(student_encoder(settings, folders_, teacher_)),
          encoder_s_(frozen_net<Vae>(student_vae_, placement)),
          start_(student_unet(settings, folders_, teacher_)),
          unet_s_(start_,
                  unet_learning(start_, settings.rsd.rank, settings.rsd.alpha, settings.seed),
                  placement),
          prompts_(settings, folders_.base, teacher_.prompt,
                   unet_s_.net().config().cross_attention_dim, placement.device) {
        if (settings.loss_lpips > 0) lpips_.emplace(placement);
        if (settings.loss_vsd > 0) {
            vsd_.emplace(read_family(folders_.base).unet, schedule_, settings, placement);
            negative_ = prompts_.of_text(settings.teacher_stage.negative_prompt);
        }
        unet_s_.net().run_blocks_by(block_runner(settings));
        vae_t_.run_blocks_by(block_runner(settings));
    }

    std::vector<ParameterGroup> groups() const override {
        std::vector<ParameterGroup> groups{{"", with_prefix(unet_s_.parameters(), "unet.")}};
        if (vsd_) groups.push_back({"regulariser", with_prefix(vsd_->parameters(), "unet.")});
        return groups;
    }

    SampleLevels levels(std::int64_t step) const override {
        return student_levels(settings_, step, false);
    }

    StageLoss loss(const MicroBatch& batch) override {
        const at::Tensor c = prompts_.of(batch.names);
        const at::Tensor y = signed_range(batch.hr);

        // The teacher, on the mild input
        at::Tensor y_t, theta, z_s, z_in;
        {
            const c10::NoGradGuard no_gradient;
            y_t = teacher_on(batch.lr_up.at(0), c);
            theta = theta_of(batch, y_t, y, c);
            z_s = encoder_s_.encode(batch.lr_up.at(1)).mean;
            z_in = z_s;
            if (theta.defined() && settings_.rsd.ni) {
                const at::Tensor theta_hat =
                    latent_map(theta, z_s.size(2), z_s.size(3), settings_.theta.down);
                z_in = inject_noise(
                    z_s, theta_hat,
                    batch_noise(batch, settings_.seed, Draw::injection, 0, z_s.sizes().slice(1)));
            }
        }

        // The student, on the moderate one
        const auto t = teacher_.timestep;
        const at::Tensor eps = unet_s_.net().forward(z_in, t, c);
        const at::Tensor& z_formula = settings_.rsd.formula == FormulaLatent::noisy ? z_in : z_s;
        const at::Tensor z_hr = schedule_.clean_latent(z_formula, eps, static_cast<int>(t));
        const at::Tensor picture = vae_t_.decode(z_hr);  // G: frozen, but differentiable
        const DistillLoss distill =
            distill_loss(signed_range(picture), y_t, y, theta, settings_.distill);

        StageLoss loss{.total = distill.loss, .parts = {}, .more = {}};
        if (distill.soft.defined()) loss.parts.emplace_back("soft", distill.soft.item<double>());
        if (distill.hard.defined()) loss.parts.emplace_back("hard", distill.hard.item<double>());
        if (lpips_) {
            const at::Tensor distance = (*lpips_)(picture, batch.hr);
            loss.total = loss.total + settings_.loss_lpips * distance;
            loss.parts.emplace_back("lpips", distance.item<double>());
        }
        if (vsd_) {
            const Vsd::Losses vsd = (*vsd_)(batch, z_hr, c, negative_);
            loss.total = loss.total + settings_.loss_vsd * vsd.generator + vsd.regulariser;
            loss.parts.emplace_back("vsd", vsd.generator.item<double>());
            loss.parts.emplace_back("regulariser", vsd.regulariser.item<double>());
        }
        if (theta.defined()) loss.more.emplace_back("theta_mean", theta.mean().item<double>());
        return loss;
    }

    Validation validate(const MicroBatch& batch) override {
        const c10::NoGradGuard no_gradient;
        const at::Tensor c = prompts_.of(batch.names);
        const auto t = teacher_.timestep;
        const at::Tensor z = encoder_s_.encode(batch.lr_up.at(1)).mean;  // no noise (A20)
        const at::Tensor x = vae_t_.decode(
            schedule_.clean_latent(z, unet_s_.net().forward(z, t, c), static_cast<int>(t)));
        const at::Tensor y_t = teacher_on(batch.lr_up.at(0), c);
        const at::Tensor direct = teacher_on(batch.lr_up.at(1), c);
        const auto picture = [](const at::Tensor& y) { return y * 0.5 + 0.5; };
        Validation v{
            .figures = {{"val_psnr", mean_psnr(x, batch.hr)},
                        {"val_psnr_teacher_direct", mean_psnr(picture(direct), batch.hr)},
                        {"val_psnr_teacher_mild", mean_psnr(picture(y_t), batch.hr)},
                        {"val_psnr_lr", mean_psnr(batch.lr_up.at(1), batch.hr)}},
            .pictures = {{fmt::format("LR x{}", levels(-1).scales.at(1)), batch.lr_up.at(1)},
                         {"teacher directly", picture(direct)},
                         {"teacher, mild", picture(y_t)},
                         {"student", x}}};
        const at::Tensor theta = theta_of(batch, y_t, signed_range(batch.hr), c);
        if (theta.defined()) {
            v.pictures.push_back({"theta", theta.mean(1, true)});
        }
        v.pictures.push_back({"HR", batch.hr});
        return v;
    }

    void write(const NamedTensors& learnt) override {
        const c10::ScalarType type = settings_.student_precision == Precision::fp16 ? at::kHalf
                                     : settings_.student_precision == Precision::bf16
                                         ? at::kBFloat16
                                         : at::kFloat;
        const auto stored = [&](NamedTensors tensors) {
            for (auto& [name, tensor] : tensors) tensor = tensor.to(type);
            return tensors;
        };
        write_one_step(folders_.student, teacher_,
                       stored(unet_s_.merged(without_prefix(learnt, "unet."))),
                       stored(student_vae_.tensors), prompts_.constant(), prompts_.constant_text(),
                       run_record(settings_, "rsd"));
    }

  private:
    at::Tensor clean_by_teacher(const at::Tensor& z, const at::Tensor& c) const {
        const auto t = teacher_.timestep;
        return schedule_.clean_latent(z, unet_t_.forward(z, t, c), static_cast<int>(t));
    }

    /// [-1,1], clamped
    at::Tensor teacher_on(const at::Tensor& x, const at::Tensor& c) const {
        const at::Tensor z_hr = clean_by_teacher(vae_t_.encode(x).mean, c);
        return at::clamp(signed_range(vae_t_.decode(z_hr)), -1.0, 1.0);
    }

    /// Eq. 8 as the settings have it; undefined without RSD.
    at::Tensor theta_of(const MicroBatch& batch, const at::Tensor& y_t, const at::Tensor& y,
                        const at::Tensor& c) const {
        if (!settings_.rsd.enabled) return {};
        if (!settings_.rsd.ue) return constant_map(y_t, settings_.theta.kappa);
        TeacherView view{.y_t = y_t, .y = y, .samples = {}};
        if (settings_.theta.source == ThetaSource::posterior_var) {
            const Posterior p = vae_t_.encode(batch.lr_up.at(0));
            std::vector<at::Tensor> passes;
            for (std::int64_t k = 0; k < settings_.theta_samples; ++k) {
                const at::Tensor noise =
                    batch_noise(batch, settings_.seed, Draw::uncertainty,
                                static_cast<std::uint64_t>(k), p.mean.sizes().slice(1));
                passes.push_back(at::clamp(
                    signed_range(vae_t_.decode(clean_by_teacher(p.sample(noise), c))), -1.0, 1.0));
            }
            view.samples = at::stack(passes);
        }
        return uncertainty_map(view, settings_.theta);
    }

    TrainSettings settings_;
    RunFolders folders_;
    ModelParts teacher_;
    NoiseSchedule schedule_;
    Vae vae_t_;  // E_T and G
    UNet unet_t_;
    ModelFiles student_vae_;
    Vae encoder_s_;
    ModelFiles start_;
    TrainedNet<UNet> unet_s_;
    Prompts prompts_;
    std::optional<LpipsLoss> lpips_;
    std::optional<Vsd> vsd_;
    at::Tensor negative_;
};

}  // namespace

std::unique_ptr<LearningStage> make_rsd_stage(const TrainSettings& settings,
                                              const Placement& placement) {
    return std::make_unique<RsdStage>(settings, placement);
}

}  // namespace ultrasr
