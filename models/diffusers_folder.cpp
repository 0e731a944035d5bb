#include "models/diffusers_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>
#include <system_error>

#include "data/base/error.h"
#include "data/file.h"
#include "data/weights/diffusers_files.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

Json read_config(const fs::path& folder) {
    const fs::path path = folder / "config.json";
    std::error_code ignored;
    require(fs::is_regular_file(path, ignored),
            "{} has no config.json beside its weights; copy it from where the weights come from",
            folder.string());
    Json config = parse_json(read_file(path), path.string());
    require(config.is_object(), "{} is not a JSON object", path.string());
    return config;
}

/// Whether two shapes differ in trailing ones alone.
bool same_but_ones(at::IntArrayRef shape, at::IntArrayRef expected) {
    if (shape.size() <= expected.size()) return false;
    for (const std::int64_t n : shape.slice(expected.size())) {
        if (n != 1) return false;
    }
    return shape.slice(0, expected.size()) == expected;
}

}  // namespace

ModelFiles read_model_folder(const fs::path& folder, std::string_view stem) {
    const WeightSet set = read_component_weights(folder, stem);
    ModelFiles result{.config = read_config(folder), .tensors = {}, .records = {}, .what = ""};
    for (const Checkpoint& file : set.files) {
        for (const TensorView& view : file.tensors()) {
            if (set.tensors.contains(view.name)) {
                result.tensors.emplace(view.name, tensor_of(view, file.holder()));
            }
        }
    }
    const fs::path whole = fs::absolute(folder / "").lexically_normal();  // ends with a slash
    const std::string part = whole.parent_path().filename().string();
    for (const fs::path& path : set.paths) {
        result.records.push_back({.file = part + "/" + path.filename().string(),
                                  .sha256 = sha256_of_file(path),
                                  .verified = false});
    }
    const auto name = result.config.find("_class_name");
    result.what = fmt::format(
        "{} ({}{})",
        name != result.config.end() && name->is_string() ? name->get<std::string>() : part,
        result.records[0].file,
        result.records.size() > 1 ? fmt::format(" and {} more", result.records.size() - 1) : "");
    return result;
}

NamedTensors with_standard_names(NamedTensors tensors, const Shapes& expected) {
    // Names
    std::set<std::string> found;
    std::vector<std::pair<std::string, std::string>> renamed;  // from, to
    for (const auto& [name, tensor] : tensors) {
        if (expected.contains(name)) found.insert(name);
    }
    for (const auto& [name, tensor] : tensors) {
        if (expected.contains(name)) continue;
        const std::string standard = standard_name(name);
        if (expected.contains(standard) && found.insert(standard).second) {
            renamed.emplace_back(name, standard);
        }
    }
    if (found.size() != expected.size()) return tensors;
    for (const auto& [from, to] : renamed) {
        auto node = tensors.extract(from);
        node.key() = to;
        tensors.insert(std::move(node));
    }

    // Shapes
    for (const auto& [name, shape] : expected) {
        at::Tensor& tensor = tensors.at(name);
        if (same_but_ones(tensor.sizes(), shape)) tensor = tensor.view(shape);
    }
    return tensors;
}

FamilyFolder open_family(const fs::path& base) {
    std::error_code ignored;
    require(fs::is_directory(base, ignored),
            "the folder {} is missing; name a model family in diffusers' layout (unet/, vae/, "
            "text_encoder/, tokenizer/, scheduler/)",
            base.string());
    require(!fs::exists(base / "config.json", ignored) || fs::exists(base / "unet", ignored),
            "{} is one network of a family; name the folder above it", base.string());
    require(fs::is_directory(base / "unet", ignored),
            "{} has no folder unet/; name a model family in diffusers' layout (unet/, vae/, "
            "text_encoder/, tokenizer/, scheduler/)",
            base.string());
    FamilyFolder family{.unet = base / "unet",
                        .vae = base / "vae",
                        .text_encoder = base / "text_encoder",
                        .tokenizer = base / "tokenizer",
                        .scheduler = base / "scheduler",
                        .index = Json::object()};
    const fs::path index = base / "model_index.json";
    if (fs::is_regular_file(index, ignored)) {
        family.index = parse_json(read_file(index), index.string());
    }
    return family;
}

}  // namespace ultrasr
