#include "models/diffusion_method.h"

#include <ATen/TensorOperators.h>

#include <set>

#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "data/image.h"
#include "data/tensor/named_tensors.h"
#include "models/text/prompt.h"
#include "tests/models/formula_picture.h"
#include "tests/models/nets.h"
#include "tests/one_step_student.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using test::contains;
using test::sentence_of;
namespace fs = std::filesystem;

namespace {

/// A student, its method by the registry's way, and requests.
struct Student {
    Student() { test::make_student(folder.path() / "s"); }

    MethodPtr make(const std::function<void(MethodOptions&)>& change = {}) const {
        MethodOptions options;
        options.diffusion.models[""] = folder.path() / "s";
        options.diffusion.base = test::one_step_family();
        if (change) change(options);
        const MethodSpec spec = parse_method("sdd");
        return spec.info->make(options, spec.argument);
    }

    static Image restored(const Method& method, const Image& lr, double scale = 4.0,
                          const std::string& stem = "a") {
        const auto grown = [&](int side) { return static_cast<int>(std::lround(scale * side)); };
        return method.restore(lr, {stem, {grown(lr.width()), grown(lr.height())}, {scale}});
    }

    test::TemporaryFolder folder;
};

std::string setting(const Method& method, const std::string& key) {
    for (const auto& [name, value] : method.provenance().settings) {
        if (name == key) return value;
    }
    return "no such setting";
}

const Image lr = test::picture(16, 12);

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("sdd: any scale from 1 to 16, fractional ones, odd and tiny pictures") {
        const Student student;
        const MethodPtr method = student.make();
        for (const double scale : {1.0, 1.37, 2.0, 3.5, 8.0, 16.0}) {
            CAPTURE(scale);
            const Image sr = Student::restored(*method, test::picture(9, 7), scale);
            CHECK(sr.size() == PixelSize{static_cast<int>(std::lround(scale * 9)),
                                         static_cast<int>(std::lround(scale * 7))});
            CHECK(test::equal_bits(sr, quantise_8bit(sr)));
        }
        CHECK(Student::restored(*method, test::picture(1, 1), 1.0).size() == PixelSize{1, 1});
        CHECK(Student::restored(*method, test::picture(1, 1), 10.0).size() == PixelSize{10, 10});
        CHECK(Student::restored(*method, test::picture(1, 19), 4.0).size() == PixelSize{4, 76});
        // A target that is no multiple of the LR
        CHECK(method->restore(lr, {"a", {61, 50}, {4.0}}).size() == PixelSize{61, 50});
    }

    TEST_CASE(
        "diffusion methods: the same bytes again; the seed matters to a sampled latent only") {
        const Student student;
        const auto sampled = [&](std::uint64_t seed) {
            return student.make([&](MethodOptions& o) {
                o.diffusion.latent = LatentChoice::sample;
                o.diffusion.seed = seed;
            });
        };
        const Image mean = Student::restored(*student.make(), lr);
        CHECK(test::equal_bits(
            mean,
            Student::restored(*student.make([](MethodOptions& o) { o.diffusion.seed = 5; }), lr)));
        const Image first = Student::restored(*sampled(1), lr);
        CHECK(test::equal_bits(first, Student::restored(*sampled(1), lr)));
        CHECK_FALSE(test::equal_bits(first, mean));
        CHECK_FALSE(test::equal_bits(first, Student::restored(*sampled(2), lr)));
        // Another picture, another noise: by its stem, not by its turn
        CHECK_FALSE(test::equal_bits(first, Student::restored(*sampled(1), lr, 4.0, "b")));
        CHECK(setting(*sampled(2), "latent") == "sample, seed 2");
        CHECK(setting(*student.make(), "latent") == "mean");
    }

    TEST_CASE("diffusion methods: the prompt beside the model, given, from files; each its run") {
        const Student student;
        const fs::path prompts = student.folder.path() / "prompts";
        write_file(prompts / "a.txt", "a house");
        write_file(prompts / "b.txt", "a tree");
        const auto given = [&](const std::string& text) {
            return student.make([&](MethodOptions& o) { o.diffusion.prompt = text; });
        };
        const auto from = [&](const fs::path& path) {
            return student.make([&](MethodOptions& o) { o.diffusion.prompt_files = path; });
        };
        const Image own = Student::restored(*student.make(), lr);
        const Image house = Student::restored(*given("a house"), lr);
        CHECK_FALSE(test::equal_bits(own, house));
        CHECK_FALSE(test::equal_bits(house, Student::restored(*given(""), lr)));
        // Folded into the network or not: up to rounding, a level
        const MethodPtr files = from(prompts);
        const auto differ = [](const Image& a, const Image& b) {
            double worst = 0.0;
            const auto x = test::values_of(a), y = test::values_of(b);
            for (std::size_t i = 0; i < x.size(); ++i) {
                worst = std::max(worst, std::abs(static_cast<double>(x[i]) - y[i]));
            }
            return worst * 255.0;
        };
        CHECK(differ(Student::restored(*files, lr, 4.0, "a"), house) < 1.01);
        CHECK(differ(Student::restored(*files, lr, 4.0, "b"),
                     Student::restored(*given("a tree"), lr)) < 1.01);
        CHECK(test::equal_bits(
            Student::restored(*from(student.folder.path() / "s/prompt.safetensors"), lr), own));

        // What a journal compares
        CHECK(setting(*student.make(), "prompt") == "by place");
        CHECK(setting(*given("a house"), "prompt") == "a house");
        const std::string before = setting(*files, "prompt");
        write_file(prompts / "b.txt", "two trees");
        CHECK(setting(*from(prompts), "prompt") != before);
        CHECK(files->provenance().weights.size() == given("x")->provenance().weights.size());

        // Faults
        CHECK(contains(sentence_of(Fault::input, [&] { Student::restored(*files, lr, 4.0, "c"); }),
                       "c.txt"));
        CHECK(contains(sentence_of(Fault::input, [&] { from(student.folder.path() / "none"); }),
                       "no folder of prompts"));
        CHECK(contains(sentence_of(Fault::usage,
                                   [&] {
                                       student.make([&](MethodOptions& o) {
                                           o.diffusion.prompt = "x";
                                           o.diffusion.prompt_files = prompts;
                                       });
                                   }),
                       "exclude each other"));
    }

    TEST_CASE("diffusion methods: a model for one label, for one method, or for whichever asks") {
        const Student student;
        const auto chosen = [&](const std::map<std::string, fs::path>& models) -> std::string {
            return diffusion_model(test::with([&](MethodOptions& o) {
                                       o.label = "mine";
                                       o.weights = "w";
                                       o.diffusion.models = models;
                                   }),
                                   "sdd");
        };
        CHECK(chosen({}) == "w/sdd");
        CHECK(chosen({{"", "any"}}) == "any");
        CHECK(chosen({{"", "any"}, {"sdd", "method"}}) == "method");
        CHECK(chosen({{"mine", "label"}, {"sdd", "method"}}) == "label");
        CHECK(chosen({{"other", "label"}}) == "w/sdd");
    }

    TEST_CASE("diffusion methods: what is missing is one sentence with place, source and option") {
        const test::TemporaryFolder empty;
        const auto error = [&](const char* name,
                               const std::function<void(MethodOptions&)>& change) {
            return sentence_of(Fault::input, [&] {
                MethodOptions options;
                options.weights = empty.path();
                change(options);
                parse_method(name).info->make(options, "");
            });
        };
        const std::string base = error("osediff", [](MethodOptions&) {});
        CHECK(contains(base, (empty.path() / "sd2-1-base").string() + " is missing"));
        CHECK(contains(base, "stable-diffusion-2-1-base"));
        CHECK(contains(base, "--base"));
        const std::string model =
            error("osediff", [](MethodOptions& o) { o.diffusion.base = test::one_step_family(); });
        CHECK(contains(model, (empty.path() / "osediff").string() + " is missing"));
        CHECK(contains(model, "https://github.com/cswry/OSEDiff"));
        CHECK(contains(model, "--model"));
        const std::string student =
            error("sdd", [](MethodOptions& o) { o.diffusion.models["sdd"] = "nowhere"; });
        CHECK(contains(student, "nowhere is missing"));
        CHECK(contains(student, "--model"));
        CHECK(contains(error("osediff",
                             [](MethodOptions& o) {
                                 o.diffusion.base = test::one_step_family();
                                 o.diffusion.models[""] = test::one_step_family();
                             }),
                       "a model family, which goes into --base"));
    }

    TEST_CASE("diffusion methods: tiles and their overlap; impossible ones are usage errors") {
        const Student student;
        const auto tiled = [&](int tile, int overlap) {
            return student.make([&](MethodOptions& o) {
                o.tile = tile;
                o.tile_pad = overlap;
            });
        };
        CHECK(setting(*student.make(), "tile") == "96");
        CHECK(setting(*student.make(), "tile-overlap") == "32");
        CHECK(setting(*tiled(24, -1), "tile-overlap") == "8");
        CHECK(setting(*tiled(0, -1), "tile") == "0");
        for (const auto& [tile, overlap] : {std::pair{8, 8}, std::pair{8, 9}, std::pair{1, 1}}) {
            CHECK(contains(sentence_of(Fault::usage, [&] { tiled(tile, overlap); }),
                           "--tile-overlap"));
        }
        // A picture that fits a tile is restored whole
        const Image whole = Student::restored(*tiled(0, -1), lr, 10.0);
        CHECK(test::equal_bits(whole, Student::restored(*student.make(), lr, 10.0)));
        CHECK_FALSE(test::equal_bits(whole, Student::restored(*tiled(8, 4), lr, 10.0)));
    }

    TEST_CASE("diffusion methods: a half of a processor that has none is refused") {
        const Student student;
        CHECK(contains(
            sentence_of(
                Fault::device,
                [&] { student.make([](MethodOptions& o) { o.precision = Precision::fp16; }); }),
            "fp16"));
    }

    TEST_CASE("diffusion methods: dumps hold what lies between, and the UNet's blocks on demand") {
        const Student student;
        const auto names = [&](bool taps, int tile) {
            const MethodPtr method = student.make([&](MethodOptions& o) {
                o.diffusion.dump_taps = taps;
                o.tile = tile;
            });
            RestoreRequest request{"a", {64, 100}, {4.0}};
            request.dump = student.folder.path() / "dumps/deep/a.safetensors";
            method->restore(lr, request);
            std::set<std::string> found;
            for (const auto& [name, tensor] : load_tensors(request.dump)) {
                CHECK((tensor.scalar_type() == at::kFloat));
                found.insert(name);
            }
            return found;
        };
        CHECK(names(false, 0) == std::set<std::string>{"pred", "sr", "z", "z_hr"});
        std::set<std::string> blocks = names(true, 0);
        CHECK(blocks.contains("conv_in"));
        CHECK(blocks.contains("mid_block"));
        CHECK(blocks.contains("down_blocks.0"));
        CHECK(blocks.contains("up_blocks.1"));
        CHECK_FALSE(blocks.contains("mid_block.resnets.0"));
        CHECK_FALSE(blocks.contains("tile0001.conv_in"));
        blocks = names(true, 8);
        CHECK(blocks.contains("conv_in"));
        CHECK(blocks.contains("tile0001.conv_in"));
    }

    TEST_CASE("diffusion methods: seconds by part; a prompt for each picture adds two") {
        const Student student;
        const auto parts = [&](const MethodPtr& method) {
            StageTimes times;
            RestoreRequest request{"a", {32, 24}, {2.0}};
            request.times = &times;
            method->restore(lr, request);
            std::vector<std::string> names;
            for (const auto& [name, seconds] : times.stages()) {
                names.push_back(name);
                CHECK(seconds >= 0.0);
            }
            return names;
        };
        CHECK(parts(student.make()) ==
              std::vector<std::string>{"resize", "encode", "unet", "decode", "colour"});
        write_file(student.folder.path() / "p/a.txt", "words");
        const MethodPtr reader = student.make(
            [&](MethodOptions& o) { o.diffusion.prompt_files = student.folder.path() / "p"; });
        CHECK(parts(reader) == std::vector<std::string>{"resize", "prompt", "text", "encode",
                                                        "unet", "decode", "colour"});

        // What they cost
        const RestoreRequest request{"a", {100, 60}, {4.0}};
        const Cost whole = *student.make()->cost(lr.size(), request);
        REQUIRE(whole.parts.size() == 3);  // the prompt was read by somebody else
        CHECK(whole.parts[0].name == "encode");
        CHECK(whole.parts[1].macs() ==
              unet_cost(UNetConfig::from_json(
                            test::json_file(test::one_step_family() / "unet/config.json"), "test"),
                        8, 16, 77)
                  .macs());
        const Cost with_text = *reader->cost(lr.size(), request);
        REQUIRE(with_text.parts.size() == 4);
        CHECK(with_text.macs() - with_text.parts[0].macs() == whole.macs());
        const MethodPtr constant =
            student.make([](MethodOptions& o) { o.diffusion.prompt = "words"; });
        CHECK(constant->cost(lr.size(), request)->macs() == whole.macs());
        CHECK(constant->cost(lr.size(), request)->parameters() == with_text.parameters());
    }

    TEST_CASE("diffusion methods: settings name every choice that changes pixels") {
        const Student student;
        const MethodPtr plain = student.make();
        const Provenance p = plain->provenance();
        CHECK(p.kind == "diffusion");
        CHECK(p.rounding == "half to even");
        CHECK(setting(*plain, "parity") == "no");
        CHECK(setting(*plain, "color-fix") == "adain");
        const MethodPtr official =
            student.make([](MethodOptions& o) { o.diffusion.parity = true; });
        CHECK(official->provenance().rounding == "truncated");
        CHECK(setting(*official, "parity") == "official");
        CHECK(setting(*official, "latent") == "sample, seed 0");
        const MethodPtr mixed = student.make([](MethodOptions& o) {
            o.diffusion.parity = true;
            o.diffusion.latent = LatentChoice::mean;
            o.diffusion.rounding = Rounding::half_even;
            o.diffusion.color_fix = ColorFix::none;
        });
        CHECK(mixed->provenance().rounding == "half to even");
        CHECK(setting(*mixed, "latent") == "mean");
        CHECK(setting(*mixed, "color-fix") == "none");
        for (const auto& [key, value] : p.settings) CHECK_FALSE(contains(value, "/"));
    }

    TEST_CASE("diffusion methods: too little memory is said before anything is enlarged") {
        const Student student;
        const MethodPtr method =
            student.make([](MethodOptions& o) { o.diffusion.memory_gib = 0.2; });
        CHECK(Student::restored(*method, lr).size() == PixelSize{64, 48});
        const std::string text = sentence_of(Fault::device, [&] {
            method->restore(lr, {"a", {16384, 12288}, {1024.0}});
        });
        CAPTURE(text);
        CHECK(contains(text, "16384 x 12288 pixels take"));
        CHECK(contains(text, "0.2 are free"));
        CHECK(contains(text, "would fit"));
    }
}
