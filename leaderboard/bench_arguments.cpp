#include "leaderboard/bench_arguments.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <set>

#include "data/base/error.h"
#include "data/base/log.h"
#include "leaderboard/job.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

// ---- words of the command line ----

const std::map<std::string, ScalePolicy> scale_policies{
    {"post", ScalePolicy::post}, {"pre", ScalePolicy::pre}, {"cascade", ScalePolicy::cascade}};
const std::map<std::string, Precision> precisions{
    {"fp32", Precision::fp32}, {"bf16", Precision::bf16}, {"fp16", Precision::fp16}};
const std::map<std::string, Precision> metric_precisions{{"fp32", Precision::fp32},
                                                         {"bf16", Precision::bf16}};
const std::map<std::string, Crops> crop_rules{{"uniform", Crops::uniform},
                                              {"random123", Crops::random123},
                                              {"random-each", Crops::random_each}};
const std::map<std::string, Profile> profiles{{"cuda", Profile::cuda}, {"cpu", Profile::cpu}};

// Without a word the method chooses
const std::map<std::string, std::optional<LatentChoice>> latents{{"mean", LatentChoice::mean},
                                                                 {"sample", LatentChoice::sample}};
const std::map<std::string, std::optional<ColorFix>> color_fixes{
    {"adain", ColorFix::adain}, {"wavelet", ColorFix::wavelet}, {"none", ColorFix::none}};
const std::map<std::string, std::optional<Rounding>> roundings{{"round", Rounding::half_even},
                                                               {"truncate", Rounding::truncate}};

/// "a and b", "a, b and c".
std::string listed(const std::vector<std::string>& words) {
    std::string text;
    for (std::size_t i = 0; i < words.size(); ++i) {
        text += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
    }
    return text;
}

/// NAME=PATH for one method or label, or PATH for the only one that takes any.
std::map<std::string, fs::path> parse_models(const std::vector<std::string>& words,
                                             const std::vector<MethodSpec>& methods) {
    std::map<std::string, fs::path> models;
    std::vector<std::string> takers;
    for (const MethodSpec& m : methods) {
        if (reads_option(*m.info, "--model")) takers.push_back(m.label);
    }
    for (const std::string& word : words) {
        const std::size_t equals = word.find('=');
        const std::string name = word.substr(0, equals);
        const bool named = equals != std::string::npos &&
                           std::any_of(methods.begin(), methods.end(), [&](const MethodSpec& m) {
                               return m.label == name || m.info->name == name;
                           });
        if (!named && equals != std::string::npos && !fs::exists(word)) {
            fail(Fault::usage, "--model {} names none of the methods {}, and is no path", word,
                 listed(takers));
        }
        if (!named && takers.size() > 1) {
            fail(Fault::usage, "--model {} does not say for which of {}; give --model NAME={}",
                 word, listed(takers), word);
        }
        const std::string key = named ? name : "";
        if (!models.emplace(key, named ? word.substr(equals + 1) : word).second) {
            fail(Fault::usage, "--model is given twice{}", named ? " for " + name : "");
        }
    }
    return models;
}

}  // namespace

void add_weight_options(CLI::App& app, WeightOptions& options) {
    app.add_option("--weights", options.weights,
                   "folder of weight files (default: $ULTRASR_WEIGHTS, else data/weights)");
    app.add_flag("--unverified-weights", options.unverified_weights,
                 "accept weights whose SHA-256 we do not know; results are marked");
}

void add_method_options(CLI::App& app, MethodArguments& arguments) {
    MethodOptions& options = arguments.options;
    DiffusionOptions& diffusion = options.diffusion;
    add_weight_options(app, options);
    const std::set<const CLI::Option*> common = [&] {
        const auto all = app.get_options();
        return std::set<const CLI::Option*>(all.begin(), all.end());
    }();

    // Networks
    add_choice(app, "--scale-policy", options.scale_policy, scale_policies,
               "how a x4 network reaches other scales");
    add_choice(app, "--precision", options.precision, precisions, "arithmetic of the networks");
    app.add_option("--tile", options.tile,
                   "restore in tiles of N LR pixels (GANs) or N latents of 8 x 8 result pixels "
                   "(diffusion); 0 = whole pictures; -1 = whole, or 96 latents")
        ->check(CLI::Range(-1, 1 << 20))
        ->capture_default_str();
    app.add_option("--tile-overlap", options.tile_pad,
                   "LR pixels around a tile (GANs), or latents that two tiles share (diffusion); "
                   "-1 = as far as the network sees, or 32 latents")
        ->check(CLI::Range(-1, 1 << 20))
        ->capture_default_str();
    app.add_option("--denoise", options.denoise,
                   "realesr-general-x4v3: 0 keeps noise, 1 removes it (official default 0.5)")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();

    // Diffusion
    app.add_option("--base", diffusion.base,
                   "diffusion: Stable Diffusion 2.1 base in diffusers' layout (default: "
                   "sd2-1-base in the weights folder)")
        ->type_name("DIR");
    app.add_option("--model", arguments.models,
                   "diffusion: the method's own file or folder; NAME=PATH for one of several "
                   "methods or labels (default: its name in the weights folder, else of sdd the "
                   "demonstration model)")
        ->allow_extra_args(false)
        ->type_name("PATH|NAME=PATH");
    CLI::Option* prompt =
        app.add_option("--prompt", diffusion.prompt,
                       "diffusion: the prompt of all pictures (default: the model's own, or none)");
    app.add_option("--prompt-file", diffusion.prompt_files,
                   "diffusion: folder with a STEM.txt for each picture, or a prompt.safetensors")
        ->type_name("DIR|FILE")
        ->excludes(prompt);
    add_choice(app, "--latent", diffusion.latent, latents,
               "diffusion: the mean of the encoder's posterior, or a sample of it by --seed "
               "(default: mean; sample with --parity)");
    add_choice(app, "--color-fix", diffusion.color_fix, color_fixes,
               "diffusion: how the result gets the LR's colours (default: adain)");
    add_choice(app, "--rounding", diffusion.rounding, roundings,
               "diffusion: to 8 bits (default: round; truncate with --parity)");
    app.add_flag("--parity", diffusion.parity,
                 "diffusion: every choice as the official script makes it");
    app.add_option("--memory", diffusion.memory_gib,
                   "diffusion: refuse pictures that take more than N GiB beside the weights "
                   "(default: what is free)")
        ->check(CLI::PositiveNumber)
        ->type_name("N");
    app.add_flag("--dump-taps", diffusion.dump_taps,
                 "diffusion: with --dump, also what conv_in and every block of the UNet return");
    for (CLI::Option* option : app.get_options()) {
        if (!common.contains(option)) arguments.of_methods.push_back(option);
    }
}

CLI::Option* add_dump(CLI::App& app, fs::path& dump, const std::string& where) {
    return app
        .add_option("--dump", dump,
                    "diffusion: also write STEM.safetensors with z, pred, z_hr and sr of every "
                    "picture" +
                        where)
        ->type_name("DIR");
}

void finish_method_options(MethodArguments& arguments, const CommonOptions& common,
                           std::vector<std::string>& methods) {
    MethodOptions& options = arguments.options;
    options.device = common.device;
    options.threads = common.threads;
    options.diffusion.seed = common.seed;
    std::vector<MethodSpec> specs;
    for (const std::string& text : methods) specs.push_back(parse_method(text));
    options.diffusion.models = parse_models(arguments.models, specs);
    for (std::size_t i = 0; i < specs.size(); ++i) {
        MethodSpec& spec = specs[i];
        if (methods[i] != spec.info->name || !spec.info->default_label) continue;
        spec.label = spec.info->default_label(options);
        if (spec.label != methods[i]) methods[i] += "@" + spec.label;
    }

    std::vector<std::string> unread, names;
    for (const CLI::Option* option : arguments.of_methods) {
        const std::string name = "--" + option->get_lnames().front();
        const bool read = std::any_of(specs.begin(), specs.end(), [&](const MethodSpec& m) {
            return reads_option(*m.info, name);
        });
        if (option->count() > 0 && !read) unread.push_back(name);
    }
    if (unread.empty() || specs.empty()) return;
    for (const MethodSpec& m : specs) names.push_back(m.label);
    warn("{} {} nothing for {}; leave {} out", listed(unread), unread.size() == 1 ? "does" : "do",
         listed(names), unread.size() == 1 ? "it" : "them");
}

void add_metric_precision(CLI::App& app, MetricOptions& options) {
    add_choice(app, "--metric-precision", options.compute.precision, metric_precisions,
               "arithmetic of the metrics' networks; bf16 is faster and less exact");
}

void add_metric_options(CLI::App& app, std::vector<std::string>& metrics, MetricOptions& options) {
    app.add_option("--metrics", metrics,
                   "names, comma-separated; see --list-metrics; paper = psnr-y601,ssim-y601,"
                   "lpips-alex,fid,niqe,musiq,clipiqa")
        ->delimiter(',')
        ->type_name("NAME,...");
    add_choice(app, "--profile", options.profile, profiles,
               "float32 rounding: of the published logs (cuda) or of pyiqa on a CPU (cpu)");
    add_metric_precision(app, options);
    add_choice(app, "--maniqa-crops", options.crops, crop_rules,
               "where MANIQA looks: fixed places (pyiqa 0.1.12 and later), one random stream over "
               "all pictures (0.1.10 and before), or one for each picture (0.1.11)");
    app.add_option("--fid-stats", options.fid_stats,
                   "statistics of the HR set from fid-stats, in place of its pictures")
        ->type_name("FILE");
}

void check_dump(const MethodOptions& options, const fs::path& dump) {
    if (options.diffusion.dump_taps && dump.empty()) {
        fail(Fault::usage, "--dump-taps says what to write and not where; give --dump DIR too");
    }
}

}  // namespace ultrasr
