#include "models/random_family.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <numeric>
#include <system_error>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/base/philox.h"
#include "data/file.h"
#include "data/tensor/state_dict.h"
#include "data/weights/convert.h"
#include "data/weights/diffusers_files.h"
#include "models/text/text_encoder.h"
#include "models/unet.h"
#include "models/vae.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

// ---- Stable Diffusion 2.1-base ----

constexpr std::string_view base_config = R"({
  "unet": {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": false,
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                         "DownBlock2D"],
    "downsample_padding": 1,
    "dual_cross_attention": false,
    "flip_sin_to_cos": true,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "only_cross_attention": false,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
                       "CrossAttnUpBlock2D"],
    "upcast_attention": false,
    "use_linear_projection": true
  },
  "vae": {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D",
                         "DownEncoderBlock2D"],
    "force_upcast": true,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "mid_block_add_attention": true,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "scaling_factor": 0.18215,
    "shift_factor": null,
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D",
                       "UpDecoderBlock2D"],
    "use_post_quant_conv": true,
    "use_quant_conv": true
  },
  "text_encoder": {
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "projection_dim": 512,
    "vocab_size": 49408
  }
})";

constexpr std::string_view scheduler_config = R"({
  "_class_name": "PNDMScheduler",
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "beta_start": 0.00085,
  "clip_sample": false,
  "num_train_timesteps": 1000,
  "prediction_type": "epsilon",
  "set_alpha_to_one": false,
  "skip_prk_steps": true,
  "steps_offset": 1,
  "trained_betas": null
})";

constexpr std::string_view model_index = R"({
  "_class_name": "StableDiffusionPipeline",
  "feature_extractor": [null, null],
  "requires_safety_checker": false,
  "safety_checker": [null, null],
  "scheduler": ["diffusers", "PNDMScheduler"],
  "text_encoder": ["transformers", "CLIPTextModel"],
  "tokenizer": ["transformers", "CLIPTokenizer"],
  "unet": ["diffusers", "UNet2DConditionModel"],
  "vae": ["diffusers", "AutoencoderKL"]
})";

constexpr std::string_view dtype_word(Dtype dtype) {
    return dtype == Dtype::f32 ? "float32" : dtype == Dtype::f16 ? "float16" : "bfloat16";
}

// ---- the tokenizer ----

constexpr std::string_view bos = "<|startoftext|>", eos = "<|endoftext|>", pad = "!";

std::string utf8(int code_point) {
    if (code_point < 0x80) return {static_cast<char>(code_point)};
    return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 63))};
}

/// All bytes as printable symbols, in the middle of a word and at its end, in CLIP's order: "!" is
/// 0. The special tokens are the last two.
Json byte_vocabulary(std::int64_t size) {
    std::vector<std::string> symbols;
    for (const auto& [first, last] :
         {std::pair(0x21, 0x7E), std::pair(0xA1, 0xAC), std::pair(0xAE, 0xFF)}) {
        for (int c = first; c <= last; ++c) symbols.push_back(utf8(c));
    }
    for (int c = 0x100; symbols.size() < 256; ++c) symbols.push_back(utf8(c));
    Json vocabulary = Json::object();
    int id = 0;
    for (const char* end : {"", "</w>"}) {
        for (const std::string& symbol : symbols) vocabulary[symbol + end] = id++;
    }
    require(size >= id + 2, "text_encoder.vocab_size is {}; {} are needed for bytes and both ends",
            size, id + 2);
    vocabulary[std::string(bos)] = size - 2;
    vocabulary[std::string(eos)] = size - 1;
    return vocabulary;
}

/// The small files of tokenizer/, by name.
std::vector<std::pair<std::string, std::string>> tokenizer_files(const Json& text_encoder) {
    const Json special{
        {"bos_token", bos}, {"eos_token", eos}, {"pad_token", pad}, {"unk_token", eos}};
    Json config = special;
    config["add_prefix_space"] = false;
    config["do_lower_case"] = true;
    config["errors"] = "replace";
    config["model_max_length"] = text_encoder.at("max_position_embeddings");
    config["tokenizer_class"] = "CLIPTokenizer";
    return {{"vocab.json", dump_json(byte_vocabulary(text_encoder.at("vocab_size")))},
            {"merges.txt", "#version: 0.2\n"},
            {"special_tokens_map.json", dump_json(special)},
            {"tokenizer_config.json", dump_json(config)}};
}

// ---- values ----

constexpr int lanes = 8;                                   // Philox counters side by side
constexpr std::uint64_t block = std::uint64_t{2} * lanes;  // values of one round of them

std::uint64_t fnv1a(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return hash;
}

struct Spread {
    float mean = 0, deviation = 1;
};

Spread spread_of(std::string_view name, std::span<const std::int64_t> shape) {
    if (shape.size() <= 1) {
        return name.ends_with("bias") ? Spread{0.0f, 0.1f} : Spread{1.0f, 0.1f};
    }
    double fan_in = 1;
    for (const std::int64_t n : shape.subspan(1)) fan_in *= static_cast<double>(n);
    return {0.0f, static_cast<float>(1 / std::sqrt(fan_in))};
}

/// Sixteen values of about unit variance, from eight Philox counters.
void fill_block(std::uint64_t seed, std::uint64_t tensor, std::uint64_t index, const Spread& spread,
                float* out) {
    PhiloxWords<lanes> words;
    for (int i = 0; i < lanes; ++i) {
        const std::uint64_t counter = index * lanes + static_cast<std::uint64_t>(i);
        words.word[0][i] = static_cast<std::uint32_t>(counter);
        words.word[1][i] = static_cast<std::uint32_t>(counter >> 32);
        words.word[2][i] = static_cast<std::uint32_t>(tensor);
        words.word[3][i] = static_cast<std::uint32_t>(tensor >> 32);
    }
    philox_(words, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
    constexpr float mean = 2 * 65535.0f;      // of the sum of four
    constexpr float deviation = 37837.2266f;  // sqrt(4 (2^32 - 1) / 12)
    for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < lanes; ++i) {
            const std::uint32_t a = words.word[2 * half][i], b = words.word[2 * half + 1][i];
            const auto sum =
                static_cast<std::int32_t>((a & 0xffff) + (a >> 16) + (b & 0xffff) + (b >> 16));
            const float z = (static_cast<float>(sum) - mean) / deviation;
            out[half * lanes + i] = spread.mean + spread.deviation * z;
        }
    }
}

}  // namespace

void random_values(std::uint64_t seed, std::string_view name, std::span<const std::int64_t> shape,
                   std::uint64_t first, std::span<float> values) {
    const std::uint64_t tensor = fnv1a(name);
    const Spread spread = spread_of(name, shape);
    const std::uint64_t end = first + values.size();
    std::array<float, block> some;
    for (std::uint64_t b = first / block; b * block < end; ++b) {
        const std::uint64_t begin = b * block;
        if (begin >= first && begin + block <= end) {
            fill_block(seed, tensor, b, spread, values.data() + (begin - first));
            continue;
        }
        fill_block(seed, tensor, b, spread, some.data());
        for (std::uint64_t i = std::max(begin, first); i < std::min(begin + block, end); ++i) {
            values[i - first] = some[i - begin];
        }
    }
}

std::int64_t RandomNetwork::parameters() const {
    std::int64_t sum = 0;
    for (const TensorHead& t : tensors) {
        sum +=
            std::accumulate(t.shape.begin(), t.shape.end(), std::int64_t{1}, std::multiplies<>());
    }
    return sum;
}

Json family_config(const Json& config) {
    // What differs
    Json family = parse_json(base_config, "Stable Diffusion 2.1-base");
    require(config.is_object(),
            "the configuration of a family is an object with unet, vae and "
            "text_encoder");
    for (const auto& [component, changes] : config.items()) {
        require(family.contains(component),
                "the configuration has {}; known are unet, vae and text_encoder", component);
        require(changes.is_object(), "the configuration's {} is not an object", component);
        for (const auto& [key, value] : changes.items()) {
            if (!family[component].contains(key)) {
                warn(
                    "{} has no key {} in Stable Diffusion 2.1-base; it is written as it is, check "
                    "its spelling",
                    component, key);
            }
            family[component][key] = value;
        }
    }

    // What follows from it
    Json& text = family["text_encoder"];
    const auto number = [&](const char* component, const char* key) {
        const Json& value = family[component][key];
        require(value.is_number_integer() && value.get<std::int64_t>() > 0,
                "{}.{} is {}, not a whole number above 0", component, key, dump_json_line(value));
        return value.get<std::int64_t>();
    };
    const std::int64_t vocabulary = number("text_encoder", "vocab_size");
    number("text_encoder", "max_position_embeddings");
    text["bos_token_id"] = vocabulary - 2;
    text["eos_token_id"] = vocabulary - 1;
    text["pad_token_id"] = 0;
    require(family["unet"]["cross_attention_dim"] == text["hidden_size"],
            "unet.cross_attention_dim is {} and text_encoder.hidden_size {}; they must be equal",
            dump_json_line(family["unet"]["cross_attention_dim"]),
            dump_json_line(text["hidden_size"]));
    require(family["unet"]["in_channels"] == family["vae"]["latent_channels"],
            "unet.in_channels is {} and vae.latent_channels {}; they must be equal",
            dump_json_line(family["unet"]["in_channels"]),
            dump_json_line(family["vae"]["latent_channels"]));
    return family;
}

std::vector<RandomNetwork> family_networks(const Json& config) {
    const Placement nowhere{.device = c10::kMeta};
    std::vector<RandomNetwork> networks;
    const auto add = [&](const std::string& component, auto build) {
        RandomNetwork network{.component = component, .tensors = {}};
        StateDict names([&](const std::string& name, at::IntArrayRef shape) {
            network.tensors.push_back({name, Dtype::f32, shape.vec()});
            return at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(at::kMeta));
        });
        build(names, config.at(component), component + " of the configuration");
        networks.push_back(std::move(network));
    };
    add("unet", [&](StateDict& names, const Json& c, const std::string& what) {
        UNet(names, UNetConfig::from_json(c, what), nowhere);
    });
    add("vae", [&](StateDict& names, const Json& c, const std::string& what) {
        Vae(names, VaeConfig::from_json(c, what), nowhere);
    });
    add("text_encoder", [&](StateDict& names, const Json& c, const std::string& what) {
        TextEncoder(names, TextEncoderConfig::from_json(c, what), nowhere);
    });
    for (TensorHead& t : networks.back().tensors) {
        if (!t.name.starts_with("text_model.")) t.name = "text_model." + t.name;
    }
    return networks;
}

namespace {

/// Streams the weights of one network into its file.
void write_weights(const RandomNetwork& network, const RandomFamilyOptions& options,
                   const fs::path& path, Progress& progress) {
    std::vector<TensorHead> heads = network.tensors;
    for (TensorHead& t : heads) t.dtype = options.dtype;
    std::vector<float> values(std::size_t{1} << 22);
    std::size_t written = 0;
    const auto produce = [&](std::size_t i, const TakeBytes& take) {
        progress.step(network.component, written++, heads.size());
        const std::string name = network.component + "." + heads[i].name;
        const std::vector<std::int64_t>& shape = heads[i].shape;
        const auto count = static_cast<std::uint64_t>(
            std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()));
        for (std::uint64_t at = 0; at < count; at += values.size()) {
            const std::span piece(values.data(),
                                  std::min<std::uint64_t>(values.size(), count - at));
            at::parallel_for(0, static_cast<std::int64_t>(piece.size()), 1 << 16,
                             [&](std::int64_t begin, std::int64_t end) {
                                 const auto b = static_cast<std::size_t>(begin);
                                 random_values(options.seed, name, shape, at + b,
                                               piece.subspan(b, static_cast<std::size_t>(end) - b));
                             });
            const TensorView view{
                .name = "", .dtype = Dtype::f32, .shape = {}, .bytes = std::as_bytes(piece)};
            Converted ignored;
            if (options.dtype == Dtype::f32) {
                take(view.bytes);
            } else {
                take(cast_tensor(view, options.dtype, ignored));
            }
        }
    };
    stream_safetensors(path, heads, produce, {{"format", "pt"}});
    progress.step(network.component, heads.size(), heads.size());
}

/// Whether the folder is ours to write into; removes what a restart throws away.
void open_out(const RandomFamilyOptions& options, const Json& settings) {
    std::error_code ignored;
    const fs::path record = options.out / "init.json";
    if (!fs::exists(record, ignored)) {
        if (fs::exists(options.out, ignored) && !fs::is_empty(options.out, ignored)) {
            fail(Fault::usage,
                 "{} holds something that 'sdd-train init' did not write; name a new "
                 "folder",
                 options.out.string());
        }
    } else if (const Json before = parse_json(read_file(record), record.string());
               before != settings) {
        if (!options.restart) {
            fail(Fault::usage,
                 "{} holds a family of other settings ({}); name another folder, or "
                 "--restart to replace it",
                 options.out.string(), record.filename().string());
        }
        fs::remove(options.out / "model_index.json", ignored);
        for (const char* part : {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}) {
            fs::remove_all(options.out / part, ignored);
        }
    }
    write_file(record, dump_json(settings));
}

}  // namespace

std::vector<RandomNetwork> write_random_family(const RandomFamilyOptions& options,
                                               Progress& progress) {
    // All of the settings first, so that nothing is written for bad ones
    Json config = family_config(options.config);
    config["text_encoder"]["torch_dtype"] = dtype_word(options.dtype);
    std::vector<RandomNetwork> networks = family_networks(config);
    const auto tokenizer = tokenizer_files(config["text_encoder"]);
    open_out(options, {{"format", "ultrasr-random-family"},
                       {"version", 1},
                       {"seed", options.seed},
                       {"dtype", dtype_name(options.dtype)},
                       {"config", config}});

    // Weights, then the small files; the index says that all is there
    std::error_code ignored;
    for (const RandomNetwork& network : networks) {
        const fs::path folder = options.out / network.component;
        const fs::path file =
            folder / fmt::format("{}.safetensors", component_stem(network.component));
        remove_stale_temporaries(folder);
        if (!fs::exists(file, ignored)) write_weights(network, options, file, progress);
        write_file(folder / "config.json", dump_json(config[network.component]));
    }
    for (const auto& [name, text] : tokenizer) write_file(options.out / "tokenizer" / name, text);
    write_file(options.out / "scheduler" / "scheduler_config.json",
               dump_json(parse_json(scheduler_config, "the scheduler")));
    write_file(options.out / "model_index.json", dump_json(parse_json(model_index, "the index")));
    return networks;
}

}  // namespace ultrasr
