#include "models/text/text_encoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <set>
#include <nlohmann/json.hpp>

#include "data/file.h"
#include "models/text/tokenizer.h"
#include "tests/metrics/generated_weights.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using test::contains;
using test::sentence_of;

namespace {

using Prompts = std::vector<std::vector<std::int64_t>>;

Json golden_json() {
    return parse_json(read_file(test::golden("text_encoder.json")), "text_encoder.json");
}

TextEncoderConfig golden_config(const std::string& act) {
    return TextEncoderConfig::from_json(golden_json()["configs"][act], act);
}

Prompts golden_prompts() { return golden_json()["ids"].get<Prompts>(); }

TextEncoder generated(const TextEncoderConfig& config, const Placement& placement = {}) {
    StateDict weights = test::generated_weights();
    return TextEncoder(weights, config, placement);
}

/// Every tensor that a network takes, as a file would hold it.
NamedTensors tensors_of(const TextEncoderConfig& config) {
    NamedTensors tensors;
    StateDict weights([&](const std::string& name, at::IntArrayRef shape) {
        return tensors[name] = test::generated_tensor(name, shape);
    });
    TextEncoder(weights, config, {});
    return tensors;
}

double largest(const at::Tensor& x) { return x.abs().max().item<double>(); }

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("text encoder: every tap is that of transformers, for both activations") {
        const NamedTensors golden = load_tensors(test::golden("text_encoder.safetensors"));
        const std::int64_t every = golden_json()["rows"];
        for (const std::string act : {"gelu", "quick_gelu"}) {
            const TextEncoder encoder = generated(golden_config(act));
            std::vector<std::string> heard;
            const at::Tensor end =
                encoder(golden_prompts(), [&](const std::string& name, const at::Tensor& value) {
                    CAPTURE(act);
                    CAPTURE(name);
                    heard.push_back(name);
                    const at::Tensor& expected = golden.at(act + "." + name);
                    const at::Tensor mine =
                        name == "final_layer_norm" ? value : value.slice(1, 0, {}, every);
                    REQUIRE(mine.sizes() == expected.sizes());
                    // Of float32 (one_step_models.md 7.3); every fault tried is eight times it or
                    // more
                    const double tolerance = 2e-5 * std::max(1.0, largest(expected));
                    CHECK(largest(mine - expected) <= tolerance);
                });
            CHECK(heard == std::vector<std::string>{"embeddings", "encoder.layers.0",
                                                    "encoder.layers.1", "encoder.layers.2",
                                                    "final_layer_norm"});
            CHECK(end.equal(encoder(golden_prompts())));
        }
    }

    TEST_CASE("text encoder: our tokenizer gives it the ids of the reference") {
        const Tokenizer tokenizer = Tokenizer::from_folder(test::golden("text_files"));
        const Json golden = golden_json();
        for (std::size_t i = 0; i < golden["prompts"].size(); ++i) {
            CHECK(tokenizer.encode(golden["prompts"][i].get<std::string>()) == golden_prompts()[i]);
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("text encoder: Stable Diffusion 2.1's has 340 387 840 parameters in 372 tensors") {
        std::int64_t parameters = 0;
        std::set<std::string> names;
        StateDict weights([&](const std::string& name, at::IntArrayRef shape) {
            const at::Tensor made = at::empty(shape, at::TensorOptions().device(at::kMeta));
            parameters += made.numel();
            CHECK(names.insert(name).second);
            return made;
        });
        const TextEncoder encoder(weights, {}, {.device = c10::kMeta});
        CHECK(parameters == 340'387'840);
        CHECK(names.size() == 372);
        CHECK(names.contains("text_model.embeddings.token_embedding.weight"));
        CHECK(names.contains("text_model.encoder.layers.22.self_attn.out_proj.bias"));
        CHECK(names.contains("text_model.final_layer_norm.weight"));
    }

    TEST_CASE("text encoder: the config's numbers, with transformers' defaults") {
        const auto c = TextEncoderConfig::from_json({{"hidden_size", 48},
                                                     {"num_attention_heads", 6},
                                                     {"hidden_act", "gelu"},
                                                     {"intermediate_size", 100},
                                                     {"num_hidden_layers", 2},
                                                     {"vocab_size", 700},
                                                     {"max_position_embeddings", 20},
                                                     {"layer_norm_eps", 1e-3},
                                                     {"dropout", 0.5}},
                                                    "config.json");
        CHECK(c.hidden_size == 48);
        CHECK(c.num_attention_heads == 6);
        CHECK(c.hidden_act == TextEncoderConfig::Activation::gelu);
        CHECK(c.intermediate_size == 100);
        CHECK(c.num_hidden_layers == 2);
        CHECK(c.vocab_size == 700);
        CHECK(c.max_position_embeddings == 20);
        CHECK(c.layer_norm_eps == 1e-3);
        const auto d = TextEncoderConfig::from_json(Json::object(), "config.json");
        CHECK(std::vector{d.hidden_size, d.num_attention_heads, d.intermediate_size,
                          d.num_hidden_layers, d.vocab_size, d.max_position_embeddings} ==
              std::vector<std::int64_t>{512, 8, 2048, 12, 49408, 77});
        CHECK(d.hidden_act == TextEncoderConfig::Activation::quick_gelu);
        CHECK(d.layer_norm_eps == 1e-5);
    }

    TEST_CASE("text encoder: a config that it does not compute is refused by key and value") {
        const auto error = [](const Json& config) {
            return sentence_of(Fault::input,
                               [&] { TextEncoderConfig::from_json(config, "x/config.json"); });
        };
        CHECK(error({{"hidden_act", "relu"}}) ==
              "x/config.json: \"hidden_act\" is \"relu\"; supported: gelu, quick_gelu");
        CHECK(contains(error({{"model_type", "t5"}}), "\"model_type\" is \"t5\""));
        CHECK(contains(error({{"hidden_size", 100}, {"num_attention_heads", 16}}),
                       "\"hidden_size\" is 100; supported: multiples of"));
        CHECK(contains(error({{"num_hidden_layers", 0}}), "\"num_hidden_layers\" is 0"));
        CHECK(contains(error({{"hidden_size", "wide"}}), "\"hidden_size\" is \"wide\""));
    }

    TEST_CASE("text encoder: weights with and without text_model., position_ids or not, are one") {
        const TextEncoderConfig config = golden_config("gelu");
        const NamedTensors tensors = tensors_of(config);
        const at::Tensor expected = generated(config)(golden_prompts());
        for (const std::string prefix : {"text_model.", ""}) {
            NamedTensors file;
            for (const auto& [name, tensor] : tensors) {
                file[prefix + name.substr(std::string("text_model.").size())] = tensor;
            }
            file[prefix + "embeddings.position_ids"] = at::zeros({1, 77}, at::kLong);
            StateDict weights(file, "text_encoder");
            const TextEncoder encoder(weights, config, {});
            weights.finish();
            CHECK(encoder(golden_prompts()).equal(expected));
        }
    }

    TEST_CASE("text encoder: weights that do not fit the config are listed") {
        NamedTensors tensors = tensors_of(golden_config("gelu"));
        TextEncoderConfig config = golden_config("gelu");
        config.num_hidden_layers = 2;
        config.intermediate_size = 80;
        tensors.erase("text_model.final_layer_norm.bias");
        StateDict weights(tensors, "text_encoder/model.safetensors");
        const TextEncoder encoder(weights, config, {});
        const std::string sentence = sentence_of(Fault::input, [&] { weights.finish(); });
        CHECK(contains(sentence, "text_encoder/model.safetensors"));
        CHECK(contains(sentence, "text_model.final_layer_norm.bias"));
        CHECK(contains(sentence, "text_model.encoder.layers.2.layer_norm1.bias"));
        CHECK(contains(sentence, "text_model.encoder.layers.0.mlp.fc1.bias [64] instead of [80]"));
    }

    TEST_CASE(
        "text encoder: ids outside the vocabulary, too many, unequal or no prompts are refused") {
        const TextEncoder encoder = generated(golden_config("gelu"));
        const auto error = [&](const Prompts& prompts) {
            return sentence_of(Fault::input, [&] { encoder(prompts); });
        };
        CHECK(
            contains(error({{1, 619}}), "token id 619 lies outside the text encoder's 619 tokens"));
        CHECK(contains(error({{1, -1}}), "token id -1"));
        CHECK(contains(error({std::vector<std::int64_t>(78, 1)}), "a prompt has 78 tokens"));
        CHECK(contains(error({{}}), "a prompt has 0 tokens"));
        CHECK(contains(error({{1, 2}, {1}}), "have 2 and 1 tokens"));
        CHECK(contains(error({}), "no prompt"));
        CHECK(encoder({{1, 618}}).sizes() == at::IntArrayRef({1, 2, 32}));
    }
}

TEST_SUITE("property") {
    TEST_CASE("text encoder: a token changes what follows and nothing before; prompts stay apart") {
        for (const char* act : {"gelu", "quick_gelu"}) {
            const TextEncoder encoder = generated(golden_config(act));
            Prompts prompts = golden_prompts();
            const at::Tensor before = encoder(prompts);
            prompts[1][40] = (prompts[1][40] + 1) % 600;
            const at::Tensor after = encoder(prompts);
            CHECK(after[0].equal(before[0]));
            CHECK(largest(after[1].slice(0, 0, 40) - before[1].slice(0, 0, 40)) == 0.0);
            for (std::int64_t t = 40; t < 77; ++t) {  // the filling reads it too
                CHECK(largest(after[1][t] - before[1][t]) > 1e-4);
            }
        }
    }

    TEST_CASE("text encoder: a batch is its prompts, a shorter prompt the beginning of a longer") {
        const TextEncoder encoder = generated(golden_config("gelu"));
        const Prompts prompts = golden_prompts();
        const at::Tensor both = encoder(prompts);
        for (std::size_t i = 0; i < 2; ++i) {
            const at::Tensor one = encoder({prompts[i]});
            const auto row = static_cast<std::int64_t>(i);
            CHECK(largest(one[0] - both[row]) < 1e-5);  // sums of other order
            const std::vector<std::int64_t> start(prompts[i].begin(), prompts[i].begin() + 20);
            CHECK(largest(encoder({start})[0] - both[row].slice(0, 0, 20)) < 1e-5);
        }
    }

    TEST_CASE("text encoder: bf16 is near float32, also emulated, and inference alone the same") {
        for (const char* act : {"gelu", "quick_gelu"}) {
            const TextEncoderConfig config = golden_config(act);
            const at::Tensor exact = generated(config)(golden_prompts());
            // As this processor can, which may be emulated, and emulated
            Placement bf16 = place(ComputeOptions{.precision = Precision::bf16});
            for (const bool emulated : {bf16.emulated, true}) {
                bf16.emulated = emulated;
                const at::Tensor rounded = generated(config, bf16)(golden_prompts());
                CHECK((rounded.scalar_type() == at::kBFloat16));
                const at::Tensor error = rounded.to(at::kFloat) - exact;
                const double rms =
                    (error.square().mean() / exact.square().mean()).sqrt().item<double>();
                CAPTURE(rms);
                CHECK(rms < 1.5e-2);  // one_step_models.md 7.3
                CHECK(rms > 1e-4);    // it is another type
            }
            CHECK(generated(config, {.inference_only = true})(golden_prompts()).equal(exact));
        }
    }
}
