#include "models/one_step_files.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/weights/diffusers_files.h"
#include "models/diffusers_folder.h"
#include "models/osediff_file.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t last_timestep = 999;  // OSEDiff, and SDD after it

/// A network from a config and tensors under whatever names, changed by `adapters`.
template <class Net, class Config>
Net make_net(const Json& json, NamedTensors tensors, const std::string& what,
             const NetAdapters& adapters, const std::string& adapter_file, Placement placement,
             bool fused) {
    const ReturnFreedMemory for_weights;
    const Config config = Config::from_json(json, what);
    const Shapes expected = Net::tensor_shapes(config);
    tensors = with_standard_names(std::move(tensors), expected);
    for (const auto& [name, tensor] : adapters.replaced) tensors[name] = tensor;
    tensors = with_standard_names(std::move(tensors), expected);
    StateDict weights(std::move(tensors), what);
    const LoraMerger merge(adapters.adapters, adapter_file);
    weights.edit(merge);
    placement.inference_only = fused;
    AdapterTable unused;
    Net net(weights, config, placement, fused ? nullptr : &unused);
    weights.finish();
    merge.finish();
    return net;
}

NoiseSchedule read_schedule(const Json& json, const std::string& what) {
    return NoiseSchedule(NoiseScheduleConfig::from_json(json, what));
}

Json read_json(const fs::path& path) {
    std::error_code ignored;
    require(fs::is_regular_file(path, ignored),
            "{} is missing; copy it from where the weights come from", path.string());
    return parse_json(read_file(path), path.string());
}

std::optional<fs::path> prompt_beside(const fs::path& model) {
    std::error_code ignored;
    const fs::path folder = fs::is_directory(model, ignored) ? model : model.parent_path();
    const fs::path prompt = folder / "prompt.safetensors";
    return fs::is_regular_file(prompt, ignored) ? std::optional(prompt) : std::nullopt;
}

/// A family with what a file puts in its place or adds to it.
LoadedOneStep load_family(const fs::path& base, const OsediffFile& osediff,
                          const Placement& placement, bool fused = true) {
    const FamilyFolder family = open_family(base);
    std::vector<WeightRecord> records;
    // The base's tensors; none of them where the file holds whole networks
    const auto component = [&](const fs::path& folder, const char* name) {
        if (osediff.merged) {
            return ModelFiles{.config = read_json(folder / "config.json"),
                              .tensors = {},
                              .records = {},
                              .what = fmt::format("the {} of {}", name, osediff.what)};
        }
        ModelFiles files = read_model_folder(folder, "diffusion_pytorch_model");
        records.insert(records.end(), files.records.begin(), files.records.end());
        return files;
    };
    ModelFiles unet_files = component(family.unet, "unet");
    UNet unet =
        make_net<UNet, UNetConfig>(unet_files.config, std::move(unet_files.tensors),
                                   unet_files.what, osediff.unet, osediff.what, placement, fused);
    ModelFiles vae_files = component(family.vae, "vae");
    Vae vae = make_net<Vae, VaeConfig>(vae_files.config, std::move(vae_files.tensors),
                                       vae_files.what, osediff.vae, osediff.what, placement, fused);
    const fs::path scheduler = family.scheduler / "scheduler_config.json";
    return {.model = OneStepModel(std::move(vae), std::move(unet),
                                  read_schedule(read_json(scheduler), scheduler.string()),
                                  last_timestep),
            .records = std::move(records),
            .prompt = std::nullopt};
}

}  // namespace

LoadedOneStep load_base_model(const fs::path& base, const Placement& placement, bool fused) {
    return load_family(base, {}, placement, fused);
}

LoadedOneStep load_osediff(const fs::path& base, const fs::path& file, const Placement& placement) {
    const OsediffFile osediff = read_osediff(file);
    LoadedOneStep loaded = load_family(base, osediff, placement);
    loaded.records.insert(loaded.records.begin(), osediff.record);
    loaded.prompt = prompt_beside(file);
    return loaded;
}

LoadedOneStep load_sdd_student(const fs::path& folder, const Placement& placement) {
    std::error_code ignored;
    require(fs::is_directory(folder, ignored),
            "no SDD student folder {}; sdd-train writes one, --model DIR names it",
            folder.string());
    const fs::path config_path = folder / "config.json";
    const Json config = read_json(config_path);
    const auto part = [&](const char* name) -> const Json& {
        require(config.is_object() && config.contains(name) && config.at(name).is_object(),
                "{} has no object \"{}\"; is {} a folder that sdd-train wrote?",
                config_path.string(), name, folder.string());
        return config.at(name);
    };
    NoiseSchedule schedule = read_schedule(part("scheduler"), config_path.string());
    const Json timestep = config.value("timestep", Json(last_timestep));
    require(timestep.is_number_integer(), "{}: \"timestep\" is {}; it is a whole number",
            config_path.string(), timestep.dump());
    const auto t = timestep.get<std::int64_t>();
    const auto steps = static_cast<std::int64_t>(schedule.alphas_cumprod().size());
    require(t >= 0 && t < steps, "{}: \"timestep\" is {}; the schedule has 0 to {}",
            config_path.string(), t, steps - 1);

    std::vector<WeightRecord> records;
    const auto tensors = [&](const char* file) {
        const fs::path path = folder / file;
        require(fs::is_regular_file(path, ignored),
                "{} is missing; copy the whole folder that sdd-train wrote", path.string());
        records.push_back({.file = file, .sha256 = sha256_of_file(path), .verified = false});
        return load_tensors(path);
    };
    UNet unet =
        make_net<UNet, UNetConfig>(part("unet"), tensors("unet.safetensors"),
                                   (folder / "unet.safetensors").string(), {}, {}, placement, true);
    Vae vae =
        make_net<Vae, VaeConfig>(part("vae"), tensors("vae.safetensors"),
                                 (folder / "vae.safetensors").string(), {}, {}, placement, true);
    return {.model = OneStepModel(std::move(vae), std::move(unet), std::move(schedule), t),
            .records = std::move(records),
            .prompt = prompt_beside(folder)};
}

}  // namespace ultrasr
