#include "models/one_step_files.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <limits>

#include <nlohmann/json.hpp>

#include "data/tensor/named_tensors.h"
#include "models/text/prompt.h"
#include "tests/metrics/generated_weights.h"
#include "tests/models/one_step_goldens.h"
#include "tests/one_step_student.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using test::contains;
using test::sentence_of;
namespace fs = std::filesystem;

namespace {

at::Tensor input(const std::string& name, at::IntArrayRef shape) {
    return test::generated_tensor("input.files." + name, shape);
}

/// What a model makes of a small picture, all of it.
at::Tensor outcome(const OneStepModel& model) {
    const at::Tensor x = input("x", {1, 3, 64, 64}) * 0.2 + 0.5;
    const at::Tensor c = input("c", {1, 77, model.unet().config().cross_attention_dim});
    const OneStepResult r = model.restore(x, c, {.tiles = {}, .noise = {}, .taps = {}});
    return at::cat({r.z_lr.flatten(), r.epsilon.flatten(), r.x_hr.flatten()});
}

void copy_family(const fs::path& to) {
    fs::copy(test::one_step_family(), to, fs::copy_options::recursive);
}

/// A base that holds what the whole state dicts of merged.pkl need: configurations.
void make_configs(const fs::path& base, const Json& configs) {
    write_file(base / "unet/config.json", dump_json(configs.at("unet")));
    write_file(base / "vae/config.json", dump_json(configs.at("vae")));
    fs::create_directories(base / "scheduler");
    fs::copy_file(test::one_step_family() / "scheduler/scheduler_config.json",
                  base / "scheduler/scheduler_config.json");
}

/// Rewrites a safetensors file of the folder with other tensors.
template <class Change>
void change_tensors(const fs::path& file, const Change& change) {
    NamedTensors tensors = load_tensors(file);
    for (auto& [name, tensor] : tensors) tensor = tensor.clone();  // let go of the mapped file
    change(tensors);
    save_tensors(file, tensors);
}

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("load_osediff: whole state dicts in float16 compute what diffusers computes") {
        const Json golden = test::one_step_golden("merged.json");
        const Json& c = golden.at("cases").at(0);
        const test::TemporaryFolder folder;
        make_configs(folder.path(), golden.at("configs"));
        const LoadedOneStep loaded =
            load_osediff(folder.path(), test::golden("one_step/merged.pkl"), {});
        REQUIRE(loaded.records.size() == 1);  // no weights of the base
        CHECK(loaded.records[0].file == "merged.pkl");

        const c10::InferenceMode guard;
        const OneStepModel& model = loaded.model;
        const Json& outputs = c.at("outputs");
        const at::Tensor z = test::golden_input(c, "z");
        CHECK(test::distance_to_values(model.unet().forward(z, 999, test::golden_input(c, "ctx")),
                                       outputs.at("sample")) < 2e-5);
        const Posterior p = model.vae().encode(test::golden_input(c, "image") * 0.5 + 0.5);
        CHECK(test::distance_to_values(at::cat({p.mean / p.scale, p.logvar}, 1),
                                       outputs.at("moments")) < 2e-5);
        CHECK(test::distance_to_values(model.vae().decode(z * p.scale) * 2.0 - 1.0,
                                       outputs.at("decoded")) < 1e-4);
    }
}

TEST_SUITE("unit") {
    TEST_CASE("load_osediff: adapters change the base; records name every file") {
        const fs::path family = test::one_step_family();
        const LoadedOneStep base = load_base_model(family, {});
        const LoadedOneStep adapted =
            load_osediff(family, test::golden("one_step/osediff.pkl"), {});
        CHECK(test::largest_difference(outcome(base.model), outcome(adapted.model)) > 0.01);
        CHECK(base.records.size() == 3);  // two shards, one VAE
        REQUIRE(adapted.records.size() == 4);
        CHECK(adapted.records[0].file == "osediff.pkl");
        for (const WeightRecord& r : adapted.records) {
            CHECK(r.sha256.size() == 64);
            CHECK_FALSE(r.verified);
        }
        CHECK(adapted.model.timestep() == 999);
        CHECK_FALSE(adapted.prompt.has_value());
    }

    TEST_CASE("load_osediff: a folder, with the prompt beside the file") {
        const test::TemporaryFolder folder;
        fs::copy_file(test::golden("one_step/osediff.pkl"), folder.path() / "osediff.pkl");
        test::write_prompt(folder.path() / "prompt.safetensors", 20);
        for (const fs::path& path : {folder.path(), folder.path() / "osediff.pkl"}) {
            const auto prompt = load_osediff(test::one_step_family(), path, {}).prompt;
            REQUIRE(prompt.has_value());
            CHECK(prompt->string() == (folder.path() / "prompt.safetensors").string());
        }
    }

    TEST_CASE("load_base_model: one file or shards, old names of the VAE or today's, are one") {
        const fs::path family = test::one_step_family();
        const at::Tensor expected = outcome(load_base_model(family, {}).model);
        const test::TemporaryFolder folder;
        copy_family(folder.path() / "b");
        const fs::path unet = folder.path() / "b/unet", vae = folder.path() / "b/vae";
        for (const auto& entry : fs::directory_iterator(unet)) {
            if (entry.path().filename() != "config.json") fs::remove(entry.path());
        }
        test::join_weights(family / "unet", unet / "diffusion_pytorch_model.fp16.safetensors");
        std::size_t old = 0;
        change_tensors(vae / "diffusion_pytorch_model.safetensors", [&](NamedTensors& tensors) {
            NamedTensors renamed;
            for (const auto& [name, tensor] : tensors) {
                const std::string today = standard_name(name);
                old += today != name ? 1 : 0;
                renamed["vae." + today] = tensor;
            }
            tensors = renamed;
        });
        CHECK(old == 16);  // two attentions of four layers, weight and bias
        CHECK(test::largest_difference(outcome(load_base_model(folder.path() / "b", {}).model),
                                       expected) == 0.0);
    }

    TEST_CASE("load_sdd_student: a folder computes as the family that it was made from") {
        const test::TemporaryFolder folder;
        test::make_student(folder.path());
        const LoadedOneStep student = load_sdd_student(folder.path(), {});
        const LoadedOneStep base = load_base_model(test::one_step_family(), {});
        CHECK(test::largest_difference(outcome(student.model), outcome(base.model)) == 0.0);
        REQUIRE(student.records.size() == 2);
        CHECK(student.records[0].file == "unet.safetensors");
        REQUIRE(student.prompt.has_value());
        CHECK(student.prompt->string() == (folder.path() / "prompt.safetensors").string());

        // The timestep is the file's
        Json config = test::json_file(folder.path() / "config.json");
        config["timestep"] = 500;
        write_file(folder.path() / "config.json", dump_json(config));
        fs::remove(folder.path() / "prompt.safetensors");
        const LoadedOneStep other = load_sdd_student(folder.path(), {});
        CHECK(other.model.timestep() == 500);
        CHECK(test::largest_difference(outcome(other.model), outcome(base.model)) > 0.01);
        CHECK_FALSE(other.prompt.has_value());
    }

    TEST_CASE("load_sdd_student: what is missing or contradictory is one sentence") {
        const test::TemporaryFolder folder;
        const auto error = [&] {
            return sentence_of(Fault::input, [&] { load_sdd_student(folder.path() / "s", {}); });
        };
        CHECK(contains(error(), "no SDD student folder"));
        fs::create_directories(folder.path() / "s");
        CHECK(contains(error(), "config.json is missing"));
        test::make_student(folder.path() / "s");
        const Json config = test::json_file(folder.path() / "s/config.json");
        const auto with = [&](const char* key, const Json& value) {
            Json changed = config;
            changed[key] = value;
            write_file(folder.path() / "s/config.json", dump_json(changed));
            return error();
        };
        CHECK(contains(with("vae", 3), "has no object \"vae\""));
        CHECK(contains(with("timestep", "last"), "\"timestep\" is \"last\""));
        CHECK(contains(with("timestep", 1000), "1000"));
        CHECK(contains(with("timestep", -1), "-1"));
        write_file(folder.path() / "s/config.json", dump_json(config));
        fs::remove(folder.path() / "s/vae.safetensors");
        CHECK(contains(error(), "vae.safetensors is missing"));
    }

    TEST_CASE("loading: missing and surplus tensors, the first ten of each, with the file's name") {
        const test::TemporaryFolder folder;
        test::make_student(folder.path());
        std::vector<std::string> taken;
        change_tensors(folder.path() / "unet.safetensors", [&](NamedTensors& tensors) {
            while (taken.size() < 12) {
                taken.push_back(tensors.begin()->first);
                tensors.erase(tensors.begin());
            }
            for (int i = 10; i < 22; ++i) {
                tensors[fmt::format("surplus.{}", i)] = input("s", {2});
            }
        });
        const std::string text =
            sentence_of(Fault::input, [&] { load_sdd_student(folder.path(), {}); });
        CAPTURE(text);
        CHECK(contains(text, "unet.safetensors"));
        CHECK(std::ranges::count_if(taken,
                                    [&](const auto& name) { return contains(text, name); }) == 10);
        CHECK(contains(text, "surplus.10"));
        CHECK(contains(text, "surplus.19"));
        CHECK_FALSE(contains(text, "surplus.20"));
        CHECK(contains(text, "12"));  // how many in all
    }

    TEST_CASE(
        "loading: a config that disagrees with the weights, and weights that are not finite") {
        const test::TemporaryFolder folder;
        test::make_student(folder.path());
        Json config = test::json_file(folder.path() / "config.json");
        config["unet"]["block_out_channels"][0] = 32;
        write_file(folder.path() / "config.json", dump_json(config));
        const std::string shapes =
            sentence_of(Fault::input, [&] { load_sdd_student(folder.path(), {}); });
        CAPTURE(shapes);
        CHECK(contains(shapes, "unet.safetensors"));
        CHECK(contains(shapes, "conv_in.weight"));
        CHECK(contains(shapes, "[32, 4, 3, 3]"));
        CHECK(contains(shapes, "[8, 4, 3, 3]"));

        test::make_student(folder.path());
        change_tensors(folder.path() / "vae.safetensors", [](NamedTensors& tensors) {
            tensors.at("decoder.conv_in.bias")[0] = std::numeric_limits<float>::quiet_NaN();
        });
        const std::string nan =
            sentence_of(Fault::input, [&] { load_sdd_student(folder.path(), {}); });
        CAPTURE(nan);
        CHECK(contains(nan, "vae.safetensors"));
        CHECK(contains(nan, "decoder.conv_in.bias"));
    }

    TEST_CASE("load_osediff: adapters for another base are refused by module") {
        const test::TemporaryFolder folder;
        const Json golden = test::one_step_golden("merged.json");
        copy_family(folder.path() / "b");
        // A smaller UNet under a file of the larger one's adapters
        const fs::path unet = folder.path() / "b/unet";
        for (const auto& entry : fs::directory_iterator(unet)) fs::remove(entry.path());
        write_file(unet / "config.json", dump_json(golden.at("configs").at("unet")));
        NamedTensors tensors;
        for (const auto& [name, shape] :
             UNet::tensor_shapes(UNetConfig::from_json(golden.at("configs").at("unet"), "test"))) {
            tensors[name] = test::generated_tensor(name, shape);
        }
        save_tensors(unet / "diffusion_pytorch_model.safetensors", tensors);
        const std::string text = sentence_of(Fault::input, [&] {
            load_osediff(folder.path() / "b", test::golden("one_step/osediff.pkl"), {});
        });
        CAPTURE(text);
        CHECK(contains(text, "osediff.pkl"));
        CHECK(contains(text, "mid_block.resnets.0.conv1"));
        CHECK(contains(text, "belong to different models"));
    }
}
