#include "models/diffusers_folder.h"

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <fmt/format.h>

#include "data/file.h"
#include "data/tensor/state_dict.h"
#include "models/random_family.h"
#include "models/unet.h"
#include "tests/data/pickles.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using test::contains;
using test::sentence_of;
namespace fs = std::filesystem;

namespace {

constexpr const char* diffusion = "diffusion_pytorch_model";

/// One float "w", as torch.save writes it.
void save_bin(const fs::path& path, const std::string& name = "w") {
    const float value = 7;
    write_file(
        path,
        test::torch_file(
            test::dict_pickle(
                {{name, test::tensor(test::storage("0", "torch\nFloatStorage", 1), 0, {1}, {1})}}),
            {std::string(reinterpret_cast<const char*>(&value), sizeof value)}));
}

NamedTensors named(const std::string& name, float value) { return {{name, at::full({1}, value)}}; }

float value_of(const ModelFiles& files, const std::string& name = "w") {
    return files.tensors.at(name).item<float>();
}

std::string refusal(const fs::path& folder, const char* stem = diffusion) {
    return sentence_of(Fault::input, [&] { read_model_folder(folder, stem); });
}

/// The tensors that a network of a configuration has.
Shapes shapes_of(const Json& config, const std::string& component) {
    Shapes shapes;
    for (const RandomNetwork& network : family_networks(family_config(config))) {
        if (network.component != component) continue;
        for (const TensorHead& t : network.tensors) shapes[t.name] = t.shape;
    }
    return shapes;
}

const Json tiny_unet = Json::parse(R"({"unet": {
    "block_out_channels": [32, 32], "attention_head_dim": [1, 1], "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}})");

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("read_model_folder: which of several files is read, .bin and shards too") {
        const test::TemporaryFolder root;
        const fs::path unet = root.path() / "unet";
        write_file(unet / "config.json", R"({"_class_name": "UNet2DConditionModel"})");
        const std::string stem = diffusion;

        save_bin(unet / (stem + ".bin"));
        const ModelFiles bin = read_model_folder(unet, diffusion);
        CHECK(value_of(bin) == 7);
        CHECK(bin.what == "UNet2DConditionModel (unet/diffusion_pytorch_model.bin)");
        CHECK(bin.records.size() == 1);
        CHECK(bin.records[0].file == "unet/diffusion_pytorch_model.bin");
        CHECK(bin.records[0].sha256 == sha256_of_file(unet / (stem + ".bin")));
        CHECK(bin.config.at("_class_name") == "UNet2DConditionModel");

        save_tensors(unet / "part-1.safetensors", named("w", 1));
        save_tensors(unet / "part-2.safetensors", named("v", 2));
        write_file(unet / (stem + ".safetensors.index.json"),
                   R"({"weight_map": {"w": "part-1.safetensors", "v": "part-2.safetensors"}})");
        const ModelFiles shards = read_model_folder(unet, diffusion);
        CHECK(value_of(shards) == 1);
        CHECK(value_of(shards, "v") == 2);
        CHECK(shards.records.size() == 2);
        CHECK(shards.what == "UNet2DConditionModel (unet/part-1.safetensors and 1 more)");

        save_tensors(unet / (stem + ".fp16.safetensors"),
                     {{"w", at::full({1}, 3.0f).to(at::kHalf)}});
        const ModelFiles half = read_model_folder(unet, diffusion);
        CHECK(value_of(half) == 3);
        CHECK((half.tensors.at("w").scalar_type() == at::kHalf));  // as stored

        save_tensors(unet / (stem + ".safetensors"), named("w", 4));
        CHECK(value_of(read_model_folder(unet, diffusion)) == 4);

        // transformers has another name for its .bin
        const fs::path text = root.path() / "text_encoder";
        write_file(text / "config.json", "{}");
        save_bin(text / "pytorch_model.bin");
        CHECK(value_of(read_model_folder(text, "model")) == 7);
        CHECK(read_model_folder(text / ".", "model").what ==
              "text_encoder (text_encoder/pytorch_model.bin)");
        save_bin(text / "shard.bin", "u");
        fs::remove(text / "pytorch_model.bin");
        write_file(text / "pytorch_model.bin.index.json", R"({"weight_map": {"u": "shard.bin"}})");
        CHECK(value_of(read_model_folder(text, "model"), "u") == 7);
    }

    TEST_CASE("read_model_folder: what is missing or contradictory is one sentence") {
        const test::TemporaryFolder root;
        CHECK(contains(refusal(root.path() / "unet"),
                       "unet is missing; name a folder in diffusers'"));
        const fs::path vae = root.path() / "vae";
        fs::create_directory(vae);
        const std::string none = refusal(vae);
        CHECK(contains(none,
                       "holds no weights; looked for diffusion_pytorch_model.safetensors, "
                       "diffusion_pytorch_model.fp16.safetensors, "));
        CHECK(contains(none, "diffusion_pytorch_model.bin, "));
        CHECK(contains(refusal(vae, "model"), "pytorch_model.bin"));
        save_tensors(vae / "diffusion_pytorch_model.safetensors", named("w", 1));
        CHECK(contains(refusal(vae), "has no config.json"));
        write_file(vae / "config.json", "{\n  \"a\": }");
        CHECK(contains(refusal(vae), "config.json"));
        write_file(vae / "config.json", "[]");
        CHECK(contains(refusal(vae), "is not a JSON object"));
        write_file(vae / "config.json", "{}");

        // Shards
        fs::rename(vae / "diffusion_pytorch_model.safetensors", vae / "a.safetensors");
        const auto with = [&](const std::string& index) {
            write_file(vae / "diffusion_pytorch_model.safetensors.index.json", index);
            return refusal(vae);
        };
        CHECK(contains(with("{}"), "has no weight_map"));
        CHECK(contains(with(R"({"weight_map": {"w": "../a.safetensors"}})"), "not beside it"));
        CHECK(contains(with(R"({"weight_map": {"w": ".."}})"), "not beside it"));
        CHECK(contains(with(R"({"weight_map": {"w": 3}})"), "not beside it"));
        CHECK(contains(with(R"({"weight_map": {"w": "b.safetensors"}})"),
                       "b.safetensors is missing"));
        CHECK(contains(with(R"({"weight_map": {"w": "a.safetensors", "x": "a.safetensors"}})"),
                       "names the tensor x, which no shard holds"));
        save_tensors(vae / "b.safetensors", named("v", 1));
        save_tensors(vae / "c.safetensors", named("w", 1));
        CHECK(contains(with(R"({"weight_map": {"w": "a.safetensors", "v": "c.safetensors"}})"),
                       "repeats the tensor w"));
        save_tensors(vae / "a.safetensors", {{"w", at::ones({1})}, {"y", at::ones({1})}});
        CHECK(contains(with(R"({"weight_map": {"w": "a.safetensors", "v": "b.safetensors"}})"),
                       "hold 3 tensors and it names 2"));
    }

    TEST_CASE(
        "read_model_folder: a config that disagrees with the weights names file and tensors") {
        const test::TemporaryFolder root;
        const fs::path unet = root.path() / "unet";
        NamedTensors tensors;
        for (const auto& [name, shape] : shapes_of(tiny_unet, "unet"))
            tensors[name] = at::zeros(shape);
        save_tensors(unet / "diffusion_pytorch_model.safetensors", tensors);
        Json config = family_config(tiny_unet)["unet"];
        config["block_out_channels"] = {320, 32};
        config["attention_head_dim"] = {5, 1};
        write_file(unet / "config.json", dump_json(config));
        const ModelFiles files = read_model_folder(unet, diffusion);
        const std::string sentence = sentence_of(Fault::input, [&] {
            StateDict weights(files.tensors, files.what);
            UNet(weights, UNetConfig::from_json(files.config, "unet/config.json"), {});
            weights.finish();
        });
        CAPTURE(sentence);
        CHECK(
            contains(sentence, "UNet2DConditionModel (unet/diffusion_pytorch_model.safetensors)"));
        CHECK(contains(sentence, "conv_in.weight [32, 4, 3, 3] instead of [320, 4, 3, 3]"));
        CHECK(contains(sentence, " more)"));
    }

    TEST_CASE("with_standard_names: old and wrapped names, and 1 x 1 convolutions, where all fit") {
        const Shapes expected{{"encoder.mid_block.attentions.0.to_q.weight", {2, 2}},
                              {"encoder.mid_block.attentions.0.to_k.weight", {2, 2}},
                              {"encoder.mid_block.attentions.0.to_v.bias", {2}},
                              {"encoder.mid_block.attentions.0.to_out.0.weight", {2, 2}},
                              {"conv_in.weight", {2, 1, 1, 1}}};
        const auto old_names = [](const std::string& prefix) {
            const std::string at = prefix + "encoder.mid_block.attentions.0.";
            return NamedTensors{{at + "query.weight", at::full({2, 2, 1, 1}, 1.0f)},
                                {at + "key.weight", at::full({2, 2}, 2.0f)},
                                {at + "value.bias", at::full({2}, 3.0f)},
                                {at + "proj_attn.weight", at::full({2, 2, 1, 1}, 4.0f)},
                                {prefix + "conv_in.base_layer.weight", at::ones({2, 1, 1, 1})}};
        };
        for (const char* prefix : {"", "module.", "model.", "unet.", "vae.", "module.vae."}) {
            CAPTURE(prefix);
            const NamedTensors found = with_standard_names(old_names(prefix), expected);
            CHECK_NOTHROW(check_tensors(found, expected, "x"));
            CHECK(found.at("encoder.mid_block.attentions.0.to_q.weight").sum().item<float>() == 4);
            CHECK(found.at("encoder.mid_block.attentions.0.to_out.0.weight").sum().item<float>() ==
                  16);
        }

        // One that is still missing leaves all names as they were
        NamedTensors fewer = old_names("vae.");
        fewer.erase("vae.conv_in.base_layer.weight");
        CHECK(with_standard_names(fewer, expected)
                  .contains("vae.encoder.mid_block.attentions.0.key.weight"));
        // What nobody asks for stays
        NamedTensors more = old_names("vae.");
        more["vae.decoder.x"] = at::ones({1});
        CHECK(with_standard_names(more, expected).size() == 6);
        CHECK(with_standard_names(more, expected).contains("vae.decoder.x"));
        // A shape that differs otherwise is not touched
        NamedTensors other = old_names("");
        other["conv_in.base_layer.weight"] = at::ones({2, 1, 1, 1, 2});
        CHECK(with_standard_names(other, expected).at("conv_in.weight").dim() == 5);
    }

    TEST_CASE("open_family: paths and the index; what is no family is said") {
        const test::TemporaryFolder root;
        const fs::path base = root.path() / "base";
        CHECK(contains(sentence_of(Fault::input, [&] { open_family(base); }), "base is missing"));
        fs::create_directories(base);
        CHECK(contains(sentence_of(Fault::input, [&] { open_family(base); }), "no folder unet/"));
        write_file(base / "unet/config.json", "{}");
        CHECK(open_family(base).index.empty());
        CHECK(open_family(base).scheduler == base / "scheduler");
        write_file(base / "model_index.json", R"({"_class_name": "StableDiffusionPipeline"})");
        CHECK(open_family(base).index.at("_class_name") == "StableDiffusionPipeline");
        CHECK(contains(sentence_of(Fault::input, [&] { open_family(base / "unet"); }),
                       "name the folder above it"));
    }
}
