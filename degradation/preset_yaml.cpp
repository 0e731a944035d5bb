#include "degradation/preset_yaml.h"

#include <array>
#include <map>
#include <set>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include "data/base/error.h"
#include "data/file.h"

namespace ultrasr {
namespace {

/// A yml's plain value as JSON: number, truth value or word, lists of them.
Json value_of(const YAML::Node& node) {
    if (node.IsSequence()) {
        Json list = Json::array();
        for (const auto& item : node) list.push_back(value_of(item));
        return list;
    }
    double number = 0;
    if (YAML::convert<double>::decode(node, number)) return number;
    const std::string word = node.Scalar();
    if (word == "true" || word == "True") return true;
    if (word == "false" || word == "False") return false;
    return word;
}

/// Keys of the references that shape nothing here, and why.
const std::map<std::string, std::string> inert{
    {"blur_kernel_size", "the references draw the size from 7 to 21 and never read it"},
    {"blur_kernel_size2", "the references draw the size from 7 to 21 and never read it"},
    {"queue_size", "draws are made per picture here, so no pool is needed"},
    {"gt_usm_files", "GT is saved as the preset says"},
    {"l1_gt_usm", "a setting of the losses"},
    {"percep_gt_usm", "a setting of the losses"},
    {"gan_gt_usm", "a setting of the losses"},
};
/// Parts of the degradation's keys. Not "beta" alone: optimisers have their betas.
constexpr std::array lookalikes{"resize_", "noise_", "jpeg_", "blur_", "kernel",
                                "sinc",    "betag",  "betap", "beta_", "poisson"};
const std::vector<std::string> kernel_names{
    "iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"};

class Import {
  public:
    explicit Import(const std::string& file) : file_(file) {
        known_ = presets().front().json();
        known_.erase("name");
    }

    void visit(const YAML::Node& node) {
        if (!node.IsMap()) return;
        for (const auto& entry : node) {
            const auto key = entry.first.as<std::string>();
            if (!entry.second.IsMap()) {
                take(key, entry.second);
                continue;
            }
            require(!is_known(key), "{}: '{}' is a value or a list here, not a map of names", file_,
                    key);
            const std::size_t before = taken_;
            visit(entry.second);
            if (taken_ == before) notice_lookalike(key);
        }
    }

    ImportedPreset result() {
        require(!json_.empty(),
                "{} holds none of the degradation's keys (resize_range, noise_range, jpeg_range "
                "...); is it a Real-ESRGAN option file?",
                file_);
        for (const char* stage : {"", "2"}) sort_kernel_weights(stage);
        Preset base = presets().front();
        base.usm = false;
        base.name = std::filesystem::path(file_).stem().string();
        ImportedPreset out = preset_from_json(json_, base, file_);
        out.notices.insert(out.notices.begin(), notices_.begin(), notices_.end());
        return out;
    }

  private:
    bool is_known(const std::string& key) const {
        static const std::set<std::string> others{"kernel_list", "kernel_list2", "use_hflip",
                                                  "use_rot",     "gt_size",      "size_gt"};
        return known_.contains(key) || inert.contains(key) || others.contains(key);
    }

    /// A misspelt key must not be passed over without a word.
    void notice_lookalike(const std::string& key) {
        for (const char* part : lookalikes) {
            if (key.find(part) == std::string::npos) continue;
            notices_.push_back(
                fmt::format("{}: '{}' is not used: no option of that name is known", file_, key));
            return;
        }
    }

    void take(const std::string& key, const YAML::Node& node) {
        if (!is_known(key)) return notice_lookalike(key);
        ++taken_;
        if (const auto found = inert.find(key); found != inert.end()) {
            notices_.push_back(fmt::format("{}: '{}' is not used: {}", file_, key, found->second));
        } else if (key == "kernel_list" || key == "kernel_list2") {
            lists_[key == "kernel_list" ? "" : "2"] = value_of(node);
        } else if (key == "use_hflip" || key == "use_rot") {
            const double odds = value_of(node) == Json(true) ? 0.5 : 0.0;
            if (key == "use_hflip") {
                json_["hflip_prob"] = odds;
            } else {
                json_["vflip_prob"] = json_["transpose_prob"] = odds;
            }
        } else if (key == "gt_size" || key == "size_gt") {
            json_["patch"] = value_of(node);
        } else {
            if (json_.contains(key)) {
                notices_.push_back(
                    fmt::format("{}: '{}' stands there twice; the last counts", file_, key));
            }
            json_[key] = value_of(node);
        }
    }

    /// kernel_prob follows the order of kernel_list; ours is fixed.
    void sort_kernel_weights(const std::string& stage) {
        const std::string key = "kernel_prob" + stage;
        if (!lists_.contains(stage) || !json_.contains(key)) return;
        const Json &list = lists_[stage], weights = json_[key];
        require(list.is_array() && weights.is_array() && list.size() == weights.size(),
                "{}: 'kernel_list{}' and '{}' differ in length", file_, stage, key);
        Json sorted = Json::array();
        for (const std::string& name : kernel_names) {
            double weight = 0;
            for (std::size_t i = 0; i < list.size(); ++i) {
                if (list[i] == name && weights[i].is_number()) weight += weights[i].get<double>();
            }
            sorted.push_back(weight);
        }
        for (const Json& name : list) {
            require(std::find(kernel_names.begin(), kernel_names.end(), name) != kernel_names.end(),
                    "{}: 'kernel_list{}' holds the unknown kernel {}", file_, stage,
                    dump_json_line(name));
        }
        json_[key] = sorted;
    }

    std::string file_;
    Json known_, json_ = Json::object();
    std::map<std::string, Json> lists_;
    std::vector<std::string> notices_;
    std::size_t taken_ = 0;  ///< keys that are known
};

}  // namespace

ImportedPreset preset_from_yaml(const std::filesystem::path& path) {
    const std::string text = read_file(path);
    Import import(path.string());
    try {
        import.visit(YAML::Load(text));
    } catch (const YAML::Exception& error) {
        fail(Fault::input, "{} is no readable yml: line {}, {}", path.string(), error.mark.line + 1,
             error.msg);
    }
    return import.result();
}

}  // namespace ultrasr
