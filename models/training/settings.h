// All that a training run can be told, as one JSON object.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/json.h"
#include "data/compute.h"
#include "models/sdd_loss.h"

namespace ultrasr {

/// What every stage has of its own; -1: as the run's own setting of that name.
struct StageSettings {
    std::int64_t steps = 0;
    std::int64_t batch = -1, micro_batch = -1, patch = -1;
    double learning_rate = -1;
};

enum class LatentForm { mean, sample, mean_unscaled, moments };  ///< A2
enum class EncoderStart { teacher, base };                       ///< A9; and w/o DML
enum class DenoiserStart { base, teacher };                      ///< A10
enum class SevereRule { twice, fixed16, list };                  ///< A7
enum class FormulaLatent { noisy, clean };                       ///< A16
enum class RateAfterWarmup { constant, cosine, linear };

/// Names and defaults: programs.md 4, one_step_models.md 3.2 and 3.8.
struct TrainSettings {
    // What is run
    std::vector<std::string> stages{"teacher", "dml", "rsd"};  ///< "stage"; "all" is these three
    std::filesystem::path base;                                ///< family in diffusers' layout
    std::filesystem::path teacher;  ///< osediff.pkl or a folder; empty: trained by this run
    std::filesystem::path encoder;  ///< an earlier dml run's folder; empty: of this run
    std::filesystem::path out;
    std::uint64_t seed = 0;

    // Data
    std::vector<std::filesystem::path> data;
    std::string preset = "osediff";
    std::string couple = "stage1";  ///< A8; "independent" for unrelated draws
    std::string resize_back;        ///< empty: as the preset
    std::string small = "skip";     ///< pictures smaller than a patch
    std::int64_t cache_mb = 2048;   ///< decoded pictures
    std::int64_t prefetch = 4;      ///< batches
    std::int64_t data_threads = 0;  ///< at work on them; 0: half of the cores
    std::string validation;         ///< pair set
    std::int64_t validation_count = 8;

    // How long and how much at once
    std::int64_t batch = 16, micro_batch = 0, patch = 512;  ///< micro_batch 0: the whole batch
    Precision precision = Precision::fp32;
    std::int64_t checkpoint_every = 500, keep_checkpoints = 2;
    std::int64_t validate_every = 500, log_every = 1, samples = 4;
    Precision student_precision = Precision::fp32;  ///< of the student's files
    double ema = 0;  ///< decay of averaged weights, which are exported then; 0: none
    bool gradient_checkpointing = false;
    double learning_rate = 5e-5, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 1e-2;
    double clip = 1.0;  ///< of the gradient's norm; 0: none
    std::int64_t warmup = 0;
    RateAfterWarmup schedule = RateAfterWarmup::constant;
    double final_rate = 0.0;  ///< what remains of the rate at the end of cosine and linear

    // Scales (A7, A22)
    std::int64_t scale_teacher = 4;
    std::vector<std::int64_t> scale_student{8, 10, 12, 14};
    SevereRule severe = SevereRule::twice;
    std::vector<std::int64_t> scale_severe;  ///< for each of scale_student, under `list`
    double x4_probability = 0.1;

    // Prompt (A18)
    std::string prompt;
    std::filesystem::path prompt_file;    ///< prompt.safetensors
    std::filesystem::path prompt_folder;  ///< a STEM.txt for each picture

    struct VaeStage : StageSettings {
        double lambda_l1 = 1.0, lambda_mse = 0.0, lambda_gradient = 0.0, lambda_kl = 1e-6;
        double lambda_lpips = 0.0;
    } vae_stage;
    struct BaseStage : StageSettings {
        double prompt_dropout = 0.1;
    } base_stage;
    struct TeacherStage : StageSettings {
        double lambda_mse = 1.0, lambda_lpips = 2.0, lambda_vsd = 1.0;
        double guidance = 7.5;
        std::string negative_prompt;
        std::int64_t rank_unet = 4, rank_vae = 4;
        double alpha = 8;
        bool sample = true;  ///< z is drawn from the encoder's posterior
        bool clamp = true;
    } teacher_stage;
    struct DmlStage : StageSettings {
        bool enabled = true;
        MetricLossOptions
            loss;  ///< neg2 (A1), dist (A3), lambda, epsilon (A4), margin, detach_neg (A5)
        LatentForm z = LatentForm::mean;
        PairRule pairs = PairRule::cyclic_shift;  ///< A6
        EncoderStart init = EncoderStart::teacher;
        std::int64_t rank = 16;
        double alpha = 16;
    } dml;
    struct RsdStage : StageSettings {
        bool enabled = true, ue = true, ni = true;
        FormulaLatent formula = FormulaLatent::noisy;
        DenoiserStart init = DenoiserStart::base;
        std::int64_t rank = 32;
        double alpha = 32;
    } rsd;
    ThetaOptions theta;  ///< source (A12), norm (A13), per_channel (A14), down (A15), kappa
    std::int64_t theta_samples = 4;  ///< of posterior_var
    DistillOptions distill;  ///< section "loss": lambda_soft, lambda_hard, norm (A17), clamp
    double loss_lpips = 0.0, loss_vsd = 0.0;  ///< A21

    TrainSettings();

    /// The resolved settings, every one of them, sections nested: what sdd.json holds.
    Json json() const;

    /// One line a setting: name, default, meaning.
    static std::string help();

    /// Settings of a stage with the run's own filled in.
    StageSettings of_stage(std::string_view stage) const;
};

/// Reads a run file over the defaults.
///
/// json    nested sections or dotted keys
/// what    the file, for messages
/// throws  Error(usage) for an unknown key (lists the nearest section's), a value of another type
///         or out of range; Error(input) where settings contradict each other
TrainSettings train_settings(const Json& json, std::string_view what);

/// Puts "rsd.ni=false" into a run file's object. Values are JSON, or else text.
///
/// throws Error(usage) without "="
void set_in(Json& json, std::string_view assignment);

}  // namespace ultrasr
