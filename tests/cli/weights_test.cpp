// ultrasr-weights as a user meets it: help, inspect, convert, check.
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/file.h"
#include "data/weights/checkpoint.h"
#include "tests/cli/disk.h"
#include "tests/cli/program.h"
#include "tests/data/tensor_values.h"
#include "tests/test.h"

using namespace ultrasr;
using test::Ended;
using test::holds;
namespace fs = std::filesystem;

namespace {

Ended weights(const std::vector<std::string>& words) {
    return test::run_program("ultrasr-weights", words);
}

std::string checkpoint(const std::string& name) {
    return test::golden("checkpoints/" + name).string();
}

/// The entry of a file in the answer of check --json.
Json entry_of(const Ended& ended, const std::string& file) {
    const Json answer = parse_json(ended.out, "check");
    for (const Json& entry : answer.at("weights")) {
        if (entry.at("file") == file) return entry;
    }
    FAIL("no entry for " << file);
    return {};
}

}  // namespace

TEST_SUITE("cli") {
    TEST_CASE("ultrasr-weights --help: an example, and every sub-command with its own") {
        for (const std::vector<std::string>& words :
             std::vector<std::vector<std::string>>{{"--help"},
                                                   {"inspect", "--help"},
                                                   {"convert", "--help"},
                                                   {"merge-lora", "--help"},
                                                   {"check", "--help"}}) {
            const Ended help = weights(words);
            CHECK(help.exit == 0);
            CHECK(holds(help.out, "Example:\n  ultrasr-weights"));
        }
        CHECK(holds(weights({"convert", "--help"}).out, "--dtype bf16|f16|f32|keep"));
        CHECK(weights({"--version"}).exit == 0);
    }

    TEST_CASE("ultrasr-weights inspect: format, tensors and extras, as a table and as JSON") {
        const Ended text = weights({"inspect", checkpoint("training.pth")});
        REQUIRE(text.exit == 0);
        CHECK(holds(text.out, "format    zip-pickle"));
        CHECK(holds(text.out, "tensors   5"));
        CHECK(holds(text.out, "elements  9 (9 in 5 F32)"));
        CHECK(holds(text.out, "params_ema.b  F32   [3]"));
        CHECK(holds(text.out, "unet_lora_modules  [\"down.0\",\"mid\",\"up.1\"]"));

        const Ended json = weights({"inspect", checkpoint("script.pt"), "--json"});
        REQUIRE(json.exit == 0);
        const Json script = parse_json(json.out, "inspect");
        CHECK(script.at("file") == "script.pt");
        CHECK(script.at("format") == "torchscript");
        CHECK(script.at("bytes") == fs::file_size(checkpoint("script.pt")));
        CHECK(script.at("sha256") == sha256_of_file(checkpoint("script.pt")));
        CHECK(script.at("tensor_count") == 9);
        CHECK(script.at("elements") == 31);
        CHECK(script.at("dtypes").at("F16") == Json{{"tensors", 2}, {"elements", 20}});
        CHECK(script.at("tensors").at(2) ==
              Json{{"name", "visual.conv1.weight"}, {"dtype", "F16"}, {"shape", {2, 1, 3, 3}}});
        CHECK(script.at("extras").at("input_resolution") == 224);

        const Ended plain = weights({"inspect", checkpoint("plain.safetensors"), "--json"});
        CHECK(parse_json(plain.out, "inspect").at("metadata").at("format") == "pt");
    }

    TEST_CASE("ultrasr-weights inspect: a broken file ends with 3 and one sentence") {
        const Ended page = weights({"inspect", checkpoint("expected.json")});
        CHECK(page.exit == 3);
        CHECK(page.out.empty());
        CHECK(holds(page.err, "error: "));
        CHECK(holds(page.err, "expected.json: it is a JSON text"));
        const Ended json = weights({"inspect", checkpoint("float8.pth"), "--json"});
        CHECK(json.exit == 3);
        CHECK(holds(parse_json(json.out, "error").at("error").get<std::string>(),
                    "tensor bad: it is of the type torch.float8_e4m3fn"));
        CHECK(weights({"inspect", "/nowhere.pth"}).exit == 3);
        CHECK(weights({"inspect"}).exit == 2);
        CHECK(weights({}).exit == 2);
        CHECK(weights({"merge-lora"}).exit == 2);
        CHECK(weights({"inspect", checkpoint("script.pt"), "--device", "cuda"}).exit == 4);
    }

    TEST_CASE("ultrasr-weights convert: writes safetensors that says where it comes from") {
        const test::TemporaryFolder folder;
        const std::string out = (folder.path() / "new" / "out.safetensors").string();
        const Ended kept = weights({"convert", checkpoint("python2_ordered.pth"), out, "--json"});
        REQUIRE(kept.exit == 0);
        const Json answer = parse_json(kept.out, "convert");
        CHECK(answer.at("tensor_count") == 2);
        CHECK(answer.at("cast") == 0);
        CHECK(answer.at("sha256") == sha256_of_file(out));
        CHECK(answer.at("source").at("format") == "legacy-pickle");
        const Checkpoint written = read_checkpoint(out);
        CHECK(written.format() == CheckpointFormat::safetensors);
        CHECK(written.find("lin1.weight")->dtype == Dtype::f32);
        CHECK(written.metadata().at("source_file") == "python2_ordered.pth");

        // A second run replaces the file as a whole
        const Ended half =
            weights({"convert", checkpoint("state_dict.pth"), out, "--dtype", "bf16", "--json"});
        REQUIRE(half.exit == 0);
        CHECK(parse_json(half.out, "convert").at("cast") == 6);
        CHECK(parse_json(half.out, "convert").at("rounded").get<int>() > 50);
        CHECK(read_checkpoint(out).find("conv1.weight")->dtype == Dtype::bf16);
        CHECK(read_checkpoint(out).find("bn.num_batches_tracked")->dtype == Dtype::i64);
        CHECK(test::files_in(folder.path()) == std::vector<std::string>{"new/out.safetensors"});
    }

    TEST_CASE("ultrasr-weights convert: refuses what it cannot do and leaves nothing behind") {
        const test::TemporaryFolder folder;
        const std::string out = (folder.path() / "out.safetensors").string();
        CHECK(weights({"convert", checkpoint("sparse.pth"), out}).exit == 3);
        CHECK(weights({"convert", checkpoint("types.pth"), out, "--dtype", "f8"}).exit == 2);
        CHECK(weights({"convert", checkpoint("types.pth")}).exit == 2);
        CHECK(weights({"convert", checkpoint("types.pth"), "/dev/null/out"}).exit == 5);
        CHECK(test::files_in(folder.path()).empty());
        fs::copy_file(checkpoint("types.pth"), out);
        CHECK(weights({"convert", out, out}).exit == 2);
        CHECK(sha256_of_file(out) == sha256_of_file(checkpoint("types.pth")));
    }

    TEST_CASE("ultrasr-weights convert: memory does not grow with the file") {
        const test::TemporaryFolder folder;
        const fs::path from = folder.path() / "large.safetensors";
        const std::vector<float> values(1 << 20, 1.0f);
        std::vector<TensorHead> heads;
        for (int i = 0; i < 48; ++i) heads.push_back({std::to_string(i), Dtype::f32, {1 << 20}});
        stream_safetensors(from, heads, [&](std::size_t, const TakeBytes& take) {
            take(std::as_bytes(std::span(values)));
        });
        const std::string out = (folder.path() / "out.safetensors").string();
        const long small = weights({"convert", checkpoint("state_dict.pth"), out}).peak_kib;
        for (const char* type : {"keep", "f16"}) {
            const Ended large = weights({"convert", from.string(), out, "--dtype", type});
            CHECK(large.exit == 0);
            CHECK(large.peak_kib < small + 40 * 1024);  // of 192 MiB
        }
    }

    TEST_CASE("ultrasr-weights merge-lora: a file with a LoRA merged into it") {
        // Numbers that every step holds exactly
        const test::TemporaryFolder folder;
        const std::vector<float> w{1, 2, 3, 4, 5, 6}, a{1, 0, -1}, b{8, 16}, bias{1, 1};
        const auto view = [](const std::string& name, std::vector<std::int64_t> shape,
                             const std::vector<float>& values) {
            return TensorView{.name = name,
                              .dtype = Dtype::f32,
                              .shape = std::move(shape),
                              .bytes = std::as_bytes(std::span(values))};
        };
        const auto path = [&](const char* name) { return (folder.path() / name).string(); };
        write_safetensors(path("base.safetensors"),
                          std::vector{view("m.weight", {2, 3}, w), view("m.bias", {2}, bias)});
        write_safetensors(
            path("lora.safetensors"),
            std::vector{view("m.lora_A.weight", {1, 3}, a), view("m.lora_B.weight", {2, 1}, b)});
        const Ended merged =
            weights({"merge-lora", path("base.safetensors"), path("lora.safetensors"),
                     path("out.safetensors"), "--dtype", "bf16", "--scale", "0.5", "--json"});
        REQUIRE(merged.exit == 0);
        const Json component = parse_json(merged.out, "merge").at("components").at(0);
        CHECK(component.at("merged") == 1);
        CHECK(component.at("tensor_count") == 2);
        const Checkpoint out = read_checkpoint(path("out.safetensors"));
        CHECK(out.find("m.weight")->dtype == Dtype::bf16);
        CHECK(test::values_of(*out.find("m.weight")) == std::vector<double>{5, 2, -1, 12, 5, -2});
        CHECK(test::values_of(*out.find("m.bias")) == std::vector<double>{1, 1});

        // Refusals, and nothing left behind
        const auto refused = [&](const std::vector<std::string>& words) {
            std::vector<std::string> all{"merge-lora"};
            all.insert(all.end(), words.begin(), words.end());
            return weights(all);
        };
        const Ended other =
            refused({path("base.safetensors"), path("base.safetensors"), path("x")});
        CHECK(other.exit == 3);
        CHECK(holds(other.err, "holds no LoRA"));
        write_safetensors(
            path("lora2.safetensors"),
            std::vector{view("n.lora_A.weight", {1, 3}, a), view("n.lora_B.weight", {2, 1}, b)});
        const Ended missing =
            refused({path("base.safetensors"), path("lora2.safetensors"), path("x")});
        CHECK(missing.exit == 3);
        CHECK(holds(missing.err, "changes: n; they belong to different models"));
        CHECK(
            refused({path("base.safetensors"), path("lora.safetensors"), path("base.safetensors")})
                .exit == 2);
        CHECK(refused({path("none"), path("lora.safetensors"), path("x")}).exit == 3);
        CHECK(refused({folder.path().string(), path("lora.safetensors"), path("x")}).exit == 3);
        CHECK(test::files_in(folder.path()).size() == 4);
    }

    TEST_CASE("ultrasr-weights check: lists every known file and its state, and ends with 0") {
        const Ended all = weights({"check", "--json"});
        REQUIRE(all.exit == 0);
        CHECK(entry_of(all, "LPIPS_v0.1_alex-df73285e.pth").at("state") == "verified");
        CHECK(entry_of(all, "realesr-general-x4v3.safetensors").at("state") == "verified");
        const Ended text = weights({"check"});
        CHECK(text.exit == 0);
        CHECK(holds(text.out, "verified    LPIPS_v0.1_alex-df73285e.pth"));
    }

    TEST_CASE("ultrasr-weights check NAME: 3 when a file is missing or wrong, with what to do") {
        const Ended good = weights({"check", "realesrgan-x4plus", "--json"});
        CHECK(good.exit == 0);
        CHECK(parse_json(good.out, "check").at("weights").size() == 1);

        // Of a folder of its own, with one file that is not what its name says
        const test::TemporaryFolder folder;
        write_file(folder.path() / "RealESRGAN_x4plus.safetensors", "something else");
        const std::vector<std::string> words{"check", "realesrgan-x4plus", "musiq-spaq",
                                             "--weights", folder.path().string()};
        const Ended text = weights(words);
        CHECK(text.exit == 3);
        CHECK(holds(text.out, "wrong       RealESRGAN_x4plus.safetensors"));
        CHECK(holds(text.out, "missing     musiq_spaq_ckpt-358bb6af.pth"));
        CHECK(holds(text.out, "belongs into " + folder.path().string()));
        CHECK(holds(text.out, "https://"));
        CHECK(holds(text.err,
                    "error: not usable: RealESRGAN_x4plus.safetensors (wrong), "
                    "musiq_spaq_ckpt-358bb6af.pth (missing)"));
        std::vector<std::string> with_json = words;
        with_json.push_back("--json");
        const Ended json = weights(with_json);
        CHECK(json.exit == 3);
        CHECK(entry_of(json, "RealESRGAN_x4plus.safetensors").at("state") == "wrong");
        CHECK(entry_of(json, "RealESRGAN_x4plus.safetensors").at("sha256") ==
              sha256("something else"));
        const Json missing = entry_of(json, "musiq_spaq_ckpt-358bb6af.pth");
        CHECK(missing.at("state") == "missing");
        CHECK(holds(missing.at("advice").get<std::string>(),
                    missing.at("address").get<std::string>()));

        // A file by its own name; without a recorded hash it is there and not verified
        write_file(folder.path() / "BSRGAN.safetensors", "x");
        const Ended file =
            weights({"check", "BSRGAN.safetensors", "--weights", folder.path().string(), "--json"});
        CHECK(file.exit == 0);
        CHECK(entry_of(file, "BSRGAN.safetensors").at("state") == "unverified");
    }

    TEST_CASE("ultrasr-weights check: an unknown name lists the known ones") {
        const Ended unknown = weights({"check", "lpisp"});
        CHECK(unknown.exit == 2);
        CHECK(holds(unknown.err, "no weight file is known for 'lpisp'"));
        CHECK(holds(unknown.err, "lpips-alex, lpips-vgg"));
    }
}
