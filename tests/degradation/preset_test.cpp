// The published parameter sets cell by cell, and files of options with all their faults.
#include "degradation/preset.h"

#include "data/file.h"
#include "degradation/preset_yaml.h"
#include "tests/degradation/steps.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

Json preset(const std::string& name) {
    for (const Preset& p : presets()) {
        if (p.name == name) return p.json();
    }
    fail(Fault::internal, "no preset {}", name);
}

/// degradation.md 2, row by row; an empty cell is as the one to its left. The row of blur sizes is
/// inert (T9), pools are not used, prompts and network ranges are not the degradation's.
const std::vector<std::string> columns{"realesrgan", "osediff", "seesr",    "seesr-mild",
                                       "pisasr",     "adcsr",   "stablesr", "stablesr-768"};
const std::vector<std::pair<std::string, std::vector<std::string>>> table{
    {"resize_prob", {"[.2,.7,.1]", "", "", "", "", "", "", ""}},
    {"resize_range", {"[.15,1.5]", "", "", "[.3,1.5]", "", "", "", ""}},
    {"gaussian_noise_prob", {".5", "", "", "", "", "", "", ""}},
    {"noise_range", {"[1,30]", "", "", "[1,15]", "", "", "", ""}},
    {"poisson_scale_range", {"[.05,3]", "", "", "[.05,2]", "", "", "", ""}},
    {"gray_noise_prob", {".4", "", "", "", "", "", "", ""}},
    {"jpeg_range", {"[30,95]", "", "", "[60,95]", "", "", "", ""}},
    {"second_blur_prob", {".8", "", "", ".5", "", "", "", ""}},
    {"resize_prob2", {"[.3,.4,.3]", "", "", "", "", "", "", ""}},
    {"resize_range2", {"[.3,1.2]", "", "", "[.6,1.2]", "", "", "", ""}},
    {"gaussian_noise_prob2", {".5", "", "", "", "", "", "", ""}},
    {"noise_range2", {"[1,25]", "", "", "[1,12]", "", "", "", ""}},
    {"poisson_scale_range2", {"[.05,2.5]", "", "", "[.05,1]", "", "", "", ""}},
    {"gray_noise_prob2", {".4", "", "", "", "", "", "", ""}},
    {"jpeg_range2", {"[30,95]", "", "", "[60,100]", "", "", "", "[60,95]"}},
    {"kernel_prob", {"[.45,.25,.12,.03,.12,.03]", "", "", "", "", "", "", ""}},
    {"kernel_prob2", {"[.45,.25,.12,.03,.12,.03]", "", "", "", "", "", "", ""}},
    {"sinc_prob", {".1", "", "", "", "", "", "", ""}},
    {"sinc_prob2", {".1", "", "", "", "", "", "", ""}},
    {"blur_sigma", {"[.2,3]", "", "", "", "", "[.2,1.5]", "", ""}},
    {"betag_range", {"[.5,4]", "", "", "", "", "[.5,2]", "", ""}},
    {"betap_range", {"[1,2]", "", "", "", "", "[1,1.5]", "", ""}},
    {"blur_sigma2", {"[.2,1.5]", "", "", "", "", "[.2,1]", "", ""}},
    {"betag_range2", {"[.5,4]", "", "", "", "", "[.5,2]", "", ""}},
    {"betap_range2", {"[1,2]", "", "", "", "", "[1,1.5]", "", ""}},
    {"fixed_kernel_size", {"0", "", "", "", "", "", "", ""}},
    {"fixed_kernel_size2", {"0", "", "", "", "", "", "", ""}},
    {"final_sinc_prob", {".8", "", "", "", "", "", "", ""}},
    {"patch", {"400", "512", "", "", "", "", "", "768"}},
    {"paired_crop", {"256", "0", "", "", "", "", "", ""}},
    {"usm", {"true", "false", "true", "false", "", "", "true", "false"}},
    {"gt_saved", {"'plain'", "", "'usm'", "'plain'", "", "", "", ""}},
    {"no_degradation_prob", {"0", "", "", "", "", "", ".01", "0"}},
    {"quantize",
     {"'lr'", "'after_resize_back'", "'none'", "'after_resize_back'", "", "'lr'", "'none'", ""}},
    {"resize_back", {"'none'", "'random'", "'bicubic'", "'random'", "", "'none'", "'bicubic'", ""}},
    // Parity everywhere
    {"pipeline", {"'second_order'", "", "", "", "", "", "", ""}},
    {"resize1_align", {"'parity'", "", "", "", "", "", "", ""}},
    {"resize1_scaled", {"false", "", "", "", "", "", "", ""}},
    {"resize2_min_px", {"0", "", "", "", "", "", "", ""}},
    {"resize_antialias", {"'off'", "", "", "", "", "", "", ""}},
    {"resize_antialias_prob", {".5", "", "", "", "", "", "", ""}},
    {"blur_scale", {"'none'", "", "", "", "", "", "", ""}},
    {"jpeg_pad", {"'zero'", "", "", "", "", "", "", ""}},
    {"jpeg_backend", {"'diff'", "", "", "", "", "", "", ""}},
    {"poisson_vals", {"'content'", "", "", "", "", "", "", ""}},
    {"noise2_field", {"'independent'", "", "", "", "", "", "", ""}},
    {"lr_size_rule", {"'floor'", "", "", "", "", "", "", ""}},
    {"hflip_prob", {".5", "", "", "", "", "", "", ""}},
    {"vflip_prob", {"0", "", "", "", "", "", "", ""}},
    {"transpose_prob", {"0", "", "", "", "", "", "", ""}},
    {"extra_steps", {"[]", "", "", "", "", "", "", ""}},
};

/// A cell as JSON: digits may start with the point, words stand in single quotes.
Json cell(std::string text) {
    std::string json;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool after_digit = i > 0 && text[i - 1] >= '0' && text[i - 1] <= '9';
        if (text[i] == '.' && !after_digit) json += '0';
        json += text[i] == '\'' ? '"' : text[i];
    }
    return Json::parse(json);
}

bool near(const Json& a, const Json& b) {
    if (a.is_array() && b.is_array() && a.size() == b.size()) {
        for (std::size_t i = 0; i < a.size(); ++i) {
            if (!near(a[i], b[i])) return false;
        }
        return true;
    }
    if (a.is_number() && b.is_number()) {
        return std::abs(a.get<double>() - b.get<double>()) < 1e-12;
    }
    return a == b;
}

ImportedPreset from_json(const char* text) {
    return preset_from_json(Json::parse(text), presets().front(), "set.json");
}
std::string json_fault(const char* text) {
    return test::sentence_of([&] { from_json(text); });
}

struct YamlFile {
    test::TemporaryFolder folder;
    std::filesystem::path path = folder.path() / "options.yml";

    ImportedPreset import(const std::string& text) const {
        write_file(path, text);
        return preset_from_yaml(path);
    }
    std::string fault(const std::string& text) const {
        return test::sentence_of([&] { import(text); });
    }
};

TEST_SUITE("unit") {
    TEST_CASE("presets: every cell of the published table") {
        int cells = 0;
        for (std::size_t column = 0; column < columns.size(); ++column) {
            const Json ours = preset(columns[column]);
            for (const auto& [key, row] : table) {
                REQUIRE(row.size() == columns.size());
                std::size_t from = column;
                while (row[from].empty()) --from;
                INFO(columns[column], " ", key);
                REQUIRE(ours.contains(key));
                CHECK_MESSAGE(near(ours[key], cell(row[from])), columns[column], ": ", key, " is ",
                              ours[key].dump(), ", published ", row[from]);
                ++cells;
            }
            CHECK(ours.size() == table.size() + 1);  // no option without a row, but for the name
        }
        CHECK(cells == 8 * 51);
    }

    TEST_CASE("presets: the names of degradation.md 3.3, each with a title and a source") {
        std::vector<std::string> names;
        for (const Preset& p : presets()) {
            names.push_back(p.name);
            CHECK_FALSE(p.title.empty());
            CHECK_FALSE(p.source.empty());
        }
        CHECK(names == std::vector<std::string>{
                           "realesrgan", "osediff", "seesr", "seesr-mild", "pisasr", "adcsr",
                           "stablesr", "stablesr-768", "bsrgan", "bsrgan-plus", "femasr",
                           "face-codeformer", "ultra-mild", "ultra-moderate", "ultra-severe"});
    }

    TEST_CASE("presets: the face set") {
        const Json face = preset("face-codeformer");
        for (const auto& [key, value] : {std::pair{"pipeline", "'one_order'"},
                                         {"kernel_prob", "[.5,.5,0,0,0,0]"},
                                         {"sinc_prob", "0"},
                                         {"fixed_kernel_size", "41"},
                                         {"blur_sigma", "[.1,15]"},
                                         {"resize_range", "[.8,32]"},
                                         {"gaussian_noise_prob", "1"},
                                         {"noise_range", "[0,20]"},
                                         {"jpeg_range", "[30,100]"},
                                         {"jpeg_backend", "'turbo'"},
                                         {"resize_back", "'bilinear'"}}) {
            CAPTURE(key);
            CHECK(near(face[key], cell(value)));
        }
    }

    TEST_CASE("presets: ours are StableSR's ranges, the mean, and Real-ESRGAN's") {
        const Json mild = preset("ultra-mild"), severe = preset("ultra-severe"),
                   moderate = preset("ultra-moderate");
        int numbers = 0;
        for (const auto& [key, row] : table) {
            CAPTURE(key);
            if (!key.ends_with("range") && !key.ends_with("range2") &&
                !key.starts_with("blur_sigma") && key != "second_blur_prob") {
                continue;
            }
            CHECK(near(mild[key], preset("stablesr")[key]));
            CHECK(near(severe[key], preset("realesrgan")[key]));
            const Json &a = mild[key], &b = severe[key], &m = moderate[key];
            for (std::size_t i = 0; i < (m.is_array() ? 2U : 1U); ++i, ++numbers) {
                const auto at = [&](const Json& j) {
                    return (j.is_array() ? j[i] : j).get<double>();
                };
                CHECK(at(m) == doctest::Approx((at(a) + at(b)) / 2));
            }
        }
        CHECK(numbers == 29);
        for (const Json& p : {mild, moderate, severe}) {
            for (const auto& [key, value] : {std::pair{"resize1_align", "'exact'"},
                                             {"resize2_min_px", "20"},
                                             {"resize_antialias", "'drawn'"},
                                             {"resize_antialias_prob", ".5"},
                                             {"jpeg_pad", "'replicate'"},
                                             {"poisson_vals", "'shared'"},
                                             {"usm", "false"},
                                             {"patch", "512"},
                                             {"no_degradation_prob", "0"},
                                             {"quantize", "'lr'"},
                                             {"resize_back", "'none'"},
                                             {"lr_size_rule", "'floor'"},
                                             {"paired_crop", "0"}}) {
                CAPTURE(key);
                CHECK(near(p[key], cell(value)));
            }
        }
    }

    TEST_CASE("preset_from_json: each preset to JSON and back, over any other") {
        for (const Preset& p : presets()) {
            CAPTURE(p.name);
            for (const Preset* base : {&presets().front(), &presets().back()}) {
                const ImportedPreset again = preset_from_json(p.json(), *base, "again");
                CHECK(again.preset.json() == p.json());
                CHECK(again.notices.empty());
            }
        }
    }

    TEST_CASE("preset_from_json: some keys over a base") {
        const ImportedPreset p =
            from_json(R"({"name":"mine","noise_range":[2,3],"quantize":"truncate","usm":false})");
        CHECK(p.preset.name == "mine");
        CHECK(p.preset.stage1.noise == Range{2, 3});
        CHECK(p.preset.quantise == Quantise::truncate);
        CHECK_FALSE(p.preset.usm);
        CHECK(p.preset.stage2.noise == Range{1, 25});
    }

    TEST_CASE("preset_from_json: weights that do not sum to 1 are divided, with a notice") {
        const ImportedPreset p = from_json(R"({"resize_prob":[1,2,1],"sinc_prob":0})");
        CHECK(p.preset.stage1.resize_weights == std::array{0.25, 0.5, 0.25});
        REQUIRE(p.notices.size() == 1);
        CHECK(p.notices[0] ==
              "set.json: the weights of 'resize_prob' sum to 4 and are divided by it");
        CHECK(from_json(R"({"resize_prob":[0.2,0.7,0.1]})").notices.empty());
    }

    TEST_CASE("preset_from_json: every fault names the file, the key and what it should be") {
        for (const auto& [text, words] : std::vector<std::pair<const char*, const char*>>{
                 {R"({"noise_range":[30,1]})",
                  "'noise_range' runs from 30 down to 1; write the lower end first"},
                 {R"({"noise_range":[1]})", "'noise_range' is a range [low, high], not [1]"},
                 {R"({"noise_range":5})", "'noise_range' is a range [low, high], not 5"},
                 {R"({"noise_range":["a",5]})", "'noise_range' holds \"a\", which is no number"},
                 {R"({"noise_range":[0,256]})",
                  "'noise_range' must stay in 0 to 255, not 0 to 256"},
                 {R"({"jpeg_range":[0,50]})", "'jpeg_range' must stay in 1 to 100"},
                 {R"({"jpeg_range2":[50,101]})", "'jpeg_range2' must stay in 1 to 100"},
                 {R"({"resize_range":[0,1]})", "'resize_range' must stay in 0.01 to 32"},
                 {R"({"blur_sigma":[0,1]})", "'blur_sigma' must stay in 0.01 to 40"},
                 {R"({"betag_range2":[0.5,21]})", "'betag_range2' must stay in 0.01 to 20"},
                 {R"({"gray_noise_prob":1.1})",
                  "'gray_noise_prob' is a probability in [0,1], not 1.1"},
                 {R"({"sinc_prob":-0.1})", "'sinc_prob' is a probability"},
                 {R"({"sinc_prob":"often"})", "'sinc_prob' holds \"often\", which is no number"},
                 {R"({"resize_prob":[0,0,0]})", "the weights of 'resize_prob' sum to 0"},
                 {R"({"resize_prob":[1,-1,1]})", "'resize_prob' holds the negative weight -1"},
                 {R"({"resize_prob":[1,1]})", "'resize_prob' is a list of 3 weights"},
                 {R"({"kernel_prob":[1,1,1]})", "'kernel_prob' is a list of 6 weights"},
                 {R"({"quantize":"up"})",
                  "'quantize' is one of lr, after_resize_back, none, truncate, not \"up\""},
                 {R"({"resize_back":3})",
                  "'resize_back' is one of none, random, area, bilinear, bicubic, not 3"},
                 {R"({"usm":1})", "'usm' is true or false, not 1"},
                 {R"({"patch":1.5})", "'patch' is a whole number from 0 to 65536, not 1.5"},
                 {R"({"patch":-1})", "'patch' is a whole number"},
                 {R"({"fixed_kernel_size":8})", "'fixed_kernel_size' is odd, not 8"},
                 {R"({"fixed_kernel_size2":8})", "'fixed_kernel_size2' is odd, not 8"},
                 {R"({"noise":[1,2]})", "unknown key 'noise'; known: base, betag_range"},
                 {"[]", "holds no options by name"},
             }) {
            CAPTURE(text);
            const std::string fault = json_fault(text);
            CAPTURE(fault);
            CHECK(test::has(fault, words));
            CHECK(fault.starts_with("set.json"));
        }
        CHECK(test::has(json_fault(R"({"noise":1})"), "noise_range2"));  // the list is whole
    }

    TEST_CASE("load_preset: names, files, and neither") {
        CHECK(load_preset("adcsr").preset.json() == preset("adcsr"));
        const std::string unknown =
            test::sentence_of([] { load_preset("realesrgam"); }, Fault::usage);
        CHECK(test::has(unknown, "unknown preset 'realesrgam'; known: realesrgan, osediff"));
        CHECK(test::has(unknown, "ultra-severe; or name a .json or .yml file"));
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "mine.json";
        write_file(path, R"({"base":"stablesr","noise_range":[3,4]})");
        const Preset mine = load_preset(path.string()).preset;
        CHECK(mine.name == "mine");
        CHECK(mine.stage1.noise == Range{3, 4});
        CHECK(mine.stage1.jpeg == Range{60, 95});
        write_file(path, R"({"base":"realsrgan"})");
        CHECK(test::has(test::sentence_of([&] { load_preset(path.string()); }),
                        "'base' is one of realesrgan, osediff"));
        write_file(path, R"({"noise_range":[1,2)");
        CHECK(test::has(test::sentence_of([&] { load_preset(path.string()); }), "mine.json"));
        CHECK(test::has(test::sentence_of([] { load_preset("/nowhere/a.json"); }),
                        "/nowhere/a.json"));
        CHECK(
            test::has(test::sentence_of([] { load_preset("/nowhere/a.yml"); }), "/nowhere/a.yml"));
    }

    TEST_CASE("preset_from_yaml: keys at the top, in datasets.train and in degradation") {
        const YamlFile file;
        const ImportedPreset in = file.import(R"(# a file after Real-ESRGAN's
name: train_x4
resize_prob: [0.2, 0.7, 0.1]  # up, down, keep
resize_range: [0.15, 1.5]
jpeg_range2: [31, 96]
queue_size: 180
l1_gt_usm: True
datasets:
  train:
    blur_kernel_size: 21
    kernel_list: ['iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso']
    kernel_prob: [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
    blur_sigma: [0.2, 2.5]
    gt_size: 256
    use_hflip: True
    use_rot: False
degradation:
  noise_range2: [1, 7]
  second_blur_prob: 0.75
train:
  optim_g:
    lr: !!float 1e-4
)");
        CHECK(in.preset.name == "options");
        CHECK(in.preset.stage2.jpeg == Range{31, 96});
        CHECK(in.preset.stage1.kernel.sigma == Range{0.2, 2.5});
        CHECK(in.preset.stage2.noise == Range{1, 7});
        CHECK(in.preset.stage2.blur_prob == 0.75);
        CHECK(in.preset.patch == 256);
        CHECK(in.preset.hflip_prob == 0.5);
        CHECK(in.preset.vflip_prob == 0);
        CHECK(in.preset.transpose_prob == 0);
        CHECK_FALSE(in.preset.usm);
        REQUIRE(in.notices.size() == 3);
        CHECK(test::has(in.notices[0], "'queue_size' is not used"));
        CHECK(test::has(in.notices[1], "'l1_gt_usm' is not used"));
        CHECK(test::has(in.notices[2], "'blur_kernel_size' is not used"));
        // Not named: Real-ESRGAN's
        CHECK(in.preset.stage1.noise == Range{1, 30});
    }

    TEST_CASE("preset_from_yaml: weights follow the order of their own list") {
        const YamlFile file;
        const ImportedPreset in = file.import(
            "kernel_list: [aniso, iso]\nkernel_prob: [0.3, 0.7]\n"
            "kernel_list2: [plateau_iso, iso]\nkernel_prob2: [1, 3]\nuse_rot: true\n");
        CHECK(in.preset.stage1.kernel.type_weights == std::array{0.7, 0.3, 0.0, 0.0, 0.0, 0.0});
        CHECK(in.preset.stage2.kernel.type_weights == std::array{0.75, 0.0, 0.0, 0.0, 0.25, 0.0});
        CHECK(in.preset.vflip_prob == 0.5);
        REQUIRE(in.notices.size() == 1);
        CHECK(test::has(in.notices[0], "'kernel_prob2' sum to 4"));
    }

    TEST_CASE("preset_from_yaml: a key that stands there twice") {
        const YamlFile file;
        const ImportedPreset in =
            file.import("noise_range: [1, 2]\ndegradation:\n  noise_range: [3, 4]\n");
        CHECK(in.preset.stage1.noise == Range{3, 4});
        REQUIRE(in.notices.size() == 1);
        CHECK(test::has(in.notices[0], "'noise_range' stands there twice; the last counts"));
    }

    TEST_CASE("preset_from_yaml: a key that looks like the degradation's and is none") {
        const YamlFile file;
        const auto notices = [&](const std::string& text) {
            return file.import("sinc_prob: 0.2\n" + text).notices;
        };
        for (const char* key : {"resize_rnage", "noise_range3", "jpeg_quality", "blur_sigmas",
                                "kernel_probs", "final_sinc", "betag", "beta_range"}) {
            CAPTURE(key);
            for (const std::string value : {": [1, 2]\n", ": {low: 1}\n"}) {
                const auto found = notices(key + value);
                REQUIRE(found.size() == 1);
                CHECK(test::has(found[0], "'" + std::string(key) + "' is not used: no option"));
                CHECK(test::has(found[0], "options.yml"));
            }
        }
        CHECK(notices("train:\n  jpeg_rang: 3\n").size() == 1);
        // What belongs to others, and sections that hold what is known
        CHECK(notices("train:\n  optim_g:\n    betas: [0.9, 0.99]\nscale: 4\n").empty());
        CHECK(notices("noise_settings:\n  noise_range: [1, 2]\n").empty());
    }

    TEST_CASE("preset_from_yaml: every fault names the file") {
        const YamlFile file;
        for (const auto& [text, words] : std::vector<std::pair<const char*, const char*>>{
                 {"", "holds none of the degradation's keys"},
                 {"just words", "holds none of the degradation's keys"},
                 {"- a\n- b\n", "holds none of the degradation's keys"},
                 {"network_g:\n  num_feat: 64\n", "is it a Real-ESRGAN option file?"},
                 {"a: [1, 2\nb: 3\n", "is no readable yml: line"},
                 {"a: b: c\n", "is no readable yml: line 1"},
                 {"noise_range: [30, 1]\n", "'noise_range' runs from 30 down to 1"},
                 {"noise_range: {low: 1, high: 2}\nsinc_prob: 0.1\n",
                  "'noise_range' is a value or a list here, not a map of names"},
                 {"degradation:\n  sinc_prob: 0.1\n  kernel_list: {iso: 0.5}\n",
                  "'kernel_list' is a value or a list here"},
                 {"sinc_prob: 0.1\nqueue_size: {a: 1}\n", "'queue_size' is a value or a list"},
                 {"gt_size: {height: 1}\n", "'gt_size' is a value or a list"},
                 {"noise_range:\n", "'noise_range' is a range [low, high]"},
                 {"noise_range: [a, 2]\n", "which is no number"},
                 {"jpeg_range: [60, 101]\n", "'jpeg_range' must stay in 1 to 100"},
                 {"kernel_list: [iso]\nkernel_prob: [0.5, 0.5]\n", "differ in length"},
                 {"kernel_list: [iso, box]\nkernel_prob: [0.5, 0.5]\n", "unknown kernel \"box\""},
                 {"kernel_prob: [1, 1]\n", "'kernel_prob' is a list of 6 weights"},
                 {"gt_size: big\n", "which is no number"},
             }) {
            CAPTURE(text);
            const std::string fault = file.fault(text);
            CAPTURE(fault);
            CHECK(test::has(fault, words));
            CHECK(test::has(fault, "options.yml"));
        }
    }
}

}  // namespace
}  // namespace ultrasr
