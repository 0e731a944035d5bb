#include "data/weights/diffusers_files.h"

#include <array>
#include <set>
#include <system_error>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/weights/shown_name.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

/// What a component's weights may be called, the first choice first.
std::vector<std::string> candidates_of(std::string_view stem) {
    const std::string safe(stem);
    const std::string bin = stem == "model" ? "pytorch_model" : safe;
    return {safe + ".safetensors",
            safe + ".fp16.safetensors",
            safe + ".safetensors.index.json",
            safe + ".safetensors.index.fp16.json",
            safe + ".fp16.safetensors.index.json",
            bin + ".bin",
            bin + ".fp16.bin",
            bin + ".bin.index.json",
            bin + ".bin.index.fp16.json",
            bin + ".fp16.bin.index.json"};
}

void add_file(WeightSet& set, const fs::path& path) {
    const Checkpoint file = read_checkpoint(path);
    constexpr std::string_view wrapper = "state_dict.";
    bool wrapped = false;
    for (const TensorView& t : file.tensors()) wrapped = wrapped || t.name.starts_with(wrapper);
    for (TensorView t : file.tensors()) {
        if (wrapped && !t.name.starts_with(wrapper)) continue;
        if (wrapped) t.name.erase(0, wrapper.size());
        const std::string name = t.name;
        require(set.tensors.emplace(name, std::move(t)).second, "{} repeats the tensor {}",
                path.string(), shown_name(name));
    }
    set.paths.push_back(path);
    set.files.push_back(file);
}

/// The index says which file each tensor is in; both must agree.
WeightSet read_shards(const fs::path& index) {
    const Json json = parse_json(read_file(index), index.string());
    require(json.is_object() && json.contains("weight_map") && json["weight_map"].is_object(),
            "{} has no weight_map, so it is no index of shards; fetch it again", index.string());
    std::set<std::string> shards;
    for (const auto& [tensor, file] : json["weight_map"].items()) {
        const std::string name = file.is_string() ? file.get<std::string>() : "";
        require(!name.empty() && name != ".." && fs::path(name).filename() == name,
                "{} puts {} into a file that is not beside it; fetch it again", index.string(),
                shown_name(tensor));
        shards.insert(name);
    }
    WeightSet set;
    for (const std::string& name : shards) {
        require(fs::is_regular_file(index.parent_path() / name),
                "{} is missing, {} needs it; fetch it from the same place",
                (index.parent_path() / name).string(), index.filename().string());
        add_file(set, index.parent_path() / name);
    }
    for (const auto& [tensor, file] : json["weight_map"].items()) {
        require(set.tensors.contains(tensor), "{} names the tensor {}, which no shard holds",
                index.string(), shown_name(tensor));
    }
    require(set.tensors.size() == json["weight_map"].size(),
            "the shards of {} hold {} tensors and it names {}; fetch all of them from the same "
            "place",
            index.string(), set.tensors.size(), json["weight_map"].size());
    return set;
}

}  // namespace

WeightSet read_weight_file(const fs::path& path) {
    WeightSet set;
    add_file(set, path);
    return set;
}

WeightSet read_component_weights(const fs::path& folder, std::string_view stem) {
    std::error_code ignored;
    require(fs::is_directory(folder, ignored),
            "the folder {} is missing; name a folder in diffusers' layout that has it",
            folder.string());
    const std::vector<std::string> candidates = candidates_of(stem);
    for (const std::string& name : candidates) {
        const fs::path path = folder / name;
        if (!fs::is_regular_file(path, ignored)) continue;
        return name.ends_with(".json") ? read_shards(path) : read_weight_file(path);
    }
    fail(Fault::input, "{} holds no weights; looked for {}; fetch one of them into it",
         folder.string(), fmt::join(candidates, ", "));
}

std::string_view component_stem(std::string_view component) {
    return component == "text_encoder" ? "model" : "diffusion_pytorch_model";
}

std::string standard_name(std::string_view name) {
    // Prefixes of wrappers, in any order
    for (bool again = true; again;) {
        again = false;
        for (const std::string_view prefix :
             {"module.", "model.", "unet.", "vae.", "transformer."}) {
            if (!name.starts_with(prefix)) continue;
            name.remove_prefix(prefix.size());
            again = true;
        }
    }

    // PEFT's wrapped layers
    std::string text(name);
    constexpr std::string_view wrapped = ".base_layer.";
    if (const auto at = text.rfind(wrapped); at != std::string::npos) {
        text.replace(at, wrapped.size(), ".");
    }

    // The VAE's attention before diffusers 0.18
    constexpr std::array<std::pair<std::string_view, std::string_view>, 4> old{
        {{".query.", ".to_q."},
         {".key.", ".to_k."},
         {".value.", ".to_v."},
         {".proj_attn.", ".to_out.0."}}};
    if (text.find("attentions.") == std::string::npos) return text;
    for (const auto& [from, to] : old) {
        if (const auto at = text.rfind(from); at != std::string::npos) {
            text.replace(at, from.size(), to);
        }
    }
    return text;
}

std::string_view module_of(std::string_view name) {
    constexpr std::string_view ending = ".weight";
    if (!name.ends_with(ending)) return {};
    name.remove_suffix(ending.size());
    return name;
}

}  // namespace ultrasr
