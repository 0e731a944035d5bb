// sdd-train: makes model families with random weights. Only the command line; the work is in
// random_family.h.
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "models/random_family.h"

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

}  // namespace

int main(int argc, char** argv) {
    CommonOptions common;
    CLI::App app{"Make the networks that SDD is trained from.", "sdd-train"};
    app.require_subcommand(1);
    app.footer("Example:\n  sdd-train init --config sd2-1-base --out random --seed 1");

    std::string config;
    RandomFamilyOptions options;
    CLI::App* init_app =
        app.add_subcommand("init", "a model family with random weights, in diffusers' layout");
    add_init(*init_app, config, options);

    return run_tool(app, argc, argv, common, [&](Progress& progress) {
        require_cpu(common, "sdd-train init");
        return init(config, options, common, progress);
    });
}
