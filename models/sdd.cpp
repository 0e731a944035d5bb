// SDD, the paper's method: a student distilled for high scales on OSEDiff's backbone.
#include <filesystem>
#include <string>
#include <system_error>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/weights/weight_store.h"
#include "models/diffusion_method.h"

namespace ultrasr {
namespace {
namespace fs = std::filesystem;

/// The small student that comes with the project: its folder and its row.
const std::string demonstration = "sdd-demonstration";

/// True where the user has no model: none named, none in the weights folder.
bool wants_demonstration(const MethodOptions& options) {
    std::error_code ignored;
    return !named_model(options, "sdd") && !fs::exists(diffusion_model(options, "sdd"), ignored);
}

MethodPtr make_demonstration(const MethodOptions& options) {
    if (options.diffusion.prompt || !options.diffusion.prompt_files.empty()) {
        fail(Fault::usage,
             "the demonstration model of sdd has no text encoder and takes no prompt; leave "
             "--prompt and --prompt-file out, or name another model with --model DIR");
    }
    info(
        "sdd: the demonstration model that comes with the project, small and trained on 28 "
        "photographs; --model DIR names another");
    const auto verified = [&](const std::string& file) {
        return find_weights(demonstration + "/" + file, options);
    };
    LoadedOneStep loaded =
        load_sdd_student(verified("unet.safetensors").path.parent_path(), place(options));
    for (WeightRecord& record : loaded.records) record.verified = verified(record.file).verified;
    loaded.prompt_verified = verified("prompt.safetensors").verified;
    return make_diffusion_method(std::move(loaded), {}, options, {});
}

}  // namespace

extern const MethodInfo sdd;
const MethodInfo sdd{
    .name = "sdd",
    .title = "SDD",
    .source =
        "Selective Diffusion Distillation, one step at T = 999; a folder of sdd-train, or a base "
        "as it is; without --model a small demonstration model",
    .weight_files = {demonstration + "/prompt.safetensors", demonstration + "/unet.safetensors",
                     demonstration + "/vae.safetensors"},
    .options = diffusion_options,
    .default_label = [](const MethodOptions& options) -> std::string {
        return wants_demonstration(options) ? demonstration : "sdd";
    },
    .make =
        [](const MethodOptions& options, const std::string&) {
            if (wants_demonstration(options)) return make_demonstration(options);
            const fs::path model = diffusion_model(options, "sdd");
            std::error_code ignored;
            require(
                fs::exists(model, ignored),
                "{} is missing; --model names a folder that sdd-train wrote, and without it sdd "
                "is the demonstration model",
                model.string());
            if (fs::is_directory(model / "unet", ignored)) {  // before any training
                return make_diffusion_method(
                    load_base_model(model, place(options)), {}, options,
                    options.diffusion.base.empty() ? model : options.diffusion.base);
            }
            return make_diffusion_method(load_sdd_student(model, place(options)), {}, options,
                                         diffusion_base(options));
        }};

}  // namespace ultrasr
