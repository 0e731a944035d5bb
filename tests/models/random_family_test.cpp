#include "models/random_family.h"

#include <cmath>

#include "data/base/random.h"
#include "data/file.h"
#include "data/tensor/named_tensors.h"
#include "models/diffusers_folder.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using test::contains;
using test::sentence_of;
namespace fs = std::filesystem;

namespace {

const Json tiny = Json::parse(R"({
  "unet": {"block_out_channels": [8, 16], "attention_head_dim": [2, 2], "norm_num_groups": 4,
           "cross_attention_dim": 12, "layers_per_block": 1,
           "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
           "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]},
  "vae": {"block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1,
          "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
          "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]},
  "text_encoder": {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2,
                   "num_attention_heads": 2, "vocab_size": 600}})");

std::string tree(const fs::path& folder) {
    std::vector<std::string> lines;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        if (!entry.is_regular_file()) continue;
        lines.push_back(entry.path().lexically_relative(folder).string() + " " +
                        sha256_of_file(entry.path()));
    }
    std::sort(lines.begin(), lines.end());
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    return text;
}

std::vector<float> values(std::uint64_t seed, const std::string& name,
                          const std::vector<std::int64_t>& shape, std::uint64_t first,
                          std::size_t count) {
    std::vector<float> out(count);
    random_values(seed, name, shape, first, out);
    return out;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("family_networks: tensors and parameters of Stable Diffusion 2.1-base") {
        // one_step_models.md 1.1, exact
        const auto networks = family_networks(family_config(Json::object()));
        REQUIRE(networks.size() == 3);
        CHECK(networks[0].tensors.size() == 686);
        CHECK(networks[0].parameters() == 865'910'724);
        CHECK(networks[1].tensors.size() == 248);
        CHECK(networks[1].parameters() == 83'653'863);
        CHECK(networks[2].tensors.size() == 372);
        CHECK(networks[2].parameters() == 340'387'840);
        CHECK(networks[2].tensors[0].name.starts_with("text_model."));
    }

    TEST_CASE("random_values: Philox by name and place, in whatever pieces they are asked for") {
        const std::string name = "unet.conv_in.weight";
        const std::vector<std::int64_t> shape{40, 9};
        const auto all = values(5, name, shape, 0, 360);
        for (const std::uint64_t first : {0u, 1u, 15u, 16u, 17u, 100u}) {
            const auto part = values(5, name, shape, first, 37);
            CHECK(std::equal(part.begin(), part.end(), all.begin() + static_cast<long>(first)));
        }

        // Value 21: block 1, its sixth counter, the first pair of words; key and counter by hand
        std::uint64_t hash = 0xcbf29ce484222325;
        for (const unsigned char c : name) hash = (hash ^ c) * 0x100000001b3;
        const auto words = philox4x32(
            {13, 0, static_cast<std::uint32_t>(hash), static_cast<std::uint32_t>(hash >> 32)},
            {5, 0});
        const double sum = (words[0] & 0xffff) + (words[0] >> 16) + (words[1] & 0xffff) +
                           static_cast<double>(words[1] >> 16);
        CHECK(static_cast<double>(all[21]) ==
              doctest::Approx((sum - 131070) / 37837.22 / 3).epsilon(1e-6));
        CHECK(values(6, name, shape, 0, 360) != all);
        CHECK(values(5, "vae.conv_in.weight", shape, 0, 360) != all);
    }

    TEST_CASE("random_values: means and deviations of weights, norms and biases") {
        const auto moments = [](const std::string& name, const std::vector<std::int64_t>& shape) {
            const auto v = values(1, name, shape, 0, 100'000);
            double sum = 0, squares = 0;
            for (const float x : v) {
                sum += static_cast<double>(x);
                squares += static_cast<double>(x) * static_cast<double>(x);
            }
            const double mean = sum / 1e5;
            return std::pair(mean, std::sqrt(squares / 1e5 - mean * mean));
        };
        const auto close = [](std::pair<double, double> a, double mean, double deviation) {
            CHECK(a.first == doctest::Approx(mean).epsilon(0.02 * deviation));
            CHECK(a.second == doctest::Approx(deviation).epsilon(0.02));
        };
        close(moments("a.weight", {5000, 5, 2, 2}), 0, 1 / std::sqrt(20.0));
        close(moments("a.weight", {100'000}), 1, 0.1);
        close(moments("a.bias", {100'000}), 0, 0.1);
    }

    TEST_CASE("write_random_family: every file, the same bytes again, half precision rounds") {
        const test::TemporaryFolder folder;
        Progress silent;
        RandomFamilyOptions options{.config = tiny, .out = folder.path() / "a", .seed = 3};
        write_random_family(options, silent);
        const std::string first = tree(options.out);
        for (const char* file : {"init.json", "model_index.json", "scheduler/scheduler_config.json",
                                 "text_encoder/config.json", "text_encoder/model.safetensors",
                                 "tokenizer/merges.txt", "tokenizer/special_tokens_map.json",
                                 "tokenizer/tokenizer_config.json", "tokenizer/vocab.json",
                                 "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
                                 "vae/config.json", "vae/diffusion_pytorch_model.safetensors"}) {
            CHECK(contains(first, std::string(file) + " "));
        }
        write_random_family(options, silent);
        CHECK(tree(options.out) == first);

        // Read back, value by value
        const ModelFiles unet = read_model_folder(options.out / "unet", "diffusion_pytorch_model");
        const at::Tensor& w = unet.tensors.at("conv_in.weight");
        const auto made = values(3, "unet.conv_in.weight", {8, 4, 3, 3}, 0, 288);
        CHECK(std::equal(made.begin(), made.end(), w.const_data_ptr<float>()));
        CHECK(read_file(options.out / "tokenizer/merges.txt") == "#version: 0.2\n");
        const Json vocabulary = parse_json(read_file(options.out / "tokenizer/vocab.json"), "v");
        CHECK(vocabulary.size() == 514);
        CHECK(vocabulary.at("!") == 0);
        CHECK(vocabulary.at("!</w>") == 256);
        CHECK(vocabulary.at("<|startoftext|>") == 598);
        CHECK(vocabulary.at("<|endoftext|>") == 599);

        options.out = folder.path() / "half";
        options.dtype = Dtype::bf16;
        write_random_family(options, silent);
        const at::Tensor half =
            load_tensors(options.out / "unet/diffusion_pytorch_model.safetensors")
                .at("conv_in.weight");
        CHECK(half.equal(w.to(at::kBFloat16)));
    }

    TEST_CASE("write_random_family: goes on after an interruption, guards what it did not write") {
        const test::TemporaryFolder folder;
        Progress silent;
        RandomFamilyOptions options{.config = tiny, .out = folder.path() / "whole", .seed = 3};
        write_random_family(options, silent);
        const std::string whole = tree(options.out);

        // Stopped in the VAE's weights
        options.out = folder.path() / "cut";
        Progress stops([](const Progress::Step& step) {
            if (step.what == "vae" && step.done == 3) Progress::interrupt();
        });
        CHECK_THROWS_AS(write_random_family(options, stops), Interrupted);
        Progress::resume();
        CHECK_FALSE(contains(tree(options.out), "vae/"));
        CHECK_FALSE(contains(tree(options.out), "model_index"));
        const auto written =
            fs::last_write_time(options.out / "unet/diffusion_pytorch_model.safetensors");
        write_random_family(options, silent);
        CHECK(tree(options.out) == whole);
        CHECK(fs::last_write_time(options.out / "unet/diffusion_pytorch_model.safetensors") ==
              written);

        // Other settings, another's folder
        options.seed = 4;
        CHECK(contains(sentence_of(Fault::usage, [&] { write_random_family(options, silent); }),
                       "a family of other settings"));
        CHECK(tree(options.out) == whole);
        options.restart = true;
        write_random_family(options, silent);
        CHECK(tree(options.out) != whole);
        options.out = folder.path() / "other";
        write_file(options.out / "unet/diffusion_pytorch_model.safetensors", "mine");
        CHECK(contains(sentence_of(Fault::usage, [&] { write_random_family(options, silent); }),
                       "did not write"));
        CHECK(read_file(options.out / "unet/diffusion_pytorch_model.safetensors") == "mine");
    }

    TEST_CASE("family_config: what does not fit together is refused before anything is written") {
        const auto refusal = [](const char* text) {
            return sentence_of(Fault::input, [&] {
                const test::TemporaryFolder folder;
                Progress silent;
                write_random_family({.config = Json::parse(text), .out = folder.path() / "x"},
                                    silent);
            });
        };
        CHECK(contains(refusal("[]"), "is an object with unet"));
        CHECK(contains(refusal(R"({"unett": {}})"), "known are unet, vae and text_encoder"));
        CHECK(contains(refusal(R"({"unet": 3})"), "unet is not an object"));
        CHECK(contains(refusal(R"({"unet": {"cross_attention_dim": 768}})"), "must be equal"));
        CHECK(contains(refusal(R"({"vae": {"latent_channels": 16}})"), "must be equal"));
        CHECK(contains(refusal(R"({"text_encoder": {"vocab_size": 513}})"), "vocab_size is 513"));
        CHECK(contains(refusal(R"({"text_encoder": {"vocab_size": -1}})"), "not a whole number"));
        CHECK(contains(refusal(R"({"unet": {"act_fn": "mish"}})"), "act_fn"));
    }
}
