#include "models/training/settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "models/training/learning_stages.h"

namespace ultrasr {
namespace {

constexpr double no_limit = std::numeric_limits<double>::infinity();

// ---- one setting ----

/// How a setting reads from and turns into JSON.
struct Setting {
    std::string name;  ///< "rsd.ni"
    std::string kind;  ///< "true|false", "a whole number from 1", "output|detail|..."
    std::string help;
    std::function<bool(const Json&)> read;  ///< false: not of this kind
    std::function<Json()> write;
};

class List {
  public:
    void flag(const char* name, bool& value, const char* help) {
        add(
            name, "true|false", help,
            [&value](const Json& j) {
                if (!j.is_boolean()) return false;
                value = j.get<bool>();
                return true;
            },
            [&value] { return Json(value); });
    }

    void integer(const std::string& name, std::int64_t& value, std::int64_t least,
                 const char* help) {
        add(
            name, fmt::format("a whole number from {}", least), help,
            [&value, least](const Json& j) {
                if (!j.is_number_integer() || j.get<std::int64_t>() < least) return false;
                value = j.get<std::int64_t>();
                return true;
            },
            [&value] { return Json(value); });
    }

    /// least < or <= value <= most
    void number(const std::string& name, double& value, double least, double most,
                const char* help) {
        add(
            name,
            most < no_limit ? fmt::format("a number from {} to {}", least, most)
                            : fmt::format("a number from {}", least),
            help,
            [&value, least, most](const Json& j) {
                if (!j.is_number()) return false;
                const double x = j.get<double>();
                if (!(std::isfinite(x) && x >= least && x <= most)) return false;
                value = x;
                return true;
            },
            [&value] { return Json(value); });
    }

    void text(const char* name, std::string& value, const char* help) {
        add(
            name, "a text", help,
            [&value](const Json& j) {
                if (!j.is_string()) return false;
                value = j.get<std::string>();
                return true;
            },
            [&value] { return Json(value); });
    }

    /// One of some words, kept as a text.
    void word(const char* name, std::string& value, const std::vector<std::string>& words,
              const char* help) {
        std::string kind;
        for (const std::string& word : words) {
            kind += (kind.empty() ? "" : "|") + (word.empty() ? std::string("\"\"") : word);
        }
        add(
            name, kind, help,
            [&value, words](const Json& j) {
                if (!j.is_string() || std::ranges::count(words, j.get<std::string>()) == 0) {
                    return false;
                }
                value = j.get<std::string>();
                return true;
            },
            [&value] { return Json(value); });
    }

    void path(const char* name, std::filesystem::path& value, const char* help) {
        add(
            name, "a path", help,
            [&value](const Json& j) {
                if (!j.is_string()) return false;
                value = j.get<std::string>();
                return true;
            },
            [&value] { return Json(value.string()); });
    }

    /// One element or a list of them.
    template <class T, class From>
    void list(const char* name, std::vector<T>& value, const char* kind, const char* help,
              From from) {
        add(
            name, kind, help,
            [&value, from](const Json& j) {
                std::vector<T> elements;
                for (const Json& element : j.is_array() ? j : Json::array({j})) {
                    std::optional<T> one = from(element);
                    if (!one) return false;
                    elements.push_back(std::move(*one));
                }
                value = std::move(elements);
                return true;
            },
            [&value] {
                Json elements = Json::array();
                for (const T& v : value) {
                    if constexpr (std::is_same_v<T, std::filesystem::path>) {
                        elements.push_back(v.string());
                    } else {
                        elements.push_back(v);
                    }
                }
                return elements;
            });
    }

    template <class Value>
    void choice(const char* name, Value& value, std::vector<std::pair<const char*, Value>> words,
                const char* help) {
        std::string kind;
        for (const auto& [word, meaning] : words)
            kind += (kind.empty() ? "" : "|") + std::string(word);
        add(
            name, kind, help,
            [&value, words](const Json& j) {
                for (const auto& [word, meaning] : words) {
                    if (j.is_string() && j.get<std::string>() == word) {
                        value = meaning;
                        return true;
                    }
                }
                return false;
            },
            [&value, words] {
                for (const auto& [word, meaning] : words) {
                    if (meaning == value) return Json(word);
                }
                return Json();
            });
    }

    std::vector<Setting> all;

  private:
    void add(std::string name, std::string kind, const char* help,
             std::function<bool(const Json&)> read, std::function<Json()> write) {
        all.push_back({std::move(name), std::move(kind), help, std::move(read), std::move(write)});
    }
};

// ---- all settings ----

constexpr const char* scale_kind = "whole numbers from 1 to 63";

std::optional<std::int64_t> scale_from(const Json& j) {
    if (!j.is_number_integer() || j.get<std::int64_t>() < 1 || j.get<std::int64_t>() > 63) {
        return std::nullopt;
    }
    return j.get<std::int64_t>();
}

std::optional<std::filesystem::path> path_from(const Json& j) {
    if (!j.is_string()) return std::nullopt;
    return std::filesystem::path(j.get<std::string>());
}

/// "all", one stage, several with commas or as a list, in the order in which they have to run.
bool read_stages(const Json& j, std::vector<std::string>& stages) {
    std::vector<std::string> words;
    for (const Json& element : j.is_array() ? j : Json::array({j})) {
        if (!element.is_string()) return false;
        std::string rest = element.get<std::string>();
        for (std::size_t comma; (comma = rest.find(',')) != std::string::npos;) {
            words.push_back(rest.substr(0, comma));
            rest.erase(0, comma + 1);
        }
        words.push_back(rest);
    }
    std::vector<std::string> found;
    for (const std::string_view stage : stage_names) {
        const bool in_all = stage != "vae" && stage != "base";
        const bool asked = std::ranges::count(words, stage) > 0 ||
                           (in_all && std::ranges::count(words, "all") > 0);
        if (asked) found.emplace_back(stage);
    }
    for (const std::string& word : words) {
        if (word != "all" && std::ranges::count(stage_names, word) == 0) return false;
    }
    stages = found;
    return !found.empty();
}

void stage_settings(List& list, const std::string& section, StageSettings& s) {
    list.integer(section + ".steps", s.steps, 0, "steps of this stage");
    list.integer(section + ".batch", s.batch, -1, "as the run's; -1: that one");
    list.integer(section + ".micro_batch", s.micro_batch, -1, "as the run's; -1: that one");
    list.integer(section + ".patch", s.patch, -1, "as the run's; -1: that one");
    list.number(section + ".learning_rate", s.learning_rate, -1, no_limit,
                "as the run's; -1: that one");
}

std::vector<Setting> settings_of(TrainSettings& t) {
    List l;

    l.all.push_back({"stage", "all, or some of vae|base|teacher|dml|rsd",
                     "what is trained; all: teacher and dml (unless given), rsd",
                     [&t](const Json& j) { return read_stages(j, t.stages); },
                     [&t] { return Json(t.stages); }});
    l.path("base", t.base,
           "model family in diffusers' layout: Stable Diffusion 2.1-base or any of that kind");
    l.path("teacher", t.teacher, "osediff.pkl, or the teacher folder of an earlier run");
    l.path("encoder", t.encoder, "the encoder folder of an earlier dml run");
    l.path("out", t.out, "folder of the run");

    l.list("data", t.data, "paths",
           "HR pictures: folders, lists (.txt), HDF5 of ultrasr-degrade or ultrasr-register",
           path_from);
    l.text("preset", t.preset, "degradation, as ultrasr-degrade --preset");
    l.word("couple", t.couple, {"stage1", "comonotone", "params", "independent", "cascade"},
           "A8: which draws the three levels share, as ultrasr-degrade --couple");
    l.word("resize_back", t.resize_back, {"", "area", "bilinear", "bicubic", "drawn"},
           "how LR comes back to HR's size; empty: as the preset says");
    l.word("small", t.small, {"skip", "pad", "upscale", "error"},
           "what becomes of pictures smaller than a patch");
    l.integer("cache_mb", t.cache_mb, 0, "decoded pictures kept in memory, MiB");
    l.integer("prefetch", t.prefetch, 1, "batches made ahead");
    l.integer("data_threads", t.data_threads, 0, "threads that make them; 0: half of the cores");
    l.text("validation", t.validation,
           "pair set, as ultrasr-bench --data; empty: patches of the data that no step draws");
    l.integer("validation_count", t.validation_count, 1, "pairs of it");

    l.integer("batch", t.batch, 1, "pictures a step, over all processes");
    l.integer("micro_batch", t.micro_batch, 0, "pictures at once; 0: all of a process");
    l.integer("patch", t.patch, 8, "side of a picture, HR pixels");
    l.choice("precision", t.precision,
             {{"fp32", Precision::fp32}, {"bf16", Precision::bf16}, {"fp16", Precision::fp16}},
             "of frozen weights and activations; what is trained stays float32");
    l.choice("student_precision", t.student_precision,
             {{"fp32", Precision::fp32}, {"bf16", Precision::bf16}, {"fp16", Precision::fp16}},
             "of the student's weight files");
    l.integer("checkpoint_every", t.checkpoint_every, 1, "steps");
    l.integer("keep_checkpoints", t.keep_checkpoints, 1, "of each stage");
    l.integer("validate_every", t.validate_every, 0, "steps; 0: only at the end");
    l.integer("log_every", t.log_every, 1, "steps");
    l.integer("samples", t.samples, 0, "rows of the sample pictures; 0: none");
    l.number("ema", t.ema, 0, 0.999999,
             "decay of averaged weights, which are then what is exported; 0: none");
    l.flag("gradient_checkpointing", t.gradient_checkpointing,
           "recompute blocks in place of storing them");
    l.number("learning_rate", t.learning_rate, 0, no_limit, "of AdamW");
    l.number("beta1", t.beta1, 0, 0.999999, "of AdamW");
    l.number("beta2", t.beta2, 0, 0.999999, "of AdamW");
    l.number("epsilon", t.epsilon, 0, no_limit, "of AdamW");
    l.number("weight_decay", t.weight_decay, 0, no_limit, "of AdamW, decoupled");
    l.number("clip", t.clip, 0, no_limit, "largest norm of the gradient; 0: any");
    l.integer("warmup", t.warmup, 0, "steps of a linear rise of the rate");
    l.choice("schedule", t.schedule,
             {{"constant", RateAfterWarmup::constant},
              {"cosine", RateAfterWarmup::cosine},
              {"linear", RateAfterWarmup::linear}},
             "of the rate after that");
    l.number("final_rate", t.final_rate, 0, 1, "share of the rate at the end of cosine and linear");

    l.integer("scales.teacher", t.scale_teacher, 1, "A7: s_t");
    l.list("scales.student", t.scale_student, scale_kind,
           "A7: s_s is one of these, drawn for each step", scale_from);
    l.choice("scales.severe", t.severe,
             {{"twice", SevereRule::twice},
              {"fixed16", SevereRule::fixed16},
              {"list", SevereRule::list}},
             "A7: s_h = 2 s_s, or 16, or scales.severe_list");
    l.list("scales.severe_list", t.scale_severe, scale_kind, "s_h for each of scales.student",
           scale_from);
    l.number("scales.x4_probability", t.x4_probability, 0, 1, "A22: how often s_s is 4");

    l.text("prompt.text", t.prompt,
           "A18: one prompt for every picture, read by the base's text encoder");
    l.path("prompt.file", t.prompt_file, "prompt.safetensors in place of that");
    l.path("prompt.folder", t.prompt_folder, "STEM.txt for each picture in place of that");

    stage_settings(l, "vae_stage", t.vae_stage);
    l.number("vae_stage.lambda_l1", t.vae_stage.lambda_l1, 0, no_limit, "mean |x - y|");
    l.number("vae_stage.lambda_mse", t.vae_stage.lambda_mse, 0, no_limit, "mean (x - y)^2");
    l.number("vae_stage.lambda_gradient", t.vae_stage.lambda_gradient, 0, no_limit,
             "mean |difference of neighbours' differences|");
    l.number("vae_stage.lambda_kl", t.vae_stage.lambda_kl, 0, no_limit,
             "KL from N(0,1), mean over numbers of the latent");
    l.number("vae_stage.lambda_lpips", t.vae_stage.lambda_lpips, 0, no_limit,
             "LPIPS (VGG); needs its weights");

    stage_settings(l, "base_stage", t.base_stage);
    l.number("base_stage.prompt_dropout", t.base_stage.prompt_dropout, 0, 1,
             "share of pictures with the empty prompt, for guidance");

    stage_settings(l, "teacher_stage", t.teacher_stage);
    l.number("teacher_stage.lambda_mse", t.teacher_stage.lambda_mse, 0, no_limit, "");
    l.number("teacher_stage.lambda_lpips", t.teacher_stage.lambda_lpips, 0, no_limit,
             "LPIPS (VGG); needs its weights");
    l.number("teacher_stage.lambda_vsd", t.teacher_stage.lambda_vsd, 0, no_limit,
             "0: no second UNet is trained");
    l.number("teacher_stage.guidance", t.teacher_stage.guidance, 0, no_limit,
             "of the frozen UNet in VSD");
    l.text("teacher_stage.negative_prompt", t.teacher_stage.negative_prompt, "of that guidance");
    l.integer("teacher_stage.rank_unet", t.teacher_stage.rank_unet, 1, "of its LoRA");
    l.integer("teacher_stage.rank_vae", t.teacher_stage.rank_vae, 1, "of the encoder's LoRA");
    l.number("teacher_stage.alpha", t.teacher_stage.alpha, 0, no_limit,
             "LoRA is scaled by alpha / rank");
    l.flag("teacher_stage.sample", t.teacher_stage.sample,
           "the latent is drawn from the encoder's posterior, not its mean");
    l.flag("teacher_stage.clamp", t.teacher_stage.clamp, "the result is clamped before the loss");

    l.flag("dml.enabled", t.dml.enabled,
           "false: w/o DML, the student's encoder is what dml.init says");
    stage_settings(l, "dml", t.dml);
    l.choice("dml.neg2", t.dml.loss.neg2,
             {{"ratio", SecondTerm::ratio},
              {"as_printed", SecondTerm::as_printed},
              {"hinge", SecondTerm::hinge},
              {"off", SecondTerm::off}},
             "A1: Eq. 7's second term");
    l.choice("dml.z", t.dml.z,
             {{"mean", LatentForm::mean},
              {"sample", LatentForm::sample},
              {"mean_unscaled", LatentForm::mean_unscaled},
              {"moments", LatentForm::moments}},
             "A2: which latent");
    l.choice("dml.dist", t.dml.loss.dist,
             {{"rms", LatentDistance::rms},
              {"l2", LatentDistance::l2},
              {"l2_per_pixel", LatentDistance::l2_per_pixel},
              {"cosine", LatentDistance::cosine}},
             "A3: the norm");
    l.number("dml.lambda", t.dml.loss.lambda, 0, no_limit, "A4");
    l.number("dml.epsilon", t.dml.loss.epsilon, 0, no_limit, "A4");
    l.number("dml.margin", t.dml.loss.margin, 0, no_limit, "of hinge");
    l.flag("dml.detach_neg", t.dml.loss.detach_neg, "A5: no gradient through denominators");
    l.choice("dml.pairs", t.dml.pairs,
             {{"cyclic_shift", PairRule::cyclic_shift},
              {"random_derangement", PairRule::random_derangement}},
             "A6: how j is drawn");
    l.choice("dml.init", t.dml.init,
             {{"teacher", EncoderStart::teacher}, {"sd21base", EncoderStart::base}},
             "A9: E_S begins as E_T or as the base's encoder");
    l.integer("dml.rank", t.dml.rank, 1, "A11: of the encoder's LoRA");
    l.number("dml.alpha", t.dml.alpha, 0, no_limit, "A11");

    l.flag("rsd.enabled", t.rsd.enabled, "false: w/o RSD, no theta and no noise");
    stage_settings(l, "rsd", t.rsd);
    l.flag("rsd.ue", t.rsd.ue, "false: w/o UE, theta is theta.kappa everywhere");
    l.flag("rsd.ni", t.rsd.ni, "false: w/o NI, the latent stays as it is");
    l.choice("rsd.formula", t.rsd.formula,
             {{"noisy", FormulaLatent::noisy}, {"formula_clean", FormulaLatent::clean}},
             "A16: the latent in Eq. 2 beside the UNet's");
    l.choice("rsd.init", t.rsd.init,
             {{"sd21base", DenoiserStart::base}, {"teacher", DenoiserStart::teacher}},
             "A10: the student's UNet begins as the base's or the teacher's");
    l.integer("rsd.rank", t.rsd.rank, 1, "A11: of the UNet's LoRA");
    l.number("rsd.alpha", t.rsd.alpha, 0, no_limit, "A11");

    l.choice("theta.source", t.theta.source,
             {{"output", ThetaSource::output},
              {"detail", ThetaSource::detail},
              {"error", ThetaSource::error},
              {"posterior_var", ThetaSource::posterior_var}},
             "A12");
    l.choice("theta.norm", t.theta.norm,
             {{"l1_space", ThetaNorm::l1_space},
              {"l1_channel", ThetaNorm::l1_channel},
              {"l1_space_max", ThetaNorm::l1_space_max},
              {"none_sigmoid", ThetaNorm::none_sigmoid}},
             "A13: psi");
    l.number("theta.kappa", t.theta.kappa, 0, 1, "mean of theta under l1_space");
    l.flag("theta.per_channel", t.theta.per_channel, "A14: three maps in Eq. 10");
    l.choice(
        "theta.down", t.theta.down,
        {{"area", ThetaDown::area}, {"bilinear", ThetaDown::bilinear}, {"max", ThetaDown::max}},
        "A15");
    l.integer("theta.samples", t.theta_samples, 2, "teacher passes of posterior_var");

    l.number("loss.lambda_soft", t.distill.lambda_soft, 0, no_limit, "Eq. 10; 0: w/o soft");
    l.number("loss.lambda_hard", t.distill.lambda_hard, 0, no_limit, "Eq. 10; 0: w/o hard");
    l.choice("loss.norm", t.distill.norm,
             {{"rms", PictureNorm::rms},
              {"mse", PictureNorm::mse},
              {"l1", PictureNorm::l1},
              {"l2_sum", PictureNorm::l2_sum}},
             "A17");
    l.flag("loss.clamp", t.distill.clamp, "clamp the student's picture inside the graph");
    l.number("loss.lpips", t.loss_lpips, 0, no_limit, "A21: LPIPS (VGG) to HR; needs its weights");
    l.number("loss.vsd", t.loss_vsd, 0, no_limit, "A21: VSD as the teacher's stage has it");
    return l.all;
}

// ---- reading ----

/// {"rsd": {"ni": false}} as "rsd.ni" -> false.
void flatten(const Json& json, const std::string& prefix,
             std::vector<std::pair<std::string, Json>>& flat) {
    for (const auto& [key, value] : json.items()) {
        const std::string name = prefix.empty() ? key : prefix + "." + key;
        if (value.is_object()) {
            flatten(value, name, flat);
        } else {
            flat.emplace_back(name, value);
        }
    }
}

[[noreturn]] void fail_unknown(const std::string& name, const std::vector<Setting>& known,
                               std::string_view what) {
    const std::string section = name.substr(0, name.find('.') + 1);
    std::vector<std::string> near;
    for (const Setting& s : known) {
        const bool same =
            section.empty() ? s.name.find('.') == std::string::npos : s.name.starts_with(section);
        if (same) near.push_back(s.name);
    }
    if (section.empty()) near.insert(near.end(), {"seed", "steps", "threads", "device", "weights"});
    if (near.empty()) {
        for (const Setting& s : known) {
            const std::string head = s.name.substr(0, s.name.find('.'));
            if (near.empty() || near.back() != head) near.push_back(head);
        }
    }
    fail(Fault::usage, "{}: no setting {}; known are {}", what, name, fmt::join(near, ", "));
}

void check(const TrainSettings& t, std::string_view what) {
    const auto demand = [&](bool holds, std::string_view why) {
        if (!holds) fail(Fault::input, "{}: {}", what, why);
    };
    demand(t.severe != SevereRule::list || t.scale_severe.size() == t.scale_student.size(),
           "scales.severe is list, so scales.severe_list needs as many scales as scales.student");
    if (std::ranges::count(t.stages, "dml") + std::ranges::count(t.stages, "rsd") > 0 &&
        !t.scale_student.empty()) {
        // A step's levels ascend, and degradation ends at 63
        const auto [least, most] = std::ranges::minmax(t.scale_student);
        demand(t.scale_teacher <= least,
               "scales.teacher is the mild level; give it the least of scales.student or less");
        demand(t.x4_probability == 0 || t.scale_teacher <= 4,
               "scales.x4_probability draws s_s = 4 below scales.teacher; set it to 0");
        demand(t.severe != SevereRule::twice || most <= 31,
               "scales.severe is twice, and scales end at 63; give scales.student none above 31");
    }
    const int prompts = !t.prompt.empty() + !t.prompt_file.empty() + !t.prompt_folder.empty();
    demand(t.scale_teacher <= 63, "scales.teacher takes a scale from 1 to 63");
    demand(prompts <= 1, "prompt.text, prompt.file and prompt.folder exclude each other");
    demand(!t.scale_student.empty(),
           "scales.student is empty; give it at least one scale, such as [8, 12]");
    const auto runs = [&](std::string_view stage) {
        return std::ranges::count(t.stages, stage) > 0 &&
               (stage != "dml" || (t.dml.enabled && t.encoder.empty()));
    };
    if (runs("dml") || runs("rsd")) {
        const std::int64_t least = *std::ranges::min_element(t.scale_student);
        demand(
            t.scale_teacher <= least,
            fmt::format("scales.teacher is {}, above {} of scales.student: the teacher's pictures "
                        "are the mild ones",
                        t.scale_teacher, least));
        demand(t.x4_probability == 0 || t.scale_teacher <= 4,
               fmt::format("scales.teacher is {}, above the scale of 4 that "
                           "scales.x4_probability draws; set that to 0",
                           t.scale_teacher));
    }
    if (runs("dml")) {
        for (std::size_t i = 0; i < t.scale_student.size(); ++i) {
            const std::int64_t s_s = t.scale_student[i];
            const std::int64_t s_h = t.severe == SevereRule::twice     ? 2 * s_s
                                     : t.severe == SevereRule::fixed16 ? 16
                                                                       : t.scale_severe[i];
            demand(s_s <= s_h && s_h <= 63,
                   fmt::format("scales.severe makes {} of scale {}; it takes {} to 63", s_h, s_s,
                               s_s));
        }
        const StageSettings s = t.of_stage("dml");
        demand(t.dml.loss.neg2 == SecondTerm::off || (s.batch != 1 && s.micro_batch != 1),
               "stage dml pairs unlike pictures of a micro-batch: batch and micro_batch must be 2 "
               "or more (or 0, the whole batch), or dml.neg2 off");
    }
    demand(!runs("rsd") || t.distill.lambda_soft > 0 || t.distill.lambda_hard > 0,
           "loss.lambda_soft and loss.lambda_hard are both 0, which leaves nothing to learn");
    for (const std::string_view stage : stage_names) {
        const StageSettings s = t.of_stage(stage);
        demand(s.batch >= 1 && s.micro_batch >= 0 && s.patch >= 8,
               fmt::format("batch, micro_batch and patch of stage {} must be at least 1, 0 and 8",
                           stage));
    }
}

}  // namespace

TrainSettings::TrainSettings() {
    vae_stage.steps = 100000;
    base_stage.steps = 100000;
    teacher_stage.steps = 20000;
    dml.steps = 10000;  // A19
    rsd.steps = 30000;
}

Json TrainSettings::json() const {
    Json result = Json::object();
    TrainSettings copy = *this;
    for (const Setting& s : settings_of(copy)) {
        const std::size_t dot = s.name.find('.');
        if (dot == std::string::npos) {
            result[s.name] = s.write();
        } else {
            result[s.name.substr(0, dot)][s.name.substr(dot + 1)] = s.write();
        }
    }
    result["seed"] = seed;
    return result;
}

std::string TrainSettings::help() {
    TrainSettings defaults;
    std::string text;
    std::vector<Setting> all = settings_of(defaults);
    const auto whole = [&](const char* name, const char* help, Json value) {
        all.push_back({name, "a whole number from 0", help, {}, [value] { return value; }});
    };
    whole("seed", "of everything that is drawn", defaults.seed);
    whole("steps", "of every stage, over what they say themselves", nullptr);
    for (const Setting& s : all) {
        text += fmt::format("  {:<28} {:<24} {}{}[{}]\n", s.name, s.write().dump(), s.help,
                            *s.help.c_str() ? "  " : "", s.kind);
    }
    const auto also = [&text](const char* name, const char* value, const char* help) {
        text += fmt::format("  {:<28} {:<24} {}\n", name, value, help);
    };
    also("seed", "0", "of everything random  [a whole number from 0]");
    also("steps", "-", "of every stage, over their own  [a whole number from 0]");
    also("threads, device, weights", "-", "as --threads, --device and --weights");
    return text;
}

StageSettings TrainSettings::of_stage(std::string_view stage) const {
    const StageSettings& own = stage == "vae"       ? static_cast<const StageSettings&>(vae_stage)
                               : stage == "base"    ? base_stage
                               : stage == "teacher" ? teacher_stage
                               : stage == "dml"     ? static_cast<const StageSettings&>(dml)
                                                    : rsd;
    StageSettings s = own;
    if (s.batch < 0) s.batch = batch;
    if (s.micro_batch < 0) s.micro_batch = micro_batch;
    if (s.patch < 0) s.patch = patch;
    if (s.learning_rate < 0) s.learning_rate = learning_rate;
    return s;
}

TrainSettings train_settings(const Json& json, std::string_view what) {
    if (!json.is_object()) fail(Fault::input, "{} is not a JSON object of settings", what);
    TrainSettings t;
    const std::vector<Setting> known = settings_of(t);
    std::vector<std::pair<std::string, Json>> flat;
    flatten(json, {}, flat);
    // First, so that a stage's own wins
    if (const auto steps = json.find("steps"); steps != json.end()) {
        if (!steps->is_number_unsigned()) {
            fail(Fault::usage, "{}: steps takes a whole number from 0, not {}", what,
                 steps->dump());
        }
        for (StageSettings* s : std::initializer_list<StageSettings*>{
                 &t.vae_stage, &t.base_stage, &t.teacher_stage, &t.dml, &t.rsd}) {
            s->steps = steps->get<std::int64_t>();
        }
    }
    for (const auto& [name, value] : flat) {
        if (name == "steps") continue;
        if (name == "seed") {
            if (!value.is_number_unsigned())
                fail(Fault::usage, "{}: seed takes a whole number from 0, not {}", what,
                     value.dump());
            t.seed = value.get<std::uint64_t>();
            continue;
        }
        const auto setting = std::ranges::find(known, name, &Setting::name);
        if (setting == known.end()) fail_unknown(name, known, what);
        if (!setting->read(value)) {
            fail(Fault::usage, "{}: {} takes {}, not {}", what, name, setting->kind, value.dump());
        }
    }
    check(t, what);
    return t;
}

void set_in(Json& json, std::string_view assignment) {
    const std::size_t equals = assignment.find('=');
    if (equals == std::string_view::npos || equals == 0) {
        fail(Fault::usage, "--set takes NAME=VALUE, such as rsd.ni=false, not {}", assignment);
    }
    const std::string name(assignment.substr(0, equals)), text(assignment.substr(equals + 1));
    Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded()) value = text;
    // Whatever form the file gives it in goes
    const std::size_t dot = name.find('.');
    json.erase(name);
    if (dot == std::string::npos) {
        json[name] = value;
        return;
    }
    const std::string section = name.substr(0, dot), key = name.substr(dot + 1);
    if (!json.contains(section) || !json.at(section).is_object()) json[section] = Json::object();
    json[section][key] = value;
}

}  // namespace ultrasr
