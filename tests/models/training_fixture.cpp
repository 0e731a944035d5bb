#include "tests/models/training_fixture.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <opencv2/core.hpp>

#include "data/base/random.h"
#include "data/file.h"
#include "data/image_io.h"
#include "models/random_family.h"
#include "models/text/prompt.h"
#include "models/training/stage_parts.h"
#include "tests/models/nets.h"
#include "tests/test.h"

namespace ultrasr::test {
namespace fs = std::filesystem;
namespace {

const Json tiny = Json::parse(R"({
  "unet": {"block_out_channels": [8, 16], "attention_head_dim": [2, 2], "norm_num_groups": 4,
           "cross_attention_dim": 8, "layers_per_block": 1,
           "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
           "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]},
  "vae": {"block_out_channels": [8, 8, 8], "norm_num_groups": 4, "layers_per_block": 1,
          "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
          "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]},
  "text_encoder": {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
                   "num_attention_heads": 1, "vocab_size": 600}})");

/// Waves of many lengths under noise, all bytes in use.
cv::Mat photograph(int width, int height, int k) {
    cv::Mat rgb(height, width, CV_8UC3);
    Rng rng(static_cast<std::uint64_t>(k), 7);
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            for (int c = 0; c < 3; ++c) {
                const double wave = std::sin(0.11 * (k + 2) * x + c) +
                                    std::cos(0.07 * (k + 3) * y - 0.05 * x * (c + 1)) +
                                    0.5 * std::sin(0.9 * x + 0.7 * y * (k % 3));
                const double value = 120.0 + 45.0 * wave + rng.below(20);
                rgb.ptr(y)[3 * x + c] =
                    static_cast<unsigned char>(std::min(255.0, std::max(0.0, value)));
            }
        }
    }
    return rgb;
}

TrainingGround make_ground(const fs::path& root) {
    TrainingGround g{.family = root / "family",
                     .other_family = root / "other_family",
                     .pictures = root / "pictures",
                     .other_pictures = root / "other_pictures",
                     .some_small = root / "some_small",
                     .prompt_file = root / "prompt.safetensors",
                     .prompts = root / "prompts",
                     .teacher = root / "teacher",
                     .encoder = root / "encoder",
                     .other_encoder = root / "other_encoder"};
    Progress silent;
    write_random_family({.config = tiny, .out = g.family, .seed = 1}, silent);
    write_random_family({.config = tiny, .out = g.other_family, .seed = 2}, silent);
    for (int k = 0; k < 6; ++k) {
        const std::string stem(1, static_cast<char>('a' + k));
        write_file(g.pictures / (stem + ".png"), encode_png(photograph(48, 40, k)));
        write_file(g.other_pictures / (stem + ".png"), encode_png(photograph(48, 40, 10 + k)));
        const int side = k % 2 == 0 ? 40 : 24;
        if (k < 4)
            write_file(g.some_small / (stem + ".png"), encode_png(photograph(side, side, k)));
        write_file(g.prompts / (stem + ".txt"), fmt::format("picture {}\n", stem));
    }
    write_prompt_embedding(g.prompt_file,
                           {.states = uniform({1, 77, 8}, -1.5, 1.5, 77), .text = "by formula"});
    return g;
}

Json run_on(const TrainingGround& g, std::string_view stage) {
    Json run = Json::parse(R"({
      "batch": 4, "patch": 32, "steps": 3, "learning_rate": 1e-3, "samples": 0,
      "validation_count": 1, "validate_every": 0, "data_threads": 1,
      "scales": {"teacher": 2, "student": [3, 4, 6]},
      "vae_stage": {"lambda_lpips": 0}, "teacher_stage": {"lambda_lpips": 0, "lambda_vsd": 0}})");
    run["stage"] = stage;
    run["base"] = g.family.string();
    run["data"] = g.pictures.string();
    if (stage == "dml" || stage == "rsd") run["teacher"] = g.teacher.string();
    if (stage == "rsd") run["encoder"] = g.encoder.string();
    return run;
}

/// By short runs with a high rate, so that they differ from the family.
void make_models(const TrainingGround& g) {
    const auto run = [&](std::string_view stage, std::uint64_t seed, const char* part,
                         const fs::path& to) {
        const TemporaryFolder folder;
        Json settings = run_on(g, stage);
        settings["learning_rate"] = 1e-2;
        settings["seed"] = seed;
        outcome_of(settings, folder.path() / "run");
        fs::copy(folder.path() / "run" / part, to, fs::copy_options::recursive);
    };
    run("teacher", 0, "teacher", g.teacher);
    run("dml", 0, "encoder", g.encoder);
    run("dml", 9, "encoder", g.other_encoder);
}

}  // namespace

const TrainingGround& training_ground() {
    static const TemporaryFolder folder;
    static const TrainingGround ground = [] {
        const c10::AutoGradMode learns(true);  // whatever the first test to ask is about
        const TrainingGround g = make_ground(folder.path());
        make_models(g);
        return g;
    }();
    return ground;
}

Json tiny_run(std::string_view stage) { return run_on(training_ground(), stage); }

Json with_settings(Json settings, const Json& changes) {
    for (const auto& [name, value] : changes.items()) {
        set_in(settings, name + "=" + value.dump());
    }
    return settings;
}

Outcome outcome_of(const Json& settings) {
    const TemporaryFolder folder;
    return outcome_of(settings, folder.path() / "run");
}

Outcome outcome_of(const Json& settings, const fs::path& out) {
    Json here = settings;
    here["out"] = out.string();
    Progress silent;
    Outcome outcome;
    outcome.reports = train(train_settings(here, "the test"), {}, false, silent);
    std::error_code ignored;
    if (fs::exists(out / "log.jsonl", ignored)) outcome.log = read_log(out / "log.jsonl");
    if (!outcome.reports.empty()) {
        const fs::path result = outcome.reports.back().result;
        outcome.tensors = networks_in(result);
        const bool own = fs::exists(result / "sdd.json", ignored);
        const fs::path record = own ? result / "sdd.json" : out / "run.json";
        const Json json = parse_json(read_file(record), record.string());
        outcome.record = own ? json.at("settings") : json;
    }
    return outcome;
}

NamedTensors networks_in(const fs::path& folder) {
    NamedTensors all;
    for (const char* net : {"unet", "vae"}) {
        std::error_code ignored;
        for (const fs::path& file : {folder / fmt::format("{}.safetensors", net),
                                     folder / net / "diffusion_pytorch_model.safetensors"}) {
            if (!fs::exists(file, ignored)) continue;
            for (const auto& [name, tensor] : load_tensors(file)) {
                all.emplace(fmt::format("{}.{}", net, name), tensor);
            }
        }
    }
    return all;
}

std::map<std::string, std::string> hashes_of(const fs::path& folder) {
    std::map<std::string, std::string> hashes;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        if (!entry.is_regular_file()) continue;
        hashes[entry.path().lexically_relative(folder).string()] = sha256_of_file(entry.path());
    }
    return hashes;
}

double distance(const NamedTensors& a, const NamedTensors& b) {
    double sum = 0.0;
    for (const auto& [name, tensor] : a) {
        const auto other = b.find(name);
        if (other == b.end() || other->second.sizes() != tensor.sizes()) continue;
        sum +=
            (tensor.to(at::kDouble) - other->second.to(at::kDouble)).square().sum().item<double>();
    }
    return std::sqrt(sum);
}

bool bit_equal(const at::Tensor& a, const at::Tensor& b) {
    if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
    const at::Tensor x = a.contiguous(), y = b.contiguous();
    return std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

std::unique_ptr<LearningStage> stage_of(std::string_view name, const Json& settings,
                                        Precision precision) {
    Json here = settings;
    here["out"] = "nowhere";
    return make_stage(name, train_settings(here, "the test"), place({.precision = precision}));
}

MicroBatch formula_batch(std::int64_t n, std::size_t levels, std::uint64_t first) {
    MicroBatch batch;
    batch.first = first;
    batch.hr = at::empty({n, 3, 32, 32});
    float* p = batch.hr.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < n; ++i) {
        const cv::Mat rgb = photograph(32, 32, static_cast<int>(i));
        for (int c = 0; c < 3; ++c) {
            for (int y = 0; y < 32; ++y) {
                for (int x = 0; x < 32; ++x) {
                    *p++ = static_cast<float>(rgb.ptr(y)[3 * x + c]) / 255.0F;
                }
            }
        }
        batch.names.push_back(std::string(1, static_cast<char>('a' + i % 6)) + ".png");
    }
    for (std::size_t k = 0; k < levels; ++k) {
        const std::int64_t scale = std::int64_t{2} << k;
        const at::Tensor small = at::avg_pool2d(batch.hr, {scale, scale}, {scale, scale});
        batch.lr_up.push_back(at::upsample_bilinear2d(small, {32, 32}, false).contiguous());
    }
    return batch;
}

LossAndGradients backward(LearningStage& stage, const MicroBatch& batch) {
    LossAndGradients result{.loss = stage.loss(batch), .gradients = {}};
    result.loss.total.backward();
    for (const ParameterGroup& group : stage.groups()) {
        for (const auto& [name, tensor] : group.tensors) {
            if (!tensor.grad().defined()) continue;
            result.gradients.emplace(group.name + "/" + name, tensor.grad().clone());
            tensor.mutable_grad().reset();
        }
    }
    return result;
}

}  // namespace ultrasr::test
