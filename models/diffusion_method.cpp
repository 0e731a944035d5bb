#include "models/diffusion_method.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "data/base/error.h"
#include "data/base/random.h"
#include "data/file.h"
#include "data/tensor.h"
#include "data/weights/weight_store.h"
#include "models/normal_noise.h"
#include "models/one_step_memory.h"
#include "models/resize_8bit.h"
#include "models/text/prompt.h"
#include "models/text/prompt_reader.h"
#include "models/tiling.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t official_multiple = 8, padded_multiple = 64;

int cut_off(double side) { return static_cast<int>(side); }

/// FNV-1a: a number for a text.
std::uint64_t number_of(std::string_view text) {
    std::uint64_t number = 0xcbf29ce484222325;
    for (const char c : text) {
        number = (number ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    }
    return number;
}

// ---- prompts ----

/// One hash of all prompt files of a folder: another text makes another run.
std::string hash_of_prompts(const fs::path& folder) {
    std::error_code ignored;
    require(
        fs::is_directory(folder, ignored),
        "no folder of prompts {}; give --prompt-file a folder with a STEM.txt for each picture, "
        "or a prompt.safetensors",
        folder.string());
    std::set<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder)) {
        if (entry.path().extension() == ".txt") files.insert(entry.path());
    }
    std::string all;
    for (const fs::path& file : files) {
        all += fmt::format("{} {}\n", file.filename().string(), sha256_of_file(file));
    }
    return fmt::format("{:016x}", number_of(all));
}

// ---- dump ----

/// What lies between LR and SR, to be compared with other implementations.
class Dump {
  public:
    Dump(fs::path path, bool with_taps) : path_(std::move(path)), with_taps_(with_taps) {}

    bool wanted() const { return !path_.empty(); }

    /// The UNet's blocks; those of the second tile and later begin with its number.
    Taps taps() {
        if (!wanted() || !with_taps_) return {};
        return [this](const std::string& name, const at::Tensor& value) {
            if (name == "conv_in") ++tile_;
            const bool block =
                name == "conv_in" || name == "mid_block" ||
                ((name.starts_with("down_blocks.") || name.starts_with("up_blocks.")) &&
                 std::count(name.begin(), name.end(), '.') == 1);
            if (!block) return;
            add(tile_ == 0 ? name : fmt::format("tile{:04}.{}", tile_, name), value);
        };
    }

    void add(const std::string& name, const at::Tensor& value) {
        if (wanted()) tensors_[name] = value.to(at::kCPU, at::kFloat).contiguous().clone();
    }

    void write() const {
        if (!wanted()) return;
        make_folders(path_.parent_path());
        save_tensors(path_, tensors_);
    }

  private:
    fs::path path_;
    bool with_taps_;
    int tile_ = -1;
    NamedTensors tensors_;
};

// ---- the method ----

class DiffusionMethod final : public Method {
  public:
    DiffusionMethod(LoadedOneStep loaded, const DiffusionRecipe& recipe,
                    const MethodOptions& options, const fs::path& base)
        : recipe_(recipe),
          options_(options),
          placement_(place(options)),
          model_(std::move(loaded.model)),
          weights_(std::move(loaded.records)) {
        const DiffusionOptions& d = options.diffusion;
        latent_ = d.latent.value_or(d.parity ? LatentChoice::sample : LatentChoice::mean);
        color_fix_ = d.color_fix.value_or(ColorFix::adain);
        rounding_ = d.rounding.value_or(d.parity ? Rounding::truncate : Rounding::half_even);
        tiles_.tile = options.tile < 0 ? 96 : options.tile;
        tiles_.overlap =
            options.tile_pad < 0 ? std::min<std::int64_t>(32, tiles_.tile / 3) : options.tile_pad;
        tiles_.centre = d.parity ? GaussianCentre::official : GaussianCentre::symmetric;
        tiles_.batch = placement_.device.is_cuda() ? 8 : 1;
        model_.use_graphs(open_graph_cache(placement_.device));
        if (tiles_.tile > 0 && tiles_.overlap >= tiles_.tile) {
            fail(Fault::usage,
                 "tiles of {} latents cannot share {} with their neighbours; use a smaller "
                 "--tile-overlap",
                 tiles_.tile, tiles_.overlap);
        }
        take_prompt(loaded, base);
    }

    Image restore(const Image& lr, const RestoreRequest& request) const override;
    Provenance provenance() const override;
    std::optional<Cost> cost(PixelSize lr, const RestoreRequest& request) const override;

  private:
    std::int64_t multiple() const {
        return options_.diffusion.parity ? official_multiple : padded_multiple;
    }
    /// Enlarged and padded.
    PixelSize size_in_networks(PixelSize lr, const RestoreRequest& request) const {
        const PixelSize size =
            enlargements(lr, request, recipe_, options_.diffusion.parity).back().size;
        const auto padded = [&](int side) {
            const auto m = static_cast<int>(multiple());
            return (side + m - 1) / m * m;
        };
        return {padded(size.width), padded(size.height)};
    }
    at::Tensor noise(at::IntArrayRef shape, const std::string& stem) const {
        if (recipe_.noise) return recipe_.noise(shape, stem);
        Rng rng(options_.diffusion.seed, number_of(stem));
        return normal_noise(shape, rng);
    }
    void take_prompt(const LoadedOneStep& loaded, const fs::path& base);
    void fix_prompt(const PromptEmbedding& embedding, const std::string& said) {
        model_.fix_prompt(embedding.states);
        prompt_setting_ = said;
    }

    DiffusionRecipe recipe_;
    MethodOptions options_;
    Placement placement_;
    OneStepModel model_;
    std::vector<WeightRecord> weights_;
    LatentChoice latent_ = LatentChoice::mean;
    ColorFix color_fix_ = ColorFix::adain;
    Rounding rounding_ = Rounding::half_even;
    LatentTileOptions tiles_;
    std::unique_ptr<PromptReader> reader_;  ///< for a prompt a picture
    std::string prompt_setting_;
    std::optional<TextEncoderConfig> text_encoder_;  ///< where one reads the prompts
};

void DiffusionMethod::take_prompt(const LoadedOneStep& loaded, const fs::path& base) {
    const std::optional<fs::path>& beside = loaded.prompt;
    const ReturnFreedMemory for_weights;  // of a text encoder that goes again
    const DiffusionOptions& d = options_.diffusion;
    const std::int64_t width = model_.unet().config().cross_attention_dim;
    if (d.prompt && !d.prompt_files.empty()) {
        fail(Fault::usage, "--prompt and --prompt-file exclude each other; give one of them");
    }
    const bool is_embedding = d.prompt_files.extension() == ".safetensors";
    if (!is_embedding && (d.prompt || !d.prompt_files.empty() || !beside)) {
        require_weights(base, "sd2-1-base", options_);  // its text encoder reads the prompt
    }
    if (!d.prompt_files.empty() && !is_embedding) {
        prompt_setting_ = fmt::format("files {}", hash_of_prompts(d.prompt_files));
        reader_ = std::make_unique<PromptReader>(base, placement_.device);
        text_encoder_ = reader_->config();
        weights_.insert(weights_.end(), reader_->records().begin(), reader_->records().end());
        return;
    }
    if (is_embedding || (!d.prompt && beside)) {
        const fs::path& file = is_embedding ? d.prompt_files : *beside;
        const PromptEmbedding embedding = read_prompt_embedding(file, width);
        weights_.push_back({.file = file.filename().string(),
                            .sha256 = sha256_of_file(file),
                            .verified = !is_embedding && loaded.prompt_verified});
        fix_prompt(embedding, embedding.text.empty() ? "embedding" : embedding.text);
        return;
    }
    const std::string text = d.prompt.value_or("");
    const PromptReader reader(base, placement_.device);
    text_encoder_ = reader.config();
    weights_.insert(weights_.end(), reader.records().begin(), reader.records().end());
    fix_prompt({.states = reader.states(reader.tokens(text)), .text = text}, text);
}

Image DiffusionMethod::restore(const Image& lr, const RestoreRequest& request) const {
    at::init_num_threads();  // the caller's thread may be new to LibTorch
    const DiffusionOptions& d = options_.diffusion;

    // Refuse what cannot fit before anything is enlarged
    const PixelSize entering = size_in_networks(lr.size(), request);
    check_memory(model_, entering.height, entering.width, tiles_, placement_, d.memory_gib);

    // Enlarge, and pad
    Image reference;
    at::Tensor x_lr;
    {
        const StageTimer timer(request.times, "resize");
        reference = enlarged_for_diffusion(lr, request, recipe_, d.parity);
        x_lr = pad_to_multiple(batch_from_image(reference).nchw, multiple());
    }
    // Read the picture's own prompt
    at::Tensor c;
    if (reader_) {
        std::vector<std::int64_t> tokens;
        {
            const StageTimer timer(request.times, "prompt");
            tokens = reader_->tokens(read_prompt_text(d.prompt_files, request.stem));
        }
        const StageTimer timer(request.times, "text");
        c = reader_->states(std::move(tokens));
    }

    // Run the networks
    Dump dump(request.dump, d.dump_taps);
    OneStepRun run{.tiles = tiles_, .noise = {}, .taps = dump.taps(), .times = request.times};
    const std::int64_t factor = model_.vae().config().factor();
    if (latent_ == LatentChoice::sample) {
        run.noise = noise({1, model_.vae().config().latent_channels, x_lr.size(2) / factor,
                           x_lr.size(3) / factor},
                          request.stem);
    }
    OneStepResult result;
    const at::Tensor x_hr = within_memory(
        [&] {
            const c10::InferenceMode guard;
            result = model_.restore(x_lr.to(placement_.device), c, run);
            return at::clamp(result.x_hr, 0.0, 1.0)
                .narrow(2, 0, reference.height())
                .narrow(3, 0, reference.width())
                .to(at::kCPU)
                .contiguous();
        },
        [&] {
            return too_little_memory(model_, x_lr.size(2), x_lr.size(3), tiles_, placement_,
                                     d.memory_gib);
        });
    dump.add("z", result.z_lr);
    dump.add("pred", result.epsilon);
    dump.add("z_hr", result.z_hr);
    dump.add("sr", x_hr * 2.0 - 1.0);
    dump.write();

    // Back to a picture, with the LR's colours
    const StageTimer timer(request.times, "colour");
    Image sr = image_from_batch(ImageBatch(x_hr));
    if (d.parity) sr = quantise_8bit(sr, rounding_);  // the script writes 8 bits twice
    sr = color_fix(sr, reference, color_fix_);
    if (sr.size() != request.target && !d.parity) {
        return quantise_8bit(clamped(resize(sr, request.target, Kernel::bicubic)), rounding_);
    }
    sr = quantise_8bit(sr, rounding_);
    return sr.size() == request.target ? sr : resize_8bit(sr, request.target, Kernel::bicubic);
}

std::optional<Cost> DiffusionMethod::cost(PixelSize lr, const RestoreRequest& request) const {
    const PixelSize size = size_in_networks(lr, request);
    const VaeConfig& vae = model_.vae().config();
    std::int64_t h = size.height / vae.factor(), w = size.width / vae.factor(), calls = 1;
    if (tiles_.tile > 0 && h * w > tiles_.tile * tiles_.tile) {
        const LatentTilePlan plan = plan_latent_tiles(h, w, tiles_);
        calls = static_cast<std::int64_t>(plan.ys.size() * plan.xs.size());
        h = w = plan.side;
    }

    Cost cost;
    if (text_encoder_) {
        PartCost text = text_encoder_cost(*text_encoder_);
        text.once = !reader_;
        cost.parts.push_back(text);
    }
    cost.parts.push_back(vae_encoder_cost(vae, size.height, size.width));
    PartCost unet = unet_cost(model_.unet().config(), h, w, prompt_tokens);
    for (std::int64_t* macs : {&unet.convolutions, &unet.linear, &unet.context,
                               &unet.self_attention, &unet.cross_attention}) {
        *macs *= calls;
    }
    cost.parts.push_back(unet);
    cost.parts.push_back(vae_decoder_cost(vae, size.height, size.width));
    return cost;
}

Provenance DiffusionMethod::provenance() const {
    Provenance p{.kind = "diffusion",
                 .weights = weights_,
                 .scale_policy = "",
                 .device = device_name(placement_),
                 .dtype = dtype_name(placement_),
                 .rounding = rounding_ == Rounding::truncate ? "truncated" : "half to even",
                 .settings = {}};
    const auto set = [&](const char* key, std::string value) {
        p.settings.emplace_back(key, std::move(value));
    };
    set("parity", options_.diffusion.parity ? "official" : "no");
    set("prompt", prompt_setting_);
    set("latent", latent_ == LatentChoice::mean
                      ? "mean"
                      : fmt::format("sample, seed {}", options_.diffusion.seed));
    set("color-fix", color_fix_ == ColorFix::adain     ? "adain"
                     : color_fix_ == ColorFix::wavelet ? "wavelet"
                                                       : "none");
    set("tile", std::to_string(tiles_.tile));
    if (tiles_.tile > 0) set("tile-overlap", std::to_string(tiles_.overlap));
    if (recipe_.process_size > 0) set("process-size", std::to_string(recipe_.process_size));
    return p;
}

fs::path weights_folder(const MethodOptions& options) {
    return options.weights.empty() ? default_weights_folder() : options.weights;
}

}  // namespace

std::vector<Enlargement> enlargements(PixelSize lr, const RestoreRequest& request,
                                      const DiffusionRecipe& recipe, bool parity) {
    const auto process = static_cast<double>(recipe.process_size);
    if (parity) {
        // Every rounding as the script's
        std::vector<Enlargement> steps;
        PixelSize size = lr;
        const auto step = [&](PixelSize to, Kernel kernel) {
            steps.push_back({size = to, kernel});
        };
        const double scale = request.scale.ratio, least = std::floor(process / scale);
        const int shorter = std::min(lr.width, lr.height);
        if (shorter < least) {
            const double by = least / shorter;
            step({cut_off(by * lr.width), cut_off(by * lr.height)}, Kernel::bicubic);
        }
        step({cut_off(scale * size.width), cut_off(scale * size.height)}, Kernel::bicubic);
        const auto down = [](int side) { return std::max(8, side - side % 8); };
        step({down(size.width), down(size.height)}, Kernel::lanczos3);
        return steps;
    }
    PixelSize size = request.target;
    const int shorter = std::min(size.width, size.height);
    if (shorter < process) {
        const double by = process / shorter;
        size = {static_cast<int>(std::lround(by * size.width)),
                static_cast<int>(std::lround(by * size.height))};
    }
    return {{size, Kernel::bicubic}};
}

Image enlarged_for_diffusion(const Image& lr, const RestoreRequest& request,
                             const DiffusionRecipe& recipe, bool parity) {
    Image picture = lr;
    for (const Enlargement& step : enlargements(lr.size(), request, recipe, parity)) {
        picture = resize_8bit(picture, step.size, step.kernel);
    }
    return picture;
}

fs::path diffusion_base(const MethodOptions& options) {
    const fs::path& base = options.diffusion.base;
    return base.empty() ? weights_folder(options) / "sd2-1-base" : base;
}

std::optional<fs::path> named_model(const MethodOptions& options, const std::string& method) {
    const auto& models = options.diffusion.models;
    for (const std::string& name : {options.label, method, std::string()}) {
        if (const auto found = models.find(name); found != models.end()) return found->second;
    }
    return std::nullopt;
}

fs::path diffusion_model(const MethodOptions& options, const std::string& method) {
    return named_model(options, method).value_or(weights_folder(options) / method);
}

void require_weights(const fs::path& path, const std::string& file, const MethodOptions& options) {
    std::error_code ignored;
    require(fs::exists(path, ignored), "{} is missing: {}", path.string(),
            how_to_get_weights(file, options.weights));
}

MethodPtr make_diffusion_method(LoadedOneStep loaded, const DiffusionRecipe& recipe,
                                const MethodOptions& options, const fs::path& base) {
    return std::make_unique<DiffusionMethod>(std::move(loaded), recipe, options, base);
}

}  // namespace ultrasr
