// OSEDiff: Stable Diffusion 2.1 in one step, by adapters.
#include "models/diffusion_method.h"

namespace ultrasr {

extern const MethodInfo osediff;
const MethodInfo osediff{
    .name = "osediff",
    .title = "OSEDiff",
    .source = "Wu et al. 2024, Stable Diffusion 2.1 with adapters, one step at T = 999",
    .weight_files = {"sd2-1-base", "osediff"},
    .options = diffusion_options,
    .make = [](const MethodOptions& options, const std::string&) {
        const std::filesystem::path base = diffusion_base(options);
        const std::filesystem::path model = diffusion_model(options, "osediff");
        require_weights(base, "sd2-1-base", options);
        require_weights(model, "osediff", options);
        return make_diffusion_method(load_osediff(base, model, place(options)),
                                     {.process_size = 512}, options, base);
    }};

}  // namespace ultrasr
