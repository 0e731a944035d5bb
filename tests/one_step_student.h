// An SDD student folder out of the tiny family of tests/golden/one_step: a base without adapters.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/file.h"
#include "data/weights/diffusers_files.h"
#include "data/weights/safetensors.h"
#include "tests/test.h"

namespace ultrasr::test {

inline std::filesystem::path one_step_family() { return golden("one_step/family"); }

/// Writes the weights of a network of a family as one file.
///
/// keep  whether a tensor is written
inline void join_weights(const std::filesystem::path& component, const std::filesystem::path& to,
                         const std::function<bool(const std::string&)>& keep = {}) {
    const WeightSet set = read_component_weights(component, "diffusion_pytorch_model");
    std::vector<TensorView> tensors;
    for (const auto& [name, view] : set.tensors) {
        tensors.push_back(view);
        tensors.back().name = name;
        if (keep && !keep(name)) tensors.pop_back();
    }
    write_safetensors(to, tensors);
}

/// The same prompt everywhere: [77, width], float32, values by place.
inline void write_prompt(const std::filesystem::path& file, std::int64_t width) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < 77 * width; ++i) {
        values.push_back(static_cast<float>(i * 37 % 101) / 50.0F - 1.0F);
    }
    const TensorView view{.name = "prompt_embeds",
                          .dtype = Dtype::f32,
                          .shape = {77, width},
                          .bytes = std::as_bytes(std::span<const float>(values))};
    write_safetensors(file, std::span(&view, 1), {{"prompt", "by place"}});
}

inline Json json_file(const std::filesystem::path& file) {
    return parse_json(read_file(file), file.string());
}

/// folder/{config.json, unet.safetensors, vae.safetensors, prompt.safetensors}
inline void make_student(const std::filesystem::path& folder) {
    const std::filesystem::path family = one_step_family();
    const Json unet = json_file(family / "unet/config.json");
    write_file(folder / "config.json",
               dump_json({{"unet", unet},
                          {"vae", json_file(family / "vae/config.json")},
                          {"scheduler", json_file(family / "scheduler/scheduler_config.json")},
                          {"timestep", 999}}));
    join_weights(family / "unet", folder / "unet.safetensors");
    join_weights(family / "vae", folder / "vae.safetensors");
    write_prompt(folder / "prompt.safetensors", unet.at("cross_attention_dim"));
}

}  // namespace ultrasr::test
