#include "data/weights/lora_file.h"

#include <array>
#include <cmath>
#include <optional>
#include <regex>
#include <system_error>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/weights/convert.h"
#include "data/weights/shown_name.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr double peft_default_alpha = 8;  // LoraConfig.lora_alpha of peft

// ---- names ----

/// A name taken apart.
struct LoraName {
    std::string component;  ///< "" where the name does not say
    std::string module;     ///< or the whole tensor's name, for `other`
    std::string adapter;
    enum class Part { a, b, alpha, other } part = Part::other;
};

/// Takes `prefix` away from the front.
bool strip(std::string_view& name, std::string_view prefix) {
    if (!name.starts_with(prefix)) return false;
    name.remove_prefix(prefix.size());
    return true;
}

LoraName parse_name(std::string_view name) {
    LoraName result;
    // Prefixes
    for (bool again = true; again;) {
        again = strip(name, "base_model.model.") || strip(name, "transformer.") ||
                strip(name, "module.") || strip(name, "state_dict.");
        for (const std::string_view component : {"unet", "vae", "text_encoder"}) {
            const std::string c(component);
            if (!strip(name, c + ".") && !strip(name, "state_dict_" + c + ".")) continue;
            result.component = c;
            again = true;
        }
    }

    // What is not plain LoRA would be merged wrongly
    const auto has = [&](std::string_view part) { return name.find(part) != name.npos; };
    require(!has("lora_magnitude_vector"), "it holds DoRA ({}), which is not supported",
            shown_name(name));
    require(!has("lora_embedding_"), "it holds LoRA of an embedding ({}), which is not supported",
            shown_name(name));
    require(!name.starts_with("lora_unet_") && !name.starts_with("lora_te"),
            "it is of kohya's form ({}), which is not supported; load it in diffusers and save it "
            "there",
            shown_name(name));

    // <module>.lora_A[.<adapter>].weight, <module>.lora.down.weight, <module>.alpha
    using Part = LoraName::Part;
    constexpr std::array<std::pair<std::string_view, Part>, 4> marks{{{".lora_A.", Part::a},
                                                                      {".lora_B.", Part::b},
                                                                      {".lora.down.", Part::a},
                                                                      {".lora.up.", Part::b}}};
    for (const auto& [mark, part] : marks) {
        const auto at = name.rfind(mark);
        if (at == name.npos) continue;
        constexpr std::string_view weight = ".weight";
        const std::string_view rest = name.substr(at + mark.size() - 1);  // [.<adapter>].weight
        require(rest.ends_with(weight), "it holds {}: LoRA with biases is not supported",
                shown_name(name));
        result.module = name.substr(0, at);
        if (rest != weight) result.adapter = rest.substr(1, rest.size() - 1 - weight.size());
        result.part = part;
        return result;
    }
    require(!has("lora"), "it holds {}, a form of LoRA that is not supported", shown_name(name));
    constexpr std::string_view alpha = ".alpha";
    if (name.ends_with(alpha)) {
        result.module = name.substr(0, name.size() - alpha.size());
        result.part = Part::alpha;
        return result;
    }
    result.module = name;
    constexpr std::string_view wrapped = ".base_layer.";
    if (const auto at = result.module.rfind(wrapped); at != std::string::npos) {
        result.module.replace(at, wrapped.size(), ".");
    }
    return result;
}

// ---- alpha and r ----

/// PEFT's settings for one component.
class Settings {
  public:
    /// prefix  "unet." for diffusers' metadata, which joins the settings of all components
    Settings(Json json, std::string prefix) : json_(std::move(json)), prefix_(std::move(prefix)) {
        for (const char* key :
             {"use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out"}) {
            require(!truth(key), "{} is true in its settings, which is not supported", key);
        }
        const Json* type = find("peft_type");
        require(!type || *type == "LORA", "it is of the PEFT type {}; only LORA is supported",
                type ? dump_json_line(*type) : "");
    }

    double scale_of(const std::string& module, std::int64_t rank) const {
        const double expected = number(module, "rank_pattern", "r", static_cast<double>(rank));
        require(expected == static_cast<double>(rank),
                "module {} has the rank {}, its settings say {}", shown_name(module), rank,
                expected);
        const double alpha = number(module, "alpha_pattern", "lora_alpha",
                                    find("r") ? peft_default_alpha : expected);
        return alpha / (truth("use_rslora") ? std::sqrt(expected) : expected);
    }

  private:
    const Json* find(const std::string& key) const {
        const auto found = json_.find(prefix_ + key);
        return found == json_.end() || found->is_null() ? nullptr : &*found;
    }

    bool truth(const std::string& key) const {
        const Json* value = find(key);
        return value && *value == true;
    }

    /// The first pattern that fits the module's end, else the general number.
    double number(const std::string& module, const std::string& patterns, const std::string& key,
                  double otherwise) const {
        const Json* value = find(key);
        if (const Json* list = find(patterns); list && list->is_object()) {
            for (const auto& [pattern, special] : list->items()) {
                if (!fits(module, pattern)) continue;
                value = &special;
                break;
            }
        }
        require(!value || (value->is_number() && value->get<double>() > 0),
                "{} in its settings is {}, not a number above 0", key,
                value ? dump_json_line(*value) : "");
        return value ? value->get<double>() : otherwise;
    }

    static bool fits(const std::string& module, const std::string& pattern) {
        try {
            return std::regex_match(module, std::regex("(.*\\.)?(" + pattern + ")"));
        } catch (const std::regex_error&) {
            fail(Fault::input, "the pattern '{}' in its settings is not understood",
                 shown_name(pattern));
        }
    }

    Json json_;
    std::string prefix_;
};

// ---- the file ----

/// An update while its halves are being found.
struct Halves {
    const TensorView* a = nullptr;
    const TensorView* b = nullptr;
};

void check_halves(const std::string& module, const Halves& h) {
    const std::string shown = shown_name(module);
    require(h.a && h.b, "module {} has lora_{} without lora_{}", shown, h.a ? "A" : "B",
            h.a ? "B" : "A");
    for (const TensorView* t : {h.a, h.b}) {
        require(is_floating(t->dtype) && (t->shape.size() == 2 || t->shape.size() == 4),
                "{} is {} [{}], not a matrix or the weight of a convolution", shown_name(t->name),
                dtype_name(t->dtype), fmt::join(t->shape, ", "));
    }
    require(h.a->shape[0] == h.b->shape[1] && h.a->shape[0] > 0,
            "module {}: lora_A has the rank {} and lora_B {}", shown, h.a->shape[0], h.b->shape[1]);
    require(h.b->shape.size() == 2 || (h.b->shape[2] == 1 && h.b->shape[3] == 1),
            "module {}: lora_B is [{}], not 1 x 1", shown, fmt::join(h.b->shape, ", "));
}

double number_in(const TensorView& tensor) {
    require(is_floating(tensor.dtype) && tensor.bytes.size() == item_size(tensor.dtype),
            "{} is not one number", shown_name(tensor.name));
    return static_cast<double>(floats_of(tensor).front());
}

/// The settings that the file itself or its neighbour holds; empty when there are none.
Json settings_in(const Checkpoint& file, const Json& beside, std::string& prefix,
                 const std::string& component) {
    if (!beside.is_null()) return beside;
    const auto found = file.metadata().find("lora_adapter_metadata");
    if (found == file.metadata().end()) return Json();
    prefix = component.empty() ? "" : component + ".";
    return parse_json(found->second, "its lora_adapter_metadata");
}

/// OSEDiff's and PiSA-SR's rank for an adapter; empty for other files.
std::optional<Json> recipe_rank(const Json& extras, const std::string& component,
                                const std::string& adapter) {
    for (const std::string& key : {"rank_" + component, "lora_rank_" + component +
                                                            (adapter.ends_with("_pix")   ? "_pix"
                                                             : adapter.ends_with("_sem") ? "_sem"
                                                                                         : "")}) {
        if (extras.contains(key)) return extras[key];
    }
    return std::nullopt;
}

LoraFile parse(const Checkpoint& file, const fs::path& path, const Json& beside) {
    LoraFile result{.path = path, .nets = {}, .file = file};
    using Key = std::pair<std::string, std::string>;     // component, module
    std::map<Key, std::map<std::string, Halves>> found;  // by adapter
    std::map<Key, double> alphas;
    for (const TensorView& t : file.tensors()) {
        const LoraName name = parse_name(t.name);
        const Key key{name.component, name.module};
        if (name.part == LoraName::Part::alpha) {
            alphas[key] = number_in(t);
        } else if (name.part == LoraName::Part::other) {
            result.nets[name.component].replaced.emplace(name.module, t);
        } else {
            Halves& h = found[key][name.adapter];
            const TensorView*& half = name.part == LoraName::Part::a ? h.a : h.b;
            require(!half, "it holds {} twice", shown_name(t.name));
            half = &t;
        }
    }
    require(!found.empty(), "it holds no LoRA (no tensor's name has lora_A)");

    std::map<std::string, Settings> settings;  // by component
    for (const auto& [key, adapters] : found) {
        const auto& [component, module] = key;
        if (!settings.contains(component)) {
            std::string prefix;
            Json json = settings_in(file, beside, prefix, component);
            if (json.is_object()) settings.emplace(component, Settings(std::move(json), prefix));
        }
        for (const auto& [adapter, h] : adapters) {
            check_halves(module, h);
            const std::int64_t rank = h.a->shape[0];
            double scale = 1;
            if (const auto alpha = alphas.find(key); alpha != alphas.end()) {
                scale = alpha->second / static_cast<double>(rank);
            } else if (const auto expected = recipe_rank(file.extras(), component, adapter)) {
                require(*expected == rank, "module {} has the rank {}, the file says {}",
                        shown_name(module), rank, dump_json_line(*expected));
                scale = peft_default_alpha / static_cast<double>(rank);
            } else if (const auto s = settings.find(component); s != settings.end()) {
                scale = s->second.scale_of(module, rank);
            }
            result.nets[component].modules[module].push_back(
                {.adapter = adapter, .a = *h.a, .b = *h.b, .scale = scale});
        }
    }
    return result;
}

}  // namespace

LoraFile read_lora(const Checkpoint& file, const fs::path& name) {
    return while_doing(name.string(), [&] { return parse(file, name, Json()); });
}

LoraFile read_lora(const fs::path& path) {
    // The file in a folder
    fs::path chosen = path;
    std::error_code ignored;
    if (fs::is_directory(path, ignored)) {
        constexpr std::array names{"adapter_model.safetensors", "adapter_model.bin",
                                   "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin",
                                   "osediff.pkl"};
        for (const char* name : names) {
            if (chosen == path && fs::is_regular_file(path / name, ignored)) chosen = path / name;
        }
        require(chosen != path, "{} holds no LoRA; looked for {}; name the file itself",
                path.string(), fmt::join(names, ", "));
    }

    // PEFT's settings beside it
    const Checkpoint file = read_checkpoint(chosen);
    Json beside;
    const fs::path config = chosen.parent_path() / "adapter_config.json";
    if (chosen.stem() == "adapter_model" && fs::is_regular_file(config, ignored)) {
        beside = parse_json(read_file(config), config.string());
    }
    return while_doing(chosen.string(), [&] { return parse(file, chosen, beside); });
}

}  // namespace ultrasr
