// SDD, the paper's method: a student distilled for high scales on OSEDiff's backbone.
#include <filesystem>
#include <system_error>

#include "models/diffusion_method.h"

namespace ultrasr {

extern const MethodInfo sdd;
const MethodInfo sdd{
    .name = "sdd",
    .title = "SDD",
    .source =
        "Selective Diffusion Distillation, one step at T = 999; a folder of sdd-train, or a base "
        "as it is",
    .weight_files = {"sdd"},
    .options = diffusion_options,
    .make = [](const MethodOptions& options, const std::string&) {
        const std::filesystem::path model = diffusion_model(options, "sdd");
        require_weights(model, "sdd", options);
        std::error_code ignored;
        if (std::filesystem::is_directory(model / "unet", ignored)) {  // before any training
            return make_diffusion_method(
                load_base_model(model, place(options)), {}, options,
                options.diffusion.base.empty() ? model : options.diffusion.base);
        }
        return make_diffusion_method(load_sdd_student(model, place(options)), {}, options,
                                     diffusion_base(options));
    }};

}  // namespace ultrasr
