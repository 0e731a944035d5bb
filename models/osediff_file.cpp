#include "models/osediff_file.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/weights/diffusers_files.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view wanted =
    "OSEDiff needs its own osediff.pkl (a dictionary with state_dict_unet and state_dict_vae, or "
    "with unet and vae)";

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

// ---- what else it may be ----

/// A sign in a tensor's name, and whose it is.
struct Sign {
    std::string_view prefix, part;
    std::string_view owner;
};
constexpr std::array signs{
    Sign{"module.body.", "", "AdcSR's net_params"},
    Sign{"body.", "resnets", "AdcSR's net_params"},
    Sign{"state_dict.", "decoder.", "AdcSR's half decoder"},
    Sign{"", "lora_A.default_encoder_pix", "PiSA-SR's pisa_sr.pkl"},
    Sign{"", "lora_A.default_encoder_sem", "PiSA-SR's pisa_sr.pkl"},
    Sign{"transformer.", ".lora_", "LoRA of TSD-SR"},
    Sign{"", "add_q_proj", "a part of Stable Diffusion 3, which TSD-SR builds on"},
    Sign{"", ".lora_", "LoRA of another model; 'ultrasr-weights merge-lora' makes a base of it"},
    Sign{"down_blocks.", "", "the UNet of a base, which goes into --base"},
    Sign{"encoder.", "", "the VAE of a base, which goes into --base"},
};

[[noreturn]] void fail_as_other(const fs::path& path, const Checkpoint& file) {
    for (const Sign& sign : signs) {
        for (const TensorView& t : file.tensors()) {
            if (!t.name.starts_with(sign.prefix) || !contains(t.name, sign.part)) continue;
            fail(Fault::input, "{} looks like {}; {}", path.string(), sign.owner, wanted);
        }
    }
    fail(Fault::input, "{} holds {} tensors, but none as OSEDiff has them; {}", path.string(),
         file.tensors().size(), wanted);
}

/// osediff.pkl in a folder.
fs::path file_in(const fs::path& folder) {
    std::error_code ignored;
    const auto has = [&](const char* name) { return fs::exists(folder / name, ignored); };
    if (has("osediff.pkl")) return folder / "osediff.pkl";
    const std::string_view owner =
        has("transformer.safetensors") || has("prompt_embeds.pt") ? "LoRA of TSD-SR"
        : has("net_params_200.pkl") || has("halfDecoder.ckpt")    ? "AdcSR's weights"
        : has("pisa_sr.pkl")                                      ? "PiSA-SR's weights"
        : has("sdd.json")                   ? "a student of SDD, for --method sdd"
        : has("unet") || has("transformer") ? "a model family, which goes into --base"
                                            : "";
    if (owner.empty()) fail(Fault::input, "{} holds no osediff.pkl; {}", folder.string(), wanted);
    fail(Fault::input, "{} looks like {}; {}", folder.string(), owner, wanted);
}

// ---- the two forms ----

/// The modules that a list in the file names, once each.
void add_modules(const Json& extras, const char* key, std::set<std::string>& modules) {
    const auto list = extras.find(key);
    require(list != extras.end() && list->is_array(), "{} is missing in it; fetch it again", key);
    for (const Json& name : *list) {
        require(name.is_string(), "{} is not a list of names; fetch it again", key);
        modules.insert(name.get<std::string>());
    }
}

/// The file lists the modules of each adapter and holds the adapters: both must agree.
void check_modules(const Json& extras, const std::vector<const char*>& lists, const LoraNet& net,
                   std::string_view what) {
    std::set<std::string> listed;
    for (const char* key : lists) add_modules(extras, key, listed);
    std::vector<std::string> missing, surplus;
    for (const std::string& module : listed) {
        if (!net.modules.contains(module)) missing.push_back(module);
    }
    for (const auto& [module, updates] : net.modules) {
        if (!listed.contains(module)) surplus.push_back(module);
    }
    fail_on_misfits(what, {{"without LoRA though listed", missing}, {"not listed", surplus}});
}

NetAdapters whole_state(const Checkpoint& file, std::string_view prefix) {
    NetAdapters result;
    for (const TensorView& t : file.tensors()) {
        if (!t.name.starts_with(prefix)) continue;
        result.replaced.emplace(t.name.substr(prefix.size()), tensor_of(t, file.holder()));
    }
    return result;
}

}  // namespace

OsediffFile read_osediff(const fs::path& path) {
    std::error_code ignored;
    const fs::path chosen = fs::is_directory(path, ignored) ? file_in(path) : path;
    const Checkpoint file = read_checkpoint(chosen);
    const auto some = [&](auto test) { return std::ranges::any_of(file.tensors(), test); };
    OsediffFile result;
    result.what = fmt::format("OSEDiff ({})", chosen.filename().string());

    if (file.extras().contains("unet_lora_encoder_modules") &&
        some([](const TensorView& t) { return t.name.starts_with("state_dict_unet."); })) {
        // The released form
        const LoraFile lora = read_lora(file, chosen);
        const auto net = [&](const char* component) {
            const auto found = lora.nets.find(component);
            require(found != lora.nets.end(), "{} has no state_dict_{}; fetch it again",
                    chosen.string(), component);
            return found->second;
        };
        while_doing(chosen.string(), [&] {
            check_modules(file.extras(),
                          {"unet_lora_encoder_modules", "unet_lora_decoder_modules",
                           "unet_lora_others_modules"},
                          net("unet"), "its lists of the UNet's modules");
            check_modules(file.extras(), {"vae_lora_encoder_modules"}, net("vae"),
                          "its list of the VAE's modules");
        });
        result.unet = tensors_of(net("unet"), file);
        result.vae = tensors_of(net("vae"), file);
    } else if (some([](const TensorView& t) { return t.name.starts_with("unet."); }) &&
               some([](const TensorView& t) { return t.name.starts_with("vae."); }) &&
               !some([](const TensorView& t) { return contains(t.name, ".lora"); })) {
        // Whole state dicts
        result.merged = true;
        result.unet = whole_state(file, "unet.");
        result.vae = whole_state(file, "vae.");
    } else {
        fail_as_other(chosen, file);
    }
    result.record = {
        .file = chosen.filename().string(), .sha256 = sha256_of_file(chosen), .verified = false};
    return result;
}

std::vector<std::string> osediff_modules(OsediffPart part, const Shapes& tensors) {
    // A name is a target when it has one of these words; "conv" covers all convolutions
    constexpr std::array<std::string_view, 9> unet_words{"to_k",     "to_q",     "to_v",
                                                         "to_out.0", "conv",     "proj_out",
                                                         "proj_in",  "ff.net.2", "ff.net.0.proj"};
    constexpr std::array<std::string_view, 5> vae_words{"conv", "to_k", "to_q", "to_v", "to_out.0"};
    const auto any = [](const auto& words, std::string_view name) {
        return std::ranges::any_of(words, [&](std::string_view w) { return contains(name, w); });
    };
    std::vector<std::string> modules;
    for (const auto& [name, shape] : tensors) {
        const std::string_view module = module_of(name);
        if (module.empty() || contains(name, "norm")) continue;
        bool chosen = false;
        if (part == OsediffPart::vae_encoder) {
            chosen = (contains(name, "encoder") && any(vae_words, name)) ||
                     (contains(name, "quant_conv") && !contains(name, "post_quant_conv"));
        } else if (any(unet_words, name)) {
            const OsediffPart where = contains(name, "down_blocks") || contains(name, "conv_in")
                                          ? OsediffPart::unet_encoder
                                      : contains(name, "up_blocks") || contains(name, "conv_out")
                                          ? OsediffPart::unet_decoder
                                          : OsediffPart::unet_others;
            chosen = where == part;
        }
        if (chosen) modules.emplace_back(module);
    }
    return modules;
}

}  // namespace ultrasr
