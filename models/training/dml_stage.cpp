// Stage dml: Degradation-aware Metric Learning of the student's encoder (Eq. 4 to 7).
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include "models/sdd_loss.h"
#include "models/training/stages.h"

namespace ultrasr {
namespace {

class DmlStage final : public LearningStage {
  public:
    DmlStage(const TrainSettings& settings, const Placement& placement)
        : settings_(settings),
          folders_(settings),
          teacher_(read_one_step(folders_.teacher, folders_.base)),
          encoder_t_(frozen_net<Vae>(teacher_.vae, placement)),
          start_(settings.dml.init == EncoderStart::teacher ? teacher_.vae
                                                            : read_family(folders_.base).vae),
          encoder_s_(start_,
                     encoder_learning(start_, settings.dml.rank, settings.dml.alpha, settings.seed),
                     placement) {
        encoder_s_.net().run_blocks_by(block_runner(settings));
    }

    std::vector<ParameterGroup> groups() const override {
        return {{"", with_prefix(encoder_s_.parameters(), "vae.")}};
    }

    SampleLevels levels(std::int64_t step) const override {
        return student_levels(settings_, step, true);
    }

    StageLoss loss(const MicroBatch& batch) override {
        const MetricLoss metric = metric_of(batch, settings_.dml.loss);
        const double d_t = metric.positive.mean().item<double>();
        const double d_h = metric.severe.mean().item<double>();
        const auto closer = [&](const at::Tensor& other) {
            return (metric.positive < other).to(at::kFloat).mean().item<double>();
        };
        StageLoss loss{.total = metric.loss, .parts = {}, .more = {}};
        loss.more = {{"distance_positive", d_t},
                     {"distance_severe", d_h},
                     {"triplet_accuracy", closer(metric.severe)}};
        if (metric.unrelated.defined()) {
            loss.more.emplace_back("distance_unrelated", metric.unrelated.mean().item<double>());
            loss.more.emplace_back("triplet_accuracy_unrelated", closer(metric.unrelated));
        }
        return loss;
    }

    Validation validate(const MicroBatch& batch) override {
        const c10::NoGradGuard no_gradient;
        MetricLossOptions first_term = settings_.dml.loss;
        first_term.neg2 = SecondTerm::off;  // needs no second picture
        const MetricLoss metric = metric_of(batch, first_term);
        const at::Tensor g_s = encoder_t_.decode(encoder_s_.net().encode(batch.lr_up.at(1)).mean);
        const at::Tensor g_t = encoder_t_.decode(encoder_t_.encode(batch.lr_up.at(0)).mean);
        const at::Tensor ratio = metric.positive / metric.severe.clamp_min(1e-12);
        return {
            .figures = {{"val_triplet_accuracy",
                         (metric.positive < metric.severe).to(at::kFloat).mean().item<double>()},
                        {"val_distance_ratio", ratio.mean().item<double>()},
                        {"val_psnr_decoded", mean_psnr(g_s, g_t)}},
            .pictures = {{"LR mild", batch.lr_up.at(0)},
                         {"LR moderate", batch.lr_up.at(1)},
                         {"LR severe", batch.lr_up.at(2)},
                         {"G(z_t)", g_t},
                         {"G(z_s)", g_s}}};
    }

    void write(const NamedTensors& learnt) override {
        write_encoder(folders_.encoder, start_, encoder_s_.merged(without_prefix(learnt, "vae.")),
                      run_record(settings_, "dml"));
    }

  private:
    /// What Eq. 7 compares (A2).
    at::Tensor latent(const Posterior& p, const MicroBatch& batch, std::uint64_t twin) const {
        switch (settings_.dml.z) {
            case LatentForm::mean:
                return p.mean;
            case LatentForm::mean_unscaled:
                return p.mean / p.scale;
            case LatentForm::moments:
                return at::cat({p.mean / p.scale, p.logvar}, 1);
            case LatentForm::sample:
                break;
        }
        return p.sample(
            batch_noise(batch, settings_.seed, Draw::posterior, twin, p.mean.sizes().slice(1)));
    }

    MetricLoss metric_of(const MicroBatch& batch, const MetricLossOptions& options) const {
        const std::int64_t n = batch.hr.size(0);
        at::Tensor z_t, z_h;
        {
            const c10::NoGradGuard no_gradient;
            const Posterior p = encoder_t_.encode(at::cat({batch.lr_up.at(0), batch.lr_up.at(2)}));
            const auto half = [&](std::int64_t i) {
                return Posterior{.mean = p.mean.narrow(0, i * n, n),
                                 .logvar = p.logvar.narrow(0, i * n, n),
                                 .scale = p.scale};
            };
            z_t = latent(half(0), batch, 0);
            z_h = latent(half(1), batch, 1);
        }
        const at::Tensor z_s = latent(encoder_s_.net().encode(batch.lr_up.at(1)), batch, 2);
        at::Tensor j;
        if (options.neg2 != SecondTerm::off) {
            Rng rng = stream_of(settings_.seed, Draw::pairs, batch.first);
            j = unrelated_samples(n, settings_.dml.pairs, rng);
        }
        return metric_loss(z_s, z_t, z_h, j, options);
    }

    TrainSettings settings_;
    RunFolders folders_;
    ModelParts teacher_;
    Vae encoder_t_;  // and G
    ModelFiles start_;
    TrainedNet<Vae> encoder_s_;
};

}  // namespace

std::unique_ptr<LearningStage> make_dml_stage(const TrainSettings& settings,
                                              const Placement& placement) {
    return std::make_unique<DmlStage>(settings, placement);
}

}  // namespace ultrasr
