#include "models/training/stage_parts.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log10.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/base/cli.h"
#include "data/base/error.h"
#include "data/file.h"
#include "data/tensor.h"
#include "models/normal_noise.h"
#include "models/osediff_file.h"
#include "models/osediff_loss.h"
#include "models/text/prompt.h"
#include "models/text/prompt_reader.h"
#include "models/training/gradient_checkpoint.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

bool is_file(const fs::path& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored);
}

Json read_json(const fs::path& path) {
    require(is_file(path), "{} is missing; the stage before this one writes it", path.string());
    return parse_json(read_file(path), path.string());
}

/// What a one-step folder's config.json has under a name.
Json part_of(const Json& config, const char* name, const fs::path& path) {
    require(config.is_object() && config.contains(name) && config.at(name).is_object(),
            "{} has no object \"{}\"; is it of a folder that sdd-train wrote?", path.string(),
            name);
    return config.at(name);
}

}  // namespace

// ---- files ----

NoiseSchedule ModelParts::schedule() const {
    return NoiseSchedule(NoiseScheduleConfig::from_json(scheduler, scheduler_file));
}

ModelParts read_family(const fs::path& base) {
    const FamilyFolder family = open_family(base);
    const fs::path scheduler = family.scheduler / "scheduler_config.json";
    return {.unet = read_model_folder(family.unet, "diffusion_pytorch_model"),
            .vae = read_model_folder(family.vae, "diffusion_pytorch_model"),
            .scheduler = read_json(scheduler),
            .scheduler_file = scheduler.string(),
            .timestep = 999,
            .prompt = std::nullopt};
}

ModelParts read_one_step(const fs::path& path, const fs::path& base) {
    const fs::path config_path = path / "config.json";
    std::error_code ignored;
    if (!is_file(config_path) && fs::is_directory(path / "unet", ignored)) return read_family(path);
    if (!is_file(config_path)) {
        // OSEDiff's file over the base
        const OsediffFile osediff = read_osediff(path);
        ModelParts parts = read_family(base);
        const auto over = [&](ModelFiles& files, const NetAdapters& adapters) {
            if (osediff.merged) files.tensors.clear();
            files.tensors = merge_adapters(std::move(files.tensors), adapters, osediff.what);
            files.what = osediff.what;
        };
        over(parts.unet, osediff.unet);
        over(parts.vae, osediff.vae);
        const fs::path prompt = path.parent_path() / "prompt.safetensors";
        if (is_file(prompt)) parts.prompt = prompt;
        return parts;
    }
    const Json config = read_json(config_path);
    const auto net = [&](const char* name) {
        const fs::path file = path / fmt::format("{}.safetensors", name);
        require(is_file(file), "{} is missing; copy the whole folder that sdd-train wrote",
                file.string());
        return ModelFiles{.config = part_of(config, name, config_path),
                          .tensors = load_tensors(file),
                          .records = {},
                          .what = file.string()};
    };
    ModelParts parts{.unet = net("unet"),
                     .vae = net("vae"),
                     .scheduler = part_of(config, "scheduler", config_path),
                     .scheduler_file = config_path.string(),
                     .timestep = config.value("timestep", std::int64_t{999}),
                     .prompt = std::nullopt};
    if (is_file(path / "prompt.safetensors")) parts.prompt = path / "prompt.safetensors";
    return parts;
}

void write_one_step(const fs::path& folder, const ModelParts& model, const NamedTensors& unet,
                    const NamedTensors& vae, const at::Tensor& prompt,
                    const std::string& prompt_text, const Json& settings) {
    std::error_code ignored;
    fs::remove(folder / "config.json", ignored);  // not whole while it is missing
    save_tensors(folder / "unet.safetensors", unet);
    save_tensors(folder / "vae.safetensors", vae);
    write_prompt_embedding(folder / "prompt.safetensors", {.states = prompt, .text = prompt_text});
    write_file(folder / "sdd.json", dump_json(settings));
    write_file(folder / "config.json", dump_json({{"unet", model.unet.config},
                                                  {"vae", model.vae.config},
                                                  {"scheduler", model.scheduler},
                                                  {"timestep", model.timestep}}));
}

ModelFiles read_encoder(const fs::path& folder) {
    const fs::path config_path = folder / "config.json", file = folder / "vae.safetensors";
    const Json config = read_json(config_path);
    require(is_file(file), "{} is missing; run stage dml first, or give encoder a folder of it",
            file.string());
    return {.config = part_of(config, "vae", config_path),
            .tensors = load_tensors(file),
            .records = {},
            .what = file.string()};
}

void write_encoder(const fs::path& folder, const ModelFiles& like, const NamedTensors& vae,
                   const Json& settings) {
    std::error_code ignored;
    fs::remove(folder / "config.json", ignored);
    save_tensors(folder / "vae.safetensors", vae);
    write_file(folder / "sdd.json", dump_json(settings));
    write_file(folder / "config.json", dump_json({{"vae", like.config}}));
}

Json run_record(const TrainSettings& settings, std::string_view stage) {
    Json record = settings.json();
    // Names, not places
    const auto name_only = [](Json& value) {
        if (value.is_string()) {
            const fs::path path(value.get<std::string>());
            value = (path.has_filename() ? path : path.parent_path()).filename().string();
        }
    };
    for (const char* key : {"base", "teacher", "encoder", "out", "validation"}) {
        name_only(record[key]);
    }
    name_only(record["prompt"]["file"]);
    name_only(record["prompt"]["folder"]);
    for (Json& path : record["data"]) name_only(path);
    const ToolVersion tool = tool_version();
    return {{"format", "ultrasr-sdd"}, {"version", 1},
            {"stage", stage},          {"steps", settings.of_stage(stage).steps},
            {"tool", tool.version},    {"commit", tool.commit},
            {"settings", record}};
}

// ---- prompts ----

struct Prompts::State {
    fs::path base, folder;
    std::int64_t width = 0;
    c10::Device device{c10::kCPU};
    std::unique_ptr<PromptReader> reader;  // opened when first needed
    std::map<std::string, at::Tensor> texts, pictures;
    at::Tensor constant;
    std::string constant_text;

    at::Tensor read(const std::string& text) {
        if (const auto known = texts.find(text); known != texts.end()) return known->second;
        if (!reader) reader = std::make_unique<PromptReader>(base, c10::Device(c10::kCPU));
        require(reader->config().hidden_size == width,
                "the text encoder of {} gives {} numbers a token, the UNet attends to {}",
                base.string(), reader->config().hidden_size, width);
        // A tensor of inference mode cannot be saved for gradients
        const at::Tensor states = reader->states(reader->tokens(text)).clone().to(device);
        return texts.emplace(text, states).first->second;
    }
};

Prompts::Prompts(const TrainSettings& settings, const fs::path& base,
                 const std::optional<fs::path>& beside, std::int64_t width,
                 const c10::Device& device)
    : state_(std::make_unique<State>()) {
    State& s = *state_;
    s.base = base;
    s.folder = settings.prompt_folder;
    s.width = width;
    s.device = device;
    fs::path file = settings.prompt_file;
    if (file.empty() && settings.prompt.empty() && s.folder.empty() && beside) file = *beside;
    if (!file.empty()) {
        const PromptEmbedding embedding = read_prompt_embedding(file, width);
        s.constant = embedding.states.clone().to(device);
        s.constant_text = embedding.text;
    } else if (s.folder.empty()) {
        s.constant = s.read(settings.prompt);
        s.constant_text = settings.prompt;
    }
}

Prompts::~Prompts() = default;

at::Tensor Prompts::of(const std::vector<std::string>& names) {
    State& s = *state_;
    if (s.constant.defined()) {
        return s.constant.expand({static_cast<std::int64_t>(names.size()), -1, -1});
    }
    std::vector<at::Tensor> all;
    for (const std::string& name : names) {
        const std::string stem = fs::path(name).stem().string();
        auto found = s.pictures.find(stem);
        if (found == s.pictures.end()) {
            found = s.pictures.emplace(stem, s.read(read_prompt_text(s.folder, stem))).first;
        }
        all.push_back(found->second);
    }
    return at::cat(all, 0);
}

at::Tensor Prompts::of_text(const std::string& text) { return state_->read(text); }

at::Tensor Prompts::constant() {
    return state_->constant.defined() ? state_->constant : state_->read("");
}

std::string Prompts::constant_text() const { return state_->constant_text; }

// ---- noise ----

at::Tensor batch_noise(const MicroBatch& batch, std::uint64_t seed, Draw draw, std::uint64_t twin,
                       at::IntArrayRef shape_of_one) {
    std::vector<at::Tensor> all;
    for (std::int64_t i = 0; i < batch.hr.size(0); ++i) {
        Rng rng = stream_of(seed + (twin << 32), draw, batch.first + static_cast<std::uint64_t>(i));
        all.push_back(normal_noise(shape_of_one, rng));
    }
    return at::stack(all).to(batch.hr.device());
}

at::Tensor batch_timesteps(const MicroBatch& batch, std::uint64_t seed, Draw draw,
                           std::int64_t least, std::int64_t most) {
    const std::int64_t n = batch.hr.size(0);
    at::Tensor t = at::empty({n}, at::kLong);
    for (std::int64_t i = 0; i < n; ++i) {
        Rng rng = stream_of(seed, draw, batch.first + static_cast<std::uint64_t>(i));
        t.mutable_data_ptr<std::int64_t>()[i] =
            least + rng.below(static_cast<std::uint32_t>(most - least + 1));
    }
    return t;
}

at::Tensor alpha_bars(const NoiseSchedule& schedule, const at::Tensor& t,
                      const c10::Device& device) {
    at::Tensor values = at::empty(t.sizes(), at::kFloat);
    for (std::int64_t i = 0; i < t.numel(); ++i) {
        values.mutable_data_ptr<float>()[i] = schedule.alphas_cumprod().at(
            static_cast<std::size_t>(t.const_data_ptr<std::int64_t>()[i]));
    }
    return values.to(device);
}

// ---- losses ----

double mean_psnr(const at::Tensor& a, const at::Tensor& b) {
    const c10::NoGradGuard no_gradient;
    const at::Tensor d = at::clamp(a, 0.0, 1.0) - at::clamp(b, 0.0, 1.0);
    const at::Tensor mse = at::mean(d.square().to(at::kDouble), {1, 2, 3}).clamp_min(1e-10);
    return (-10.0 * at::log10(mse)).mean().item<double>();
}

LpipsLoss::LpipsLoss(const Placement& placement) {
    const auto load = [](const char* file) {
        return StateDict(load_known_weights(file, {}).tensors, std::string("LPIPS (") + file + ")");
    };
    StateDict heads = load("LPIPS_v0.1_vgg-a78928a0.pth");
    heads_.emplace(heads, Vgg16::channels, placement);
    heads.finish();
    StateDict net = load("vgg16-397923af.pth");
    net_.emplace(net, placement);
    net.ignore("classifier.");
    net.finish();
}

at::Tensor LpipsLoss::operator()(const at::Tensor& a, const at::Tensor& b) const {
    return lpips(*net_, *heads_, ImageBatch(a), ImageBatch(b)).mean();
}

Vsd::Vsd(const ModelFiles& base_unet, const NoiseSchedule& schedule, const TrainSettings& settings,
         const Placement& placement)
    : schedule_(schedule), seed_(settings.seed), guidance_(settings.teacher_stage.guidance) {
    const auto& t = settings.teacher_stage;
    Learning learning = unet_learning(base_unet, t.rank_unet, t.alpha, settings.seed + 1);
    learning.whole = nullptr;  // the second UNet is adapters alone
    regulariser_.emplace(base_unet, learning, placement);
    real_.emplace(frozen_net<UNet>(base_unet, placement));
    run_blocks_by(block_runner(settings));
}

Vsd::Losses Vsd::operator()(const MicroBatch& batch, const at::Tensor& z_hr, const at::Tensor& c,
                            const at::Tensor& negative) const {
    const at::IntArrayRef one = z_hr.sizes().slice(1);
    Losses losses;
    {
        const at::Tensor t = batch_timesteps(batch, seed_, Draw::timestep, 20, 979);
        const at::Tensor alpha = alpha_bars(schedule_, t, z_hr.device());
        at::Tensor fake, real;
        {
            const c10::NoGradGuard no_gradient;
            const at::Tensor z_t =
                add_noise(z_hr, batch_noise(batch, seed_, Draw::noise, 0, one), alpha);
            fake = clean_from(z_t, regulariser_->net().forward(z_t, t, c), alpha);
            const at::Tensor uncond = negative.expand({z_t.size(0), -1, -1});
            const at::Tensor eps =
                guided(real_->forward(z_t, t, uncond), real_->forward(z_t, t, c), guidance_);
            real = clean_from(z_t, eps, alpha);
        }
        losses.generator = vsd_loss(z_hr, fake, real);
    }
    const at::Tensor t = batch_timesteps(batch, seed_, Draw::second_timestep, 0, 999);
    const at::Tensor noise = batch_noise(batch, seed_, Draw::second_noise, 0, one);
    const at::Tensor z_t = add_noise(z_hr.detach(), noise, alpha_bars(schedule_, t, z_hr.device()));
    losses.regulariser = at::mse_loss(regulariser_->net().forward(z_t, t, c), noise);
    return losses;
}

// ---- what learns ----

namespace {

std::vector<std::string> modules_of(const Shapes& shapes,
                                    std::initializer_list<OsediffPart> parts) {
    std::vector<std::string> all;
    for (const OsediffPart part : parts) {
        for (std::string& module : osediff_modules(part, shapes)) all.push_back(std::move(module));
    }
    return all;
}

}  // namespace

Learning unet_learning(const ModelFiles& unet, std::int64_t rank, double alpha,
                       std::uint64_t seed) {
    const Shapes shapes = UNet::tensor_shapes(UNetConfig::from_json(unet.config, unet.what));
    return {.whole = [](const std::string& name) { return name.starts_with("conv_in."); },
            .modules = modules_of(shapes, {OsediffPart::unet_encoder, OsediffPart::unet_decoder,
                                           OsediffPart::unet_others}),
            .rank = rank,
            .alpha = alpha,
            .seed = seed};
}

Learning encoder_learning(const ModelFiles& vae, std::int64_t rank, double alpha,
                          std::uint64_t seed) {
    const Shapes shapes = Vae::tensor_shapes(VaeConfig::from_json(vae.config, vae.what));
    return {.whole = nullptr,
            .modules = modules_of(shapes, {OsediffPart::vae_encoder}),
            .rank = rank,
            .alpha = alpha,
            .seed = seed};
}

NamedTensors with_prefix(const NamedTensors& tensors, const std::string& prefix) {
    NamedTensors result;
    for (const auto& [name, tensor] : tensors) result.emplace(prefix + name, tensor);
    return result;
}

NamedTensors without_prefix(const NamedTensors& tensors, const std::string& prefix) {
    NamedTensors result;
    for (const auto& [name, tensor] : tensors) {
        if (name.starts_with(prefix)) result.emplace(name.substr(prefix.size()), tensor);
    }
    return result;
}

BlockRunner block_runner(const TrainSettings& settings) {
    if (!settings.gradient_checkpointing) return {};
    return [](const Block& block, std::vector<at::Tensor> inputs) {
        return checkpointed(block, std::move(inputs));
    };
}

}  // namespace ultrasr
