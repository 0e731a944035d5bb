// sdd-train: trains teacher and student, and makes model families with random weights. Only the
// command line; the work is in training/trainer.h and random_family.h.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "models/random_family.h"
#include "models/training/processes.h"
#include "models/training/trainer.h"

namespace {

using namespace ultrasr;
namespace fs = std::filesystem;

// ---- init ----

const std::map<std::string, Dtype> dtypes{
    {"f32", Dtype::f32}, {"f16", Dtype::f16}, {"bf16", Dtype::bf16}};
constexpr std::string_view builtin = "sd2-1-base";

void add_init(CLI::App& app, std::string& config, RandomFamilyOptions& options) {
    app.add_option(
           "--config", config,
           fmt::format("{} (1.29 billion parameters), or a JSON file with objects unet, vae "
                       "and text_encoder: diffusers' keys that differ from it",
                       builtin))
        ->required();
    app.add_option("--out", options.out, "folder to write, in diffusers' layout")->required();
    add_choice(app, "--dtype", options.dtype, dtypes, "type of the weights");
    app.add_flag("--restart", options.restart, "replace a family of other settings");
    app.footer(
        "Values depend on name and seed alone. The same command again goes on where it stopped.\n"
        "Example:\n  sdd-train init --config sd2-1-base --out random --seed 1 --dtype bf16");
}

Answer init(const std::string& config, RandomFamilyOptions options, const CommonOptions& common,
            Progress& progress) {
    if (config != builtin) options.config = parse_json(read_file(config), config);
    options.seed = common.seed;
    at::set_num_threads(common.threads);
    const std::vector<RandomNetwork> networks = write_random_family(options, progress);
    std::string text;
    Json list = Json::array();
    for (const RandomNetwork& n : networks) {
        text += fmt::format("{}: {} tensors, {} parameters\n", n.component, n.tensors.size(),
                            n.parameters());
        list.push_back({{"component", n.component},
                        {"tensor_count", n.tensors.size()},
                        {"parameters", n.parameters()}});
    }
    return {text, [list, options] {
                return Json{{"out", options.out.filename().string()},
                            {"seed", options.seed},
                            {"dtype", dtype_name(options.dtype)},
                            {"components", list}};
            }};
}

// ---- training ----

struct TrainOptions {
    std::string config, weights;
    std::vector<std::string> set;
    bool restart = false, dry_run = false, list_settings = false;
};

constexpr const char* train_footer =
    R"(Example:
  sdd-train --config run.json

A run file holds settings as JSON; --list-settings prints all of them with their defaults.
The same command again goes on where the last one stopped, whatever stopped it.

One GPU: a teacher is at hand, encoder and UNet of the student are trained
  cat > run.json << END
  {"base": "weights/sd2-1-base", "teacher": "weights/osediff.pkl", "data": "LSDIR/train",
   "out": "runs/sdd", "stage": "all", "batch": 16, "micro_batch": 4, "precision": "bf16",
   "gradient_checkpointing": true, "validation": "RealUltraSR/val"}
  END
  sdd-train --config run.json --dry-run --device cuda
  sdd-train --config run.json --device cuda
  ultrasr-bench --data RealUltraSR --method sdd --model runs/sdd/student --metrics paper --out results

Four GPUs: the same file, the batch shared out among them (Slurm and mpirun do as well)
  torchrun --nproc-per-node 4 --no-python sdd-train --config run.json --device cuda

Ablations of the paper's Table 3, from the same teacher
  sdd-train --config run.json --set out=runs/no_ni --set encoder=runs/sdd/encoder --set stage=rsd --set rsd.ni=false

From nothing: a family of random weights, then all five stages
  sdd-train init --config small.json --out small --seed 1
  sdd-train --config run.json --set base=small --set stage=vae,base,teacher,dml,rsd)";

void add_train(CLI::App& app, TrainOptions& options) {
    app.add_option("--config", options.config, "run file: settings as JSON");
    app.add_option("--set", options.set, "one setting over the file's: rsd.ni=false")
        ->take_all()
        ->allow_extra_args(false);
    app.add_option("--weights", options.weights,
                   "folder of the weights of losses; default $ULTRASR_WEIGHTS, else data/weights");
    app.add_flag("--restart", options.restart, "throw away what the run's folder holds");
    app.add_flag("--dry-run", options.dry_run,
                 "measure a few steps of each stage, say what the run will take, write nothing");
    app.add_flag("--list-settings", options.list_settings, "all settings with their defaults");
}

std::string duration(double seconds) {
    const auto minutes = static_cast<std::int64_t>(seconds / 60.0 + 0.5);
    if (seconds < 90.0) return fmt::format("{:.0f} s", seconds);
    if (minutes < 120) return fmt::format("{} min", minutes);
    return fmt::format("{} h {:02} min", minutes / 60, minutes % 60);
}

Answer answer_of(const std::vector<StageEstimate>& estimates) {
    std::string text;
    Json list = Json::array();
    double total = 0.0;
    for (const StageEstimate& e : estimates) {
        const double step = std::max(e.seconds_a_step, e.data_seconds);
        const double seconds = step * static_cast<double>(e.steps);
        total += seconds;
        text += fmt::format(
            "{}: {} steps, {:.3g} s each (pictures {:.3g} s, made meanwhile), {}; {} parameters "
            "learn; peak memory {} MiB{}{}\n",
            e.stage, e.steps, e.seconds_a_step, e.data_seconds, duration(seconds), e.parameters,
            e.memory_mb, e.note.empty() ? "" : "; ", e.note);
        list.push_back({{"stage", e.stage},
                        {"steps", e.steps},
                        {"parameters", e.parameters},
                        {"seconds_a_step", e.seconds_a_step},
                        {"data_seconds", e.data_seconds},
                        {"seconds", seconds},
                        {"memory_mb", e.memory_mb}});
    }
    text += fmt::format("all of it: {}, from a few steps of each stage\n", duration(total));
    return {text, [list, total] { return Json{{"stages", list}, {"seconds", total}}; }};
}

Answer answer_of(const std::vector<StageReport>& reports) {
    std::string text;
    Json list = Json::array();
    for (const StageReport& r : reports) {
        text +=
            fmt::format("{}: {} steps{}, loss {:.4g}, in {}{}\n", r.stage, r.steps,
                        r.skipped > 0 ? fmt::format(" ({} skipped, not finite)", r.skipped) : "",
                        r.loss, r.result, r.was_done ? " (was done)" : "");
        list.push_back({{"stage", r.stage},
                        {"steps", r.steps},
                        {"skipped", r.skipped},
                        {"loss", json_number(r.loss)},
                        {"seconds", r.seconds},
                        {"was_done", r.was_done},
                        {"result", std::filesystem::path(r.result).filename().string()}});
    }
    return {text, [list] { return Json{{"stages", list}}; }};
}

Answer run_training(const CLI::App& app, const TrainOptions& options, const CommonOptions& common,
                    Progress& progress) {
    if (options.list_settings) {
        return {TrainSettings::help(), [] { return TrainSettings{}.json(); }};
    }
    if (options.config.empty() && options.set.empty()) {
        fail(Fault::usage,
             "nothing to train; give --config run.json, or the sub-command init; sdd-train --help "
             "shows both");
    }
    // For messages: where a setting stands
    const std::string what = options.config.empty() ? "--set"
                             : options.set.empty()  ? options.config
                                                    : options.config + " with --set";
    Json file = options.config.empty() ? Json::object()
                                       : parse_json(read_file(options.config), options.config);
    if (!file.is_object()) fail(Fault::input, "{} is not a JSON object of settings", what);
    for (const std::string& assignment : options.set) set_in(file, assignment);

    // The common options may stand in the file too
    CommonOptions own = common;
    const auto take = [&](const char* key, auto& value) {
        const auto found = file.find(key);
        if (found == file.end()) return;
        if (app.get_option(fmt::format("--{}", key))->empty()) {
            try {
                value = found->template get<std::decay_t<decltype(value)>>();
            } catch (const nlohmann::json::exception&) {
                fail(Fault::usage, "{}: {} takes what --{} takes, not {}", what, key, key,
                     found->dump());
            }
        }
        file.erase(found);
    };
    take("threads", own.threads);
    take("device", own.device);
    std::string weights = options.weights;
    take("weights", weights);
    // Where losses look for theirs
    if (!weights.empty()) ::setenv("ULTRASR_WEIGHTS", weights.c_str(), 1);
    if (own.threads < 0 || own.threads > 4096) {
        fail(Fault::usage, "{}: threads takes a whole number from 0 to 4096, not {}", what,
             own.threads);
    }
    if (own.threads == 0) {
        own.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    }
    if (!app.get_option("--seed")->empty()) file["seed"] = common.seed;
    const TrainSettings settings = train_settings(file, what);
    const ComputeOptions compute{
        .device = own.device, .threads = own.threads, .precision = settings.precision};
    return options.dry_run ? answer_of(estimate(settings, compute, progress))
                           : answer_of(train(settings, compute, options.restart, progress));
}

}  // namespace

int main(int argc, char** argv) {
    CommonOptions common;
    CLI::App app{
        "Train SDD: a one-step diffusion teacher, then Degradation-aware Metric Learning and "
        "Region-aware Selective Distillation of a student for high scales.",
        "sdd-train"};
    app.require_subcommand(0, 1);
    app.footer(train_footer);
    TrainOptions train;
    add_train(app, train);

    std::string config;
    RandomFamilyOptions options;
    CLI::App* init_app =
        app.add_subcommand("init", "a model family with random weights, in diffusers' layout");
    add_init(*init_app, config, options);

    return run_tool(app, argc, argv, common, [&](Progress& progress) {
        if (!init_app->parsed()) {
            Answer answer = run_training(app, train, common, progress);
            // Of several processes one speaks
            if (find_launch().rank > 0) {
                common.json = false;
                answer.text.clear();
            }
            return answer;
        }
        require_cpu(common, "sdd-train init");
        return init(config, options, common, progress);
    });
}
