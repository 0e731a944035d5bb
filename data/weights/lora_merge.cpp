#include "data/weights/lora_merge.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <system_error>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/weights/convert.h"
#include "data/weights/diffusers_files.h"
#include "data/weights/mapped_file.h"
#include "data/weights/shown_name.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr std::array<std::string_view, 4> components{"unet", "transformer", "vae", "text_encoder"};

using Shape = std::span<const std::int64_t>;

Shape without_ones(Shape shape) {
    while (shape.size() > 2 && shape.back() == 1) shape = shape.first(shape.size() - 1);
    return shape;
}

/// The first ten of a list, and how many more.
std::string first_ten(const std::vector<std::string>& names) {
    const std::span some(names.data(), std::min<std::size_t>(names.size(), 10));
    return fmt::format("{}{}", fmt::join(some, ", "),
                       names.size() > 10 ? fmt::format(" and {} more", names.size() - 10) : "");
}

// ---- which tensors change ----

/// One tensor of the base and what happens to it.
struct Change {
    const TensorView* tensor = nullptr;
    const TensorView* replaced = nullptr;
    const std::vector<LoraUpdate>* updates = nullptr;
    std::string module;
};

/// A network of the base, its tensors by the names that diffusers gives them today.
class BaseNet {
  public:
    explicit BaseNet(WeightSet weights) : weights_(std::move(weights)) {
        for (const auto& [name, tensor] : weights_.tensors) {
            standard_.emplace(standard_name(name), &tensor);
        }
    }

    const WeightSet& weights() const { return weights_; }

    /// What of a LoRA is not here.
    std::vector<std::string> missing(const LoraNet& lora) const {
        std::vector<std::string> names;
        for (const auto& [module, updates] : lora.modules) {
            if (!standard_.contains(module + ".weight")) names.push_back(module);
        }
        for (const auto& [name, tensor] : lora.replaced) {
            if (!standard_.contains(name)) names.push_back(name);
        }
        return names;
    }

    /// What a LoRA changes, by the file's names. Everything of it is here.
    std::map<std::string, Change> changes(const LoraNet& lora) const {
        std::map<std::string, Change> result;
        for (const auto& [name, tensor] : lora.replaced) {
            const TensorView& base = *standard_.at(name);
            require(std::ranges::equal(without_ones(base.shape), without_ones(tensor.shape)) &&
                        is_floating(tensor.dtype) && is_floating(base.dtype),
                    "{} is {} [{}] in the base and {} [{}] in the LoRA's file; they belong to "
                    "different models",
                    shown_name(name), dtype_name(base.dtype), fmt::join(base.shape, ", "),
                    dtype_name(tensor.dtype), fmt::join(tensor.shape, ", "));
            result[base.name] = {.tensor = &base, .replaced = &tensor, .module = name};
        }
        for (const auto& [module, updates] : lora.modules) {
            const TensorView& base = *standard_.at(module + ".weight");
            require(is_floating(base.dtype), "module {} has weights of the type {} in the base",
                    shown_name(module), dtype_name(base.dtype));
            for (const LoraUpdate& u : updates) {
                check_lora_fits(base.shape, u.a.shape, u.b.shape, module);
            }
            Change& change = result[base.name];
            change.tensor = &base;
            change.updates = &updates;
            change.module = module;
        }
        return result;
    }

  private:
    WeightSet weights_;
    std::map<std::string, const TensorView*> standard_;
};

// ---- writing ----

/// Writes the weights of one component.
MergedComponent write_merged(const BaseNet& base, const LoraNet& lora, const MergeOptions& options,
                             const fs::path& to, Progress& progress) {
    // What becomes of each tensor
    const std::map<std::string, Change> changes = base.changes(lora);
    MergedComponent done{.component = "",
                         .tensors = base.weights().tensors.size(),
                         .merged = lora.modules.size(),
                         .replaced = lora.replaced.size()};
    std::vector<const TensorView*> tensors;
    std::vector<TensorHead> heads;
    for (const auto& [name, tensor] : base.weights().tensors) {
        const bool cast = options.dtype && is_floating(tensor.dtype);
        heads.push_back({name, cast ? *options.dtype : tensor.dtype, tensor.shape});
        tensors.push_back(&tensor);
    }

    // Write them one by one
    Converted count;
    std::size_t written = 0;
    const auto produce = [&](std::size_t i, const TakeBytes& take) {
        progress.step("merge", written++, heads.size());
        const auto changed = changes.find(heads[i].name);
        TensorView tensor = *tensors[i];
        std::vector<float> values;
        if (changed != changes.end()) {
            const Change& change = changed->second;
            values = floats_of(change.replaced ? *change.replaced : tensor);
            give_back_pages(tensor.bytes);
            if (change.updates) {
                for (LoraUpdate update : *change.updates) {
                    update.scale *= options.scale;
                    add_lora_(values, tensor.shape, update, change.module);
                }
            }
            tensor.dtype = Dtype::f32;
            tensor.bytes = std::as_bytes(std::span(values));
        }
        if (tensor.dtype == heads[i].dtype) return take_in_pieces(tensor.bytes, 1, take);
        take_in_pieces(
            tensor.bytes, item_size(tensor.dtype), [&](std::span<const std::byte> bytes) {
                TensorView piece{.name = "", .dtype = tensor.dtype, .shape = {}, .bytes = bytes};
                take(cast_tensor(piece, heads[i].dtype, count));
            });
    };
    stream_safetensors(to, heads, produce, {{"format", "pt"}});
    progress.step("merge", heads.size(), heads.size());
    done.overflowed = count.overflowed;
    return done;
}

void copy_tree(const fs::path& from, const fs::path& to) {
    make_folders(to.parent_path());
    std::error_code code;
    fs::copy(from, to, fs::copy_options::recursive, code);
    if (code) {
        fail(Fault::storage, "cannot copy {} to {}: {}; free space or choose another folder",
             from.string(), to.string(), code.message());
    }
}

/// A folder beside `out` that takes its name in the end, or goes away.
class NewFolder {
  public:
    explicit NewFolder(const fs::path& out)
        : out_(out.has_filename() ? out : out.parent_path()),
          temporary_(out_.parent_path() /
                     fmt::format(".{}.{}.tmp", out_.filename().string(), ::getpid())) {
        std::error_code code;
        if (fs::exists(out_, code) && !fs::is_empty(out_, code)) {
            fail(Fault::usage, "{} holds something already; name a new folder to write",
                 out.string());
        }
        fs::remove_all(temporary_, code);
        make_folders(temporary_);
    }
    ~NewFolder() {
        std::error_code ignored;
        if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
    }
    NewFolder(const NewFolder&) = delete;
    NewFolder& operator=(const NewFolder&) = delete;

    const fs::path& path() const { return temporary_; }

    void finish() {
        std::error_code code;
        fs::remove(out_, code);  // an empty folder
        fs::rename(temporary_, out_, code);
        if (code) {
            fail(Fault::storage, "cannot make the folder {}: {}; choose another", out_.string(),
                 code.message());
        }
        temporary_.clear();
    }

  private:
    fs::path out_, temporary_;
};

// ---- one network, or a family of them ----

/// The one net of a file that is meant for one network.
const LoraNet& only_net(const LoraFile& lora, const BaseNet& base, const fs::path& where) {
    const LoraNet* best = nullptr;
    std::vector<std::string> missing;
    for (const auto& [component, net] : lora.nets) {
        std::vector<std::string> here = base.missing(net);
        if (best && here.size() >= missing.size()) continue;
        best = &net;
        missing = std::move(here);
    }
    require(missing.empty(),
            "{} does not have what {} changes: {}; they belong to different models", where.string(),
            lora.path.string(), first_ten(missing));
    return *best;
}

/// The weights of a folder that holds one network.
WeightSet read_component(const fs::path& folder, std::string_view component) {
    std::error_code ignored;
    if (component.empty() && !fs::exists(folder / "diffusion_pytorch_model.safetensors", ignored) &&
        fs::exists(folder / "model.safetensors", ignored)) {
        component = "text_encoder";
    }
    return read_component_weights(folder, component_stem(component));
}

MergedComponent merge_folder(const BaseNet& base, const LoraNet& lora, const MergeOptions& options,
                             const fs::path& from, const fs::path& to, Progress& progress) {
    const std::string file = base.weights().paths[0].filename().string();
    const bool diffusion = file.starts_with("diffusion_pytorch_model");
    const std::string stem(component_stem(diffusion ? "unet" : "text_encoder"));
    copy_tree(from / "config.json", to / "config.json");
    return write_merged(base, lora, options, to / (stem + ".safetensors"), progress);
}

std::vector<MergedComponent> merge_family(const LoraFile& lora, const MergeOptions& options,
                                          Progress& progress) {
    // Open what there is
    std::map<std::string, BaseNet> nets;
    std::error_code ignored;
    for (const std::string_view component : components) {
        const fs::path folder = options.base / component;
        if (!fs::is_directory(folder, ignored)) continue;
        nets.emplace(component, BaseNet(read_component(folder, component)));
    }

    // Which network each part of the file is for: the one it names, else the one that has it all
    std::map<std::string, const LoraNet*> chosen;
    for (const auto& [component, lora_net] : lora.nets) {
        std::vector<std::string> fitting, missing;
        for (const auto& [name, net] : nets) {
            if (!component.empty() && component != name) continue;
            std::vector<std::string> here = net.missing(lora_net);
            if (here.empty()) fitting.push_back(name);
            if (missing.empty() || here.size() < missing.size()) missing = std::move(here);
        }
        require(!missing.empty() || !fitting.empty(), "{} has no {}, which {} changes",
                options.base.string(), component, lora.path.string());
        require(fitting.size() == 1,
                "{} does not have what {} changes{}: {}; they belong to different models",
                options.base.string(), lora.path.string(),
                component.empty() ? "" : " in " + component, first_ten(missing));
        require(chosen.emplace(fitting[0], &lora_net).second,
                "{} has two parts for {}; merge them one after the other", lora.path.string(),
                fitting[0]);
    }

    // Write them, and copy the rest
    NewFolder out(options.out);
    std::vector<MergedComponent> done;
    for (const auto& entry : fs::directory_iterator(options.base)) {
        const std::string name = entry.path().filename().string();
        const auto net = nets.find(name);
        if (const auto c = chosen.find(name); c != chosen.end()) {
            done.push_back(merge_folder(net->second, *c->second, options, entry.path(),
                                        out.path() / name, progress));
            done.back().component = name;
        } else if (net != nets.end()) {
            for (const fs::path& file : net->second.weights().paths) {
                copy_tree(file, out.path() / name / file.filename());
            }
            for (const auto& beside : fs::directory_iterator(entry.path())) {
                if (beside.path().extension() == ".json") {
                    copy_tree(beside.path(), out.path() / name / beside.path().filename());
                }
            }
        } else {
            copy_tree(entry.path(), out.path() / name);
        }
    }
    out.finish();
    std::ranges::sort(done, {}, &MergedComponent::component);
    return done;
}

}  // namespace

void check_lora_fits(Shape weight, Shape a, Shape b, std::string_view module) {
    const bool fits =
        weight.size() >= 2 && b.size() >= 2 && a.size() >= 2 && a[0] == b[1] && b[0] == weight[0] &&
        without_ones(b).size() == 2 &&
        std::ranges::equal(without_ones(a).subspan(1), without_ones(weight).subspan(1));
    require(fits,
            "LoRA of module {} does not fit: the weight is [{}], lora_A [{}], lora_B [{}]; they "
            "belong to different models",
            shown_name(module), fmt::join(weight, ", "), fmt::join(a, ", "), fmt::join(b, ", "));
}

void add_lora_(std::span<float> weight, Shape shape, const LoraUpdate& update,
               std::string_view module) {
    check_lora_fits(shape, update.a.shape, update.b.shape, module);
    const std::vector<float> a = floats_of(update.a), b = floats_of(update.b);
    const auto rank = static_cast<std::size_t>(update.a.shape[0]);
    const auto out = static_cast<std::size_t>(shape[0]);
    const std::size_t in = weight.size() / std::max<std::size_t>(out, 1);  // kernel included
    const auto scale = static_cast<float>(update.scale);
    std::vector<float> row(in);
    for (std::size_t o = 0; o < out; ++o) {
        std::ranges::fill(row, 0.0f);
        for (std::size_t r = 0; r < rank; ++r) {
            const float factor = b[o * rank + r];
            for (std::size_t i = 0; i < in; ++i) row[i] += factor * a[r * in + i];
        }
        for (std::size_t i = 0; i < in; ++i) weight[o * in + i] += scale * row[i];
    }
}

std::vector<MergedComponent> merge_lora(const MergeOptions& options, Progress& progress) {
    std::error_code ignored;
    require(fs::exists(options.base, ignored), "{} is missing", options.base.string());
    if (fs::equivalent(options.base, options.out, ignored)) {
        fail(Fault::usage, "{} would be replaced by itself; name another place to write",
             options.out.string());
    }
    const LoraFile lora = read_lora(options.lora);
    if (!fs::is_directory(options.base)) {
        const BaseNet base(read_weight_file(options.base));
        const LoraNet& net = only_net(lora, base, options.base);
        return {write_merged(base, net, options, options.out, progress)};
    }
    if (!fs::exists(options.base / "config.json", ignored)) {
        return merge_family(lora, options, progress);
    }
    const BaseNet base(read_component(options.base, ""));
    const LoraNet& net = only_net(lora, base, options.base);
    NewFolder out(options.out);
    std::vector<MergedComponent> done{
        merge_folder(base, net, options, options.base, out.path(), progress)};
    out.finish();
    return done;
}

}  // namespace ultrasr
