#include "models/osediff_file.h"

#include <ATen/ops/ones.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "data/base/json.h"
#include "data/file.h"
#include "models/random_family.h"
#include "models/unet.h"
#include "models/vae.h"
#include "tests/data/pickles.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using test::contains;
using test::sentence_of;
namespace fs = std::filesystem;

namespace {

std::string refusal(const fs::path& path) {
    return sentence_of(Fault::input, [&] { read_osediff(path); });
}

/// The refusal of a file with these tensors.
std::string refusal(const std::vector<std::string>& names) {
    const test::TemporaryFolder folder;
    NamedTensors tensors;
    for (const std::string& name : names) tensors[name] = at::ones({2, 2});
    save_tensors(folder.path() / "x.pkl", tensors);
    return refusal(folder.path() / "x.pkl");
}

/// A file of the released form with one module a network.
std::string small_file(const std::string& listed, std::int64_t rank, bool with_vae = true) {
    const auto tensor = [](std::int64_t rows, std::int64_t columns) {
        return test::tensor(test::storage("0", "torch\nFloatStorage", 4), 0, {rows, columns},
                            {columns, 1});
    };
    const auto dict = [&](const std::string& module) {
        return "}(" + test::text(module + ".lora_A.default_encoder.weight") + tensor(2, 2) +
               test::text(module + ".lora_B.default_encoder.weight") + tensor(2, 2) + "u";
    };
    const auto list = [](const std::string& name) {
        return name.empty() ? std::string("]") : "](" + test::text(name) + "e";
    };
    std::vector<std::pair<std::string, std::string>> items{
        {"unet_lora_encoder_modules", list(listed)},
        {"unet_lora_decoder_modules", "]"},
        {"unet_lora_others_modules", "]"},
        {"vae_lora_encoder_modules", list("encoder.conv_in")},
        {"rank_unet", test::number(rank)},
        {"rank_vae", test::number(2)},
        {"state_dict_unet", dict("conv_in")}};
    if (with_vae) items.emplace_back("state_dict_vae", dict("encoder.conv_in"));
    return test::torch_file(test::dict_pickle(items), {std::string(16, '\0')});
}

Shapes shapes_of(const Json& lists, const char* component) {
    Shapes shapes;
    for (const auto& [name, shape] : lists.at("base").at(component).items()) {
        shapes[name] = shape.get<std::vector<std::int64_t>>();
    }
    return shapes;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("osediff_modules: 94, 148, 16 and 32 modules of Stable Diffusion 2.1-base") {
        Shapes unet, vae;
        for (const RandomNetwork& n : family_networks(family_config(Json::object()))) {
            for (const TensorHead& t : n.tensors) {
                if (n.component == "unet") unet[t.name] = t.shape;
                if (n.component == "vae") vae[t.name] = t.shape;
            }
        }
        CHECK(osediff_modules(OsediffPart::unet_encoder, unet).size() == 94);
        CHECK(osediff_modules(OsediffPart::unet_decoder, unet).size() == 148);
        CHECK(osediff_modules(OsediffPart::unet_others, unet).size() == 16);
        CHECK(osediff_modules(OsediffPart::vae_encoder, vae).size() == 32);
    }

    TEST_CASE("osediff_modules: 4 055 712 and 369 356 parameters of rank 4") {
        const auto parameters = [](const Shapes& tensors,
                                   std::initializer_list<OsediffPart> parts) {
            std::int64_t sum = 0;
            for (const OsediffPart part : parts) {
                for (const std::string& module : osediff_modules(part, tensors)) {
                    // A is rank x in x k x k, B is out x rank
                    const std::vector<std::int64_t>& w = tensors.at(module + ".weight");
                    std::int64_t a = 4;
                    for (std::size_t d = 1; d < w.size(); ++d) a *= w[d];
                    sum += a + 4 * w[0];
                }
            }
            return sum;
        };
        CHECK(parameters(UNet::tensor_shapes({}),
                         {OsediffPart::unet_encoder, OsediffPart::unet_decoder,
                          OsediffPart::unet_others}) == 4055712);
        CHECK(parameters(Vae::tensor_shapes({}), {OsediffPart::vae_encoder}) == 369356);
    }

    TEST_CASE("osediff_modules: the lists that the released rule makes of a tiny model") {
        const fs::path path = test::golden("lora/expected.json");
        const Json expected = parse_json(read_file(path), path.string());
        const auto sorted = [&](const char* key) {
            auto list = expected.at("modules").at(key).get<std::vector<std::string>>();
            std::sort(list.begin(), list.end());
            return list;
        };
        // Tensors are sorted with ".weight", lists without
        const auto ours = [](OsediffPart part, const Shapes& shapes) {
            auto list = osediff_modules(part, shapes);
            std::sort(list.begin(), list.end());
            return list;
        };
        const Shapes unet = shapes_of(expected, "unet");
        CHECK(ours(OsediffPart::unet_encoder, unet) == sorted("default_encoder"));
        CHECK(ours(OsediffPart::unet_decoder, unet) == sorted("default_decoder"));
        CHECK(ours(OsediffPart::unet_others, unet) == sorted("default_others"));
        CHECK(ours(OsediffPart::vae_encoder, shapes_of(expected, "vae")) == sorted("vae"));
    }

    TEST_CASE("read_osediff: the released form, its scale and its conv_in") {
        const OsediffFile file = read_osediff(test::golden("lora/osediff.pkl"));
        CHECK_FALSE(file.merged);
        CHECK(file.what == "OSEDiff (osediff.pkl)");
        CHECK(file.record.sha256 == sha256_of_file(test::golden("lora/osediff.pkl")));
        CHECK(file.unet.replaced.size() == 2);
        CHECK(file.unet.replaced.at("conv_in.weight").sizes() == at::IntArrayRef{8, 4, 3, 3});
        CHECK(file.vae.replaced.empty());
        for (const auto& [module, pairs] : file.unet.adapters) {
            REQUIRE(pairs.size() == 1);
            CHECK(pairs[0].scale == 2);
        }
        CHECK(file.vae.adapters.at("quant_conv")[0].scale == 2);
        CHECK(read_osediff(test::golden("lora")).what == file.what);  // the folder
    }

    TEST_CASE("read_osediff: whole state dicts") {
        const test::TemporaryFolder folder;
        save_tensors(folder.path() / "osediff.pkl", {{"unet.conv_in.weight", at::ones({1})},
                                                     {"vae.encoder.conv_in.bias", at::ones({2})}});
        const OsediffFile file = read_osediff(folder.path() / "osediff.pkl");
        CHECK(file.merged);
        CHECK(file.unet.adapters.empty());
        CHECK(file.unet.replaced.contains("conv_in.weight"));
        CHECK(file.vae.replaced.contains("encoder.conv_in.bias"));
    }

    TEST_CASE("read_osediff: incomplete and contradictory files") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "o.pkl";
        const auto with = [&](const std::string& bytes) {
            write_file(path, bytes);
            return refusal(path);
        };
        CHECK(with(small_file("conv_in", 2)) == "no error");
        CHECK(read_osediff(path).unet.adapters.at("conv_in")[0].scale == 4);
        CHECK(contains(with(small_file("conv_in", 4)),
                       "module conv_in has the rank 2, the file says 4"));
        CHECK(contains(with(small_file("", 2)), "1 not listed (conv_in)"));
        CHECK(contains(with(small_file("conv_out", 2)), "1 without LoRA though listed (conv_out)"));
        CHECK(contains(with(small_file("conv_in", 2, false)), "has no state_dict_vae"));
        CHECK(contains(with("PK"), "it is no checkpoint that we know"));
    }

    TEST_CASE("read_osediff: another method's file is recognised") {
        const std::string ours = "OSEDiff needs its own osediff.pkl";
        const auto is = [&](const std::vector<std::string>& names, const char* owner) {
            const std::string sentence = refusal(names);
            CAPTURE(sentence);
            CHECK(contains(sentence, std::string("looks like ") + owner));
            CHECK(contains(sentence, ours));
        };
        is({"transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
            "transformer.transformer_blocks.0.attn.to_q.lora_B.weight"},
           "LoRA of TSD-SR");
        is({"module.body.1.conv_in.weight", "module.body.2.resnets.0.conv1.weight"}, "AdcSR's net");
        is({"state_dict.decoder.up_blocks.0.resnets.0.conv1.weight"}, "AdcSR's half decoder");
        is({"conv_in.lora_A.default_encoder_pix.weight"}, "PiSA-SR");
        is({"transformer_blocks.0.attn.add_q_proj.weight"}, "a part of Stable Diffusion 3");
        is({"unet.a.lora_A.weight", "vae.a.lora_A.weight"}, "LoRA of another model");
        is({"conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"}, "the UNet of a base");
        is({"encoder.conv_in.weight"}, "the VAE of a base");
        CHECK(contains(refusal(std::vector<std::string>{"conv1.weight"}),
                       "holds 1 tensors, but none as OSEDiff has them"));

        // Folders
        const auto folder_with = [&](const std::string& name) {
            const test::TemporaryFolder folder;
            write_file(folder.path() / name, "x");
            return refusal(folder.path());
        };
        CHECK(contains(folder_with("transformer.safetensors"), "looks like LoRA of TSD-SR"));
        CHECK(contains(folder_with("net_params_200.pkl"), "looks like AdcSR's weights"));
        CHECK(contains(folder_with("sdd.json"), "a student of SDD"));
        CHECK(contains(folder_with("unet/config.json"), "goes into --base"));
        CHECK(contains(folder_with("readme.txt"), "holds no osediff.pkl"));
        CHECK(contains(refusal(fs::path("/nowhere.pkl")), "/nowhere.pkl"));
    }
}
