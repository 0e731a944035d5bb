#include "models/lora.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <fmt/format.h>

#include <cstring>

#include "data/base/json.h"
#include "data/file.h"
#include "data/tensor/state_dict.h"
#include "data/weights/lora_merge.h"
#include "models/diffusers_folder.h"
#include "models/osediff_file.h"
#include "tests/metrics/generated_weights.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using test::contains;
using test::sentence_of;
namespace fs = std::filesystem;

namespace {

Json expected() {
    const fs::path path = test::golden("lora/expected.json");
    return parse_json(read_file(path), path.string());
}

/// The base that make_lora.py had: names and shapes stored, values by formula.
NamedTensors base_of(const Json& expected, const char* component) {
    NamedTensors tensors;
    for (const auto& [name, shape] : expected.at("base").at(component).items()) {
        tensors[name] = test::generated_tensor(name, shape.get<std::vector<std::int64_t>>());
    }
    return tensors;
}

/// Samples of make_lora.py against a tensor; the largest difference over the largest value.
double error_of(const Json& samples, const at::Tensor& tensor) {
    REQUIRE(tensor.sizes() ==
            at::IntArrayRef(samples.at("shape").get<std::vector<std::int64_t>>()));
    const at::Tensor flat = tensor.to(at::kFloat).contiguous().flatten();
    double difference = 0, largest = 0;
    for (std::int64_t k = 0; k < 32; ++k) {
        const double reference = samples.at("values").at(static_cast<std::size_t>(k)).get<double>();
        const double ours = flat[k * (flat.numel() - 1) / 31].item<double>();
        difference = std::max(difference, std::abs(ours - reference));
        largest = std::max(largest, std::abs(reference));
    }
    return difference / largest;
}

/// One sum of four or fewer products and two additions in float32, in PEFT's order or not
constexpr double tolerance = 1e-6;

void check_merged(const Json& samples, const NamedTensors& base, const NetAdapters& net) {
    NamedTensors tensors = base;
    for (const auto& [name, tensor] : net.replaced) tensors.insert_or_assign(name, tensor);
    StateDict weights(tensors, "the tiny model");
    const LoraMerger merger(net.adapters, "the file");
    weights.edit(merger);
    for (const auto& [name, tensor] : tensors) {
        const at::Tensor merged = weights.take(name, tensor.sizes());
        if (!samples.contains(name)) continue;
        CAPTURE(name);
        CHECK(error_of(samples.at(name), merged) <= tolerance);
    }
    weights.finish();
    merger.finish();
}

/// A LoRA file of these tensors, read.
LoraFile written(const NamedTensors& tensors,
                 const std::map<std::string, std::string>& metadata = {}) {
    const test::TemporaryFolder folder;
    save_tensors(folder.path() / "lora.safetensors", tensors, metadata);
    return read_lora(folder.path() / "lora.safetensors");
}

std::string refusal(const NamedTensors& tensors) {
    return sentence_of(Fault::input, [&] { written(tensors); });
}

at::Tensor matrix(std::int64_t rows, std::int64_t columns) { return at::ones({rows, columns}); }

bool same(const at::Tensor& a, const at::Tensor& b) { return a.equal(b); }

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("LoraMerger: OSEDiff's file merges as peft does it, UNet and VAE") {
        const Json golden = expected();
        const OsediffFile file = read_osediff(test::golden("lora/osediff.pkl"));
        CHECK(golden.at("merged").at("unet").size() == 14);
        check_merged(golden.at("merged").at("unet"), base_of(golden, "unet"), file.unet);
        check_merged(golden.at("merged").at("vae"), base_of(golden, "vae"), file.vae);
    }

    TEST_CASE("LoraMerger: peft's folder: rank and alpha by pattern, rsLoRA, stride 2") {
        const Json golden = expected();
        const LoraFile file = read_lora(test::golden("lora/peft"));
        REQUIRE(file.nets.size() == 1);
        const NetAdapters net = tensors_of(file.nets.begin()->second, file.file);
        CHECK(net.adapters.size() == 5);
        check_merged(golden.at("peft"), base_of(golden, "unet"), net);
    }

    TEST_CASE("LoraMerger: diffusers' file with the settings in its metadata") {
        const Json golden = expected();
        const LoraFile file = read_lora(test::golden("lora/diffusers"));
        REQUIRE(file.nets.contains("unet"));
        CHECK(file.nets.at("unet").modules.begin()->second[0].scale == 3);
        check_merged(golden.at("diffusers"), base_of(golden, "unet"),
                     tensors_of(file.nets.at("unet"), file.file));
    }

    TEST_CASE("merge_lora: a family on the disk merges as peft does it, the rest stays") {
        // The family: an old name and shape in the VAE, half precision in the UNet
        const Json golden = expected();
        const test::TemporaryFolder folder;
        const fs::path base = folder.path() / "base", out = folder.path() / "out";
        NamedTensors vae = base_of(golden, "vae");
        for (const auto& [now, before] : {std::pair("to_q", "query"), std::pair("to_v", "value")}) {
            const std::string at = "encoder.mid_block.attentions.0.";
            const at::Tensor t = vae.at(at + now + ".weight");
            vae.erase(at + now + ".weight");
            vae[at + before + ".weight"] = t.view({t.size(0), t.size(1), 1, 1});
        }
        save_tensors(base / "unet/diffusion_pytorch_model.safetensors", base_of(golden, "unet"));
        save_tensors(base / "vae/diffusion_pytorch_model.safetensors", vae);
        save_tensors(base / "text_encoder/model.safetensors", {{"a", matrix(2, 2)}});
        for (const char* part : {"unet", "vae", "text_encoder"}) {
            write_file(base / part / "config.json", "{}");
        }
        write_file(base / "model_index.json", "{}");
        write_file(base / "tokenizer/vocab.json", "{\"a\": 0}");

        Progress silent;
        const auto done = merge_lora(
            {.base = base, .lora = test::golden("lora/osediff.pkl"), .out = out, .dtype = {}},
            silent);
        REQUIRE(done.size() == 2);
        CHECK(done[0].component == "unet");
        CHECK(done[0].replaced == 2);
        CHECK(done[1].merged == golden.at("modules").at("vae").size());
        for (const char* component : {"unet", "vae"}) {
            const NamedTensors merged =
                load_tensors(out / component / "diffusion_pytorch_model.safetensors");
            CHECK(merged.size() == golden.at("base").at(component).size());
            for (const auto& [name, samples] : golden.at("merged").at(component).items()) {
                std::string stored = name;
                if (const auto at = stored.find("0.to_v");
                    at != std::string::npos && std::string(component) == "vae") {
                    stored.replace(at, 6, "0.value");
                    CHECK(merged.at(stored).dim() == 4);
                    CHECK(error_of(samples, merged.at(stored).squeeze(3).squeeze(2)) <= tolerance);
                    continue;
                }
                CAPTURE(name);
                CHECK(error_of(samples, merged.at(stored)) <= tolerance);
            }
        }
        CHECK(read_file(out / "tokenizer/vocab.json") == "{\"a\": 0}");
        CHECK(sha256_of_file(out / "text_encoder/model.safetensors") ==
              sha256_of_file(base / "text_encoder/model.safetensors"));
        CHECK(fs::exists(out / "unet/config.json"));

        // A folder of one network, in another type; and what it will not write over
        merge_lora({.base = base / "unet",
                    .lora = test::golden("lora/peft"),
                    .out = folder.path() / "unet16",
                    .dtype = Dtype::bf16},
                   silent);
        const ModelFiles half =
            read_model_folder(folder.path() / "unet16", "diffusion_pytorch_model");
        for (const auto& [name, samples] : golden.at("peft").items()) {
            CHECK((half.tensors.at(name).scalar_type() == at::kBFloat16));
            CHECK(error_of(samples, half.tensors.at(name)) <= 0.004);  // 8 bits
        }
        const auto again = [&](const fs::path& to) {
            merge_lora(
                {.base = base / "unet", .lora = test::golden("lora/peft"), .out = to, .dtype = {}},
                silent);
        };
        CHECK(contains(sentence_of(Fault::usage, [&] { again(out); }), "holds something already"));
        CHECK(contains(sentence_of(Fault::usage, [&] { again(base / "unet"); }), "by itself"));
        CHECK(contains(sentence_of(Fault::input,
                                   [&] {
                                       merge_lora({.base = base / "vae",
                                                   .lora = test::golden("lora/peft"),
                                                   .out = folder.path() / "x",
                                                   .dtype = {}},
                                                  silent);
                                   }),
                       "does not have what"));
        CHECK_FALSE(fs::exists(folder.path() / "x"));
    }
}

TEST_SUITE("unit") {
    TEST_CASE("lora_delta: a linear layer by hand, a convolution as two convolutions") {
        const LoraPair linear{.a = at::tensor({1.0f, 2.0f, 3.0f}).view({1, 3}),
                              .b = at::tensor({10.0f, 20.0f}).view({2, 1}),
                              .scale = 0.5};
        CHECK(same(lora_delta(linear),
                   at::tensor({5.0f, 10.0f, 15.0f, 10.0f, 20.0f, 30.0f}).view({2, 3})));

        const LoraPair conv{
            .a = at::randn({4, 3, 3, 3}), .b = at::randn({5, 4, 1, 1}), .scale = 2.0};
        const at::Tensor x = at::randn({1, 3, 9, 8});
        const at::Tensor twice = 2 * at::conv2d(at::conv2d(x, conv.a, {}, {2, 2}, {1, 1}), conv.b);
        const at::Tensor once = at::conv2d(x, lora_delta(conv), {}, {2, 2}, {1, 1});
        CHECK((once - twice).abs().max().item<float>() <= 1e-5 * twice.abs().max().item<float>());
    }

    TEST_CASE("add_lora_: the arithmetic without LibTorch is that with it") {
        for (const auto& [o, i, r, k] :
             {std::array<std::int64_t, 4>{7, 5, 3, 1}, {6, 4, 2, 3}, {1, 9, 4, 1}, {16, 1, 1, 3}}) {
            const at::Tensor a = k == 1 ? at::randn({r, i}) : at::randn({r, i, k, k});
            const at::Tensor b = k == 1 ? at::randn({o, r}) : at::randn({o, r, 1, 1});
            const LoraFile file = written({{"m.lora_A.weight", a}, {"m.lora_B.weight", b}});
            LoraUpdate update = file.nets.at("").modules.at("m")[0];
            update.scale = 1.75;
            at::Tensor weight = k == 1 ? at::randn({o, i}) : at::randn({o, i, k, k});
            const at::Tensor reference = weight + lora_delta({a, b, 1.75});
            add_lora_({weight.mutable_data_ptr<float>(), static_cast<std::size_t>(weight.numel())},
                      weight.sizes(), update, "m");
            CHECK((weight - reference).abs().max().item<float>() <=
                  1e-6 * reference.abs().max().item<float>());
        }
    }

    TEST_CASE("read_lora: prefixes, adapters' names, lora.down and alpha") {
        const LoraFile tsd = written({{"transformer.blocks.0.to_q.lora_A.weight", matrix(2, 3)},
                                      {"transformer.blocks.0.to_q.lora_B.weight", matrix(4, 2)}});
        REQUIRE(tsd.nets.at("").modules.contains("blocks.0.to_q"));
        CHECK(tsd.nets.at("").modules.at("blocks.0.to_q")[0].scale == 1);

        const LoraFile several =
            written({{"base_model.model.transformer_blocks.0.a.lora_A.one.weight", matrix(2, 3)},
                     {"base_model.model.transformer_blocks.0.a.lora_B.one.weight", matrix(4, 2)},
                     {"base_model.model.transformer_blocks.0.a.lora_A.two.weight", matrix(1, 3)},
                     {"base_model.model.transformer_blocks.0.a.lora_B.two.weight", matrix(4, 1)},
                     {"base_model.model.conv_in.base_layer.bias", at::ones({4})}});
        const LoraNet& net = several.nets.at("");
        REQUIRE(net.modules.at("transformer_blocks.0.a").size() == 2);
        CHECK(net.modules.at("transformer_blocks.0.a")[1].adapter == "two");
        CHECK(net.replaced.contains("conv_in.bias"));

        const LoraFile old = written({{"unet.a.lora.down.weight", matrix(4, 3)},
                                      {"unet.a.lora.up.weight", matrix(5, 4)},
                                      {"unet.a.alpha", at::full({}, 6.0f)},
                                      {"text_encoder.text_model.b.lora_A.weight", matrix(1, 3)},
                                      {"text_encoder.text_model.b.lora_B.weight", matrix(5, 1)}});
        CHECK(old.nets.at("unet").modules.at("a")[0].scale == 1.5);
        CHECK(old.nets.at("text_encoder").modules.contains("text_model.b"));
    }

    TEST_CASE("read_lora: what does not fit together or is not supported is said") {
        const at::Tensor a = matrix(2, 3), b = matrix(4, 2);
        const auto with = [&](const std::string& name, const at::Tensor& t) {
            return refusal({{"m.lora_A.weight", a}, {"m.lora_B.weight", b}, {name, t}});
        };
        CHECK(contains(refusal({{"m.lora_A.weight", a}}), "module m has lora_A without lora_B"));
        CHECK(contains(refusal({{"m.lora_B.weight", b}}), "module m has lora_B without lora_A"));
        CHECK(contains(refusal({{"m.lora_A.weight", a}, {"m.lora_B.weight", matrix(4, 3)}}),
                       "lora_A has the rank 2 and lora_B 3"));
        CHECK(
            contains(refusal({{"m.lora_A.weight", a}, {"m.lora_B.weight", at::ones({4, 2, 3, 3})}}),
                     "not 1 x 1"));
        CHECK(contains(refusal({{"m.lora_A.weight", a.to(at::kInt)}, {"m.lora_B.weight", b}}),
                       "m.lora_A.weight is I32 [2, 3]"));
        CHECK(contains(with("m.lora_magnitude_vector", at::ones({4})), "DoRA"));
        CHECK(contains(with("m.lora_B.bias", at::ones({4})), "LoRA with biases"));
        CHECK(contains(with("m.lora_embedding_A.default", a), "embedding"));
        CHECK(contains(with("lora_unet_m.lora_down.weight", a), "kohya"));
        CHECK(contains(with("m.alpha", at::ones({2})), "m.alpha is not one number"));
        CHECK(contains(refusal({{"conv1.weight", a}}), "holds no LoRA"));

        // Settings beside the file
        const test::TemporaryFolder folder;
        const auto beside = [&](const std::string& settings) {
            save_tensors(folder.path() / "adapter_model.safetensors",
                         {{"m.lora_A.weight", a}, {"m.lora_B.weight", b}});
            write_file(folder.path() / "adapter_config.json", settings);
            return sentence_of(Fault::input, [&] { read_lora(folder.path()); });
        };
        CHECK(
            contains(beside(R"({"r": 8, "lora_alpha": 8})"), "has the rank 2, its settings say 8"));
        CHECK(contains(beside(R"({"r": 2, "lora_alpha": 8, "use_dora": true})"), "use_dora"));
        CHECK(contains(beside(R"({"r": 2, "lora_alpha": "x"})"), "lora_alpha in its settings"));
        CHECK(contains(beside(R"({"r": 2, "alpha_pattern": {"(": 3}})"), "the pattern '('"));
        CHECK(contains(beside(R"({"peft_type": "LOHA"})"), "only LORA is supported"));
        CHECK(contains(beside("{"), "adapter_config.json"));
        CHECK(beside(R"({"r": 2, "lora_alpha": 3})") == "no error");
        CHECK(read_lora(folder.path()).nets.at("").modules.at("m")[0].scale == 1.5);
        CHECK(contains(sentence_of(Fault::input, [&] { read_lora(folder.path() / "no"); }), "no"));
        fs::create_directory(folder.path() / "empty");
        CHECK(contains(sentence_of(Fault::input, [&] { read_lora(folder.path() / "empty"); }),
                       "looked for adapter_model.safetensors"));
    }

    TEST_CASE("LoraMerger: modules that the network lacks, and shapes that do not fit") {
        LoraSet adapters;
        for (int i = 0; i < 12; ++i) {
            adapters[fmt::format("m{:02}", i)] = {{.a = matrix(1, 3), .b = matrix(2, 1)}};
        }
        const LoraMerger merger(adapters, "LoRA (x.safetensors)");
        StateDict weights({{"m00.weight", at::zeros({2, 3})}, {"m00.bias", at::zeros({2})}}, "net");
        weights.edit(merger);
        CHECK(same(weights.take("m00.weight", {2, 3}), at::ones({2, 3})));
        CHECK(same(weights.take("m00.bias", {2}), at::zeros({2})));
        const std::string unused = sentence_of(Fault::input, [&] { merger.finish(); });
        CHECK(contains(unused, "LoRA (x.safetensors): 11 for modules that the network has not"));
        CHECK(contains(unused, "(m01, m02, m03, m04, m05, m06, m07, m08, m09, m10 and 1 more)"));
        const std::string misfit = sentence_of(Fault::input, [&] {
            merger("m01.weight", at::zeros({2, 4}));
        });
        CHECK(contains(misfit,
                       "LoRA (x.safetensors): LoRA of module m01 does not fit: the weight is "
                       "[2, 4], lora_A [1, 3], lora_B [2, 1]"));
        CHECK_THROWS_AS(merger("m01.weight", at::zeros({3, 3})), Error);
        CHECK_THROWS_AS(merger("m01.weight", at::zeros({2, 3, 3, 3})), Error);
        CHECK_NOTHROW(merger("m01.weight", at::zeros({2, 3, 1, 1})));
    }

    TEST_CASE("StateDict: tensors are edited when taken, and forgotten") {
        const at::Tensor stored = at::ones({3}, at::kHalf);
        StateDict weights({{"a", stored}, {"b", at::ones({2})}}, "net");
        weights.edit([](const std::string& name, const at::Tensor& values) {
            CHECK((values.scalar_type() == at::kFloat));
            return name == "a" ? values + 1 : values;
        });
        CHECK(weights.contains("a"));
        CHECK(same(weights.take("a", {3}), at::full({3}, 2.0f)));
        CHECK(same(stored, at::ones({3}, at::kHalf)));
        CHECK(weights.contains("a"));
        CHECK(weights.shape_of("a") == std::vector<std::int64_t>{3});
        CHECK(stored.use_count() == 1);                  // the checkpoint's share is gone
        CHECK_THROWS_AS(weights.take("a", {3}), Error);  // our bug
        CHECK(contains(sentence_of(Fault::input, [&] { weights.finish(); }), "1 surplus (b)"));

        // What the change breaks is found
        StateDict broken({{"a", at::ones({1})}}, "net");
        broken.edit([](const std::string&, const at::Tensor& values) { return values / 0; });
        broken.take("a", {1});
        CHECK(contains(sentence_of(Fault::input, [&] { broken.finish(); }), "NaN or infinite"));
    }
}
