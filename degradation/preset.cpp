#include "degradation/preset.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "degradation/preset_yaml.h"

namespace ultrasr {
namespace {

template <class Value, std::size_t n>
using Words = std::array<std::pair<std::string_view, Value>, n>;

constexpr Words<Pipeline, 5> pipelines{{{"second_order", Pipeline::second_order},
                                        {"bsrgan", Pipeline::bsrgan},
                                        {"bsrgan_plus", Pipeline::bsrgan_plus},
                                        {"femasr", Pipeline::femasr},
                                        {"one_order", Pipeline::one_order}}};
constexpr Words<Antialias, 3> antialiases{
    {{"off", Antialias::off}, {"on", Antialias::on}, {"drawn", Antialias::drawn}}};
constexpr Words<Quantise, 4> quantises{{{"lr", Quantise::lr},
                                        {"after_resize_back", Quantise::after_resize_back},
                                        {"none", Quantise::none},
                                        {"truncate", Quantise::truncate}}};
constexpr Words<ResizeBack, 5> resize_backs{{{"none", ResizeBack::none},
                                             {"random", ResizeBack::drawn},
                                             {"area", ResizeBack::area},
                                             {"bilinear", ResizeBack::bilinear},
                                             {"bicubic", ResizeBack::bicubic}}};
constexpr Words<LrSizeRule, 5> size_rules{{{"floor", LrSizeRule::floor},
                                           {"round", LrSizeRule::round},
                                           {"ceil", LrSizeRule::ceil},
                                           {"exact_crop", LrSizeRule::exact_crop},
                                           {"fixed_lr", LrSizeRule::fixed_lr}}};
constexpr Words<BlurScale, 2> blur_scales{
    {{"none", BlurScale::none}, {"bsrgan", BlurScale::bsrgan}}};
constexpr Words<GtSaved, 2> gts{{{"plain", GtSaved::plain}, {"usm", GtSaved::usm}}};
constexpr Words<JpegPadding, 2> paddings{
    {{"zero", JpegPadding::zero}, {"replicate", JpegPadding::replicate}}};
constexpr Words<JpegBackend, 2> backends{
    {{"diff", JpegBackend::diff}, {"turbo", JpegBackend::turbo}}};
constexpr Words<PoissonVals, 3> vals{{{"content", PoissonVals::content},
                                      {"shared", PoissonVals::shared},
                                      {"fixed256", PoissonVals::fixed}}};
constexpr Words<Noise2Field, 2> noise2_fields{
    {{"independent", Noise2Field::independent}, {"nested", Noise2Field::nested}}};
constexpr Words<bool, 2> aligns{{{"parity", false}, {"exact", true}}};

/// Visits every option of a preset as (key, value); writing and reading share this list.
template <class P, class Visit>
void visit_options(P& p, Visit&& v) {
    v.word("pipeline", p.pipeline, pipelines);
    for (const int stage : {1, 2}) {
        auto& s = stage == 1 ? p.stage1 : p.stage2;
        const std::string n = stage == 1 ? "" : "2";
        if (stage == 2) {
            v.probability("second_blur_prob", s.blur_prob);
        }
        v.weights("kernel_prob" + n, s.kernel.type_weights);
        v.probability("sinc_prob" + n, s.kernel.sinc_prob);
        v.range("blur_sigma" + n, s.kernel.sigma, 0.01, 40);
        v.range("betag_range" + n, s.kernel.beta_generalized, 0.01, 20);
        v.range("betap_range" + n, s.kernel.beta_plateau, 0.01, 20);
        v.integer("fixed_kernel_size" + n, s.kernel.fixed_size, 0, 81);
        v.weights("resize_prob" + n, s.resize_weights);
        v.range("resize_range" + n, s.resize, 0.01, 32);
        v.probability("gaussian_noise_prob" + n, s.gaussian_noise_prob);
        v.range("noise_range" + n, s.noise, 0, 255);
        v.range("poisson_scale_range" + n, s.poisson_scale, 0, 100);
        v.probability("gray_noise_prob" + n, s.gray_noise_prob);
        v.range("jpeg_range" + n, s.jpeg, 1, 100);
    }
    v.probability("final_sinc_prob", p.final_sinc_prob);
    v.probability("no_degradation_prob", p.no_degradation_prob);
    v.flag("usm", p.usm);
    v.word("gt_saved", p.gt_saved, gts);
    v.word("quantize", p.quantise, quantises);
    v.word("resize_back", p.resize_back, resize_backs);
    v.word("resize1_align", p.resize1_exact, aligns);
    v.flag("resize1_scaled", p.resize1_scaled);
    v.integer("resize2_min_px", p.resize2_min_px, 0, 4096);
    v.word("resize_antialias", p.antialias, antialiases);
    v.probability("resize_antialias_prob", p.antialias_prob);
    v.word("blur_scale", p.blur_scale, blur_scales);
    v.word("jpeg_pad", p.jpeg_padding, paddings);
    v.word("jpeg_backend", p.jpeg_backend, backends);
    v.word("poisson_vals", p.poisson_vals, vals);
    v.word("noise2_field", p.noise2_field, noise2_fields);
    v.word("lr_size_rule", p.lr_size_rule, size_rules);
    v.probability("hflip_prob", p.hflip_prob);
    v.probability("vflip_prob", p.vflip_prob);
    v.probability("transpose_prob", p.transpose_prob);
    v.integer("patch", p.patch, 0, 65536);
    v.integer("paired_crop", p.paired_crop, 0, 65536);
    v.steps("extra_steps", p.extra_steps);
}

struct Writer {
    Json out = Json::object();

    template <class Value, std::size_t n>
    void word(const std::string& key, const Value& value, const Words<Value, n>& words) {
        out[key] = std::find_if(words.begin(), words.end(), [&](const auto& w) {
                       return w.second == value;
                   })->first;
    }
    void probability(const std::string& key, double value) { out[key] = value; }
    void integer(const std::string& key, int value, int, int) { out[key] = value; }
    void flag(const std::string& key, bool value) { out[key] = value; }
    void range(const std::string& key, const Range& r, double, double) {
        out[key] = {r.low, r.high};
    }
    template <std::size_t n>
    void weights(const std::string& key, const std::array<double, n>& w) {
        out[key] = w;
    }
    void steps(const std::string& key, const std::vector<ExtraStep>& list) {
        out[key] = Json::array();
        for (const ExtraStep& step : list) out[key].push_back(step.json());
    }
};

class Reader {
  public:
    Reader(const Json& in, std::string what) : in_(in), what_(std::move(what)) {
        require(in.is_object(), "{} holds no options by name", what_);
    }

    template <class Value, std::size_t n>
    void word(const std::string& key, Value& value, const Words<Value, n>& words) {
        const Json* found = find(key);
        if (!found) return;
        std::string known;
        for (const auto& [text, meaning] : words) {
            if (found->is_string() && found->get<std::string>() == text) {
                value = meaning;
                return;
            }
            known += known.empty() ? "" : ", ";
            known += text;
        }
        fail(Fault::input, "{}: '{}' is one of {}, not {}", what_, key, known,
             dump_json_line(*found));
    }
    void probability(const std::string& key, double& value) {
        const Json* found = find(key);
        if (!found) return;
        value = number(key, *found);
        require(value >= 0 && value <= 1, "{}: '{}' is a probability in [0,1], not {}", what_, key,
                value);
    }
    void integer(const std::string& key, int& value, int least, int most) {
        const Json* found = find(key);
        if (!found) return;
        const double v = number(key, *found);
        require(v == std::floor(v) && v >= least && v <= most,
                "{}: '{}' is a whole number from {} to {}, not {}", what_, key, least, most, v);
        value = static_cast<int>(v);
    }
    void flag(const std::string& key, bool& value) {
        const Json* found = find(key);
        if (!found) return;
        require(found->is_boolean(), "{}: '{}' is true or false, not {}", what_, key,
                dump_json_line(*found));
        value = found->get<bool>();
    }
    void range(const std::string& key, Range& r, double least, double most) {
        const Json* found = find(key);
        if (!found) return;
        require(found->is_array() && found->size() == 2, "{}: '{}' is a range [low, high], not {}",
                what_, key, dump_json_line(*found));
        r = {number(key, (*found)[0]), number(key, (*found)[1])};
        require(r.low <= r.high, "{}: '{}' runs from {} down to {}; write the lower end first",
                what_, key, r.low, r.high);
        require(r.low >= least && r.high <= most, "{}: '{}' must stay in {} to {}, not {} to {}",
                what_, key, least, most, r.low, r.high);
    }
    template <std::size_t n>
    void weights(const std::string& key, std::array<double, n>& w) {
        const Json* found = find(key);
        if (!found) return;
        require(found->is_array() && found->size() == n, "{}: '{}' is a list of {} weights", what_,
                key, n);
        for (std::size_t i = 0; i < n; ++i) {
            w[i] = number(key, (*found)[i]);
            require(w[i] >= 0, "{}: '{}' holds the negative weight {}", what_, key, w[i]);
        }
        const double sum = std::accumulate(w.begin(), w.end(), 0.0);
        require(sum > 0, "{}: the weights of '{}' sum to 0", what_, key);
        if (std::abs(sum - 1) > 1e-6) {
            notices.push_back(
                fmt::format("{}: the weights of '{}' sum to {:.6g} and are divided "
                            "by it",
                            what_, key, sum));
            for (double& weight : w) weight /= sum;
        }
    }
    void steps(const std::string& key, std::vector<ExtraStep>& list) {
        const Json* found = find(key);
        if (!found) return;
        require(found->is_array(), "{}: '{}' is a list of steps", what_, key);
        list.clear();
        for (std::size_t i = 0; i < found->size(); ++i) {
            list.push_back(
                ExtraStep::from_json((*found)[i], fmt::format("{}: {}[{}]", what_, key, i)));
        }
    }
    void done() const {
        for (const auto& [key, value] : in_.items()) {
            if (asked_.contains(key)) continue;
            std::string known;
            for (const std::string& name : asked_) known += (known.empty() ? "" : ", ") + name;
            fail(Fault::input, "{}: unknown key '{}'; known: {}", what_, key, known);
        }
    }
    void know(const std::string& key) { asked_.insert(key); }

    std::vector<std::string> notices;

  private:
    const Json* find(const std::string& key) {
        asked_.insert(key);
        const auto found = in_.find(key);
        return found == in_.end() ? nullptr : &*found;
    }
    double number(const std::string& key, const Json& value) const {
        require(value.is_number() && std::isfinite(value.get<double>()),
                "{}: '{}' holds {}, which is no number", what_, key, dump_json_line(value));
        return value.get<double>();
    }

    const Json& in_;
    std::string what_;
    std::set<std::string> asked_;
};

// ---- The published sets (degradation.md 2; evidence there) ----

/// Real-ESRGAN's second stage.
StageDraws severe_stage2() {
    StageDraws s;
    s.blur_prob = 0.8;
    s.kernel.sigma = {0.2, 1.5};
    s.resize_weights = {0.3, 0.4, 0.3};
    s.resize = {0.3, 1.2};
    s.noise = {1, 25};
    s.poisson_scale = {0.05, 2.5};
    return s;
}

/// Real-ESRGAN, all of its option files.
Preset realesrgan() {
    Preset p;
    p.name = "realesrgan";
    p.title = "Real-ESRGAN: severe, USM, 400 px patches";
    p.source = "Wang et al. 2021, options/train_realesrgan_x4plus.yml (BSD-3-Clause)";
    p.stage2 = severe_stage2();
    p.usm = true;
    p.patch = 400;
    p.paired_crop = 256;
    return p;
}

/// The milder resizes, noise and JPEG that PiSA-SR, SeeSR's file, AdcSR and StableSR share.
Preset mild_family() {
    Preset p = realesrgan();
    p.usm = false;
    p.patch = 512;
    p.paired_crop = 0;
    p.stage1.resize = {0.3, 1.5};
    p.stage1.noise = {1, 15};
    p.stage1.poisson_scale = {0.05, 2};
    p.stage1.jpeg = {60, 95};
    p.stage2.blur_prob = 0.5;
    p.stage2.resize = {0.6, 1.2};
    p.stage2.noise = {1, 12};
    p.stage2.poisson_scale = {0.05, 1};
    p.stage2.jpeg = {60, 100};
    return p;
}

void narrow_kernels(Preset& p) {  // AdcSR, StableSR, S3Diff
    p.stage1.kernel.sigma = {0.2, 1.5};
    p.stage2.kernel.sigma = {0.2, 1};
    for (StageDraws* s : {&p.stage1, &p.stage2}) {
        s->kernel.beta_generalized = {0.5, 2};
        s->kernel.beta_plateau = {1, 1.5};
    }
}

Preset stablesr() {
    Preset p = mild_family();
    narrow_kernels(p);
    p.name = "stablesr";
    p.title = "StableSR at 512 (also S3Diff): mild, USM, LR clamped and resized back";
    p.source = "Wang et al. 2023, configs/stableSRNew/v2-finetune_text_T_512.yaml";
    p.usm = true;
    p.no_degradation_prob = 0.01;
    p.quantise = Quantise::none;
    p.resize_back = ResizeBack::bicubic;
    return p;
}

/// Ours: the four options of degradation.md 3.3 switched on.
Preset ultra(Preset p, std::string name, std::string title) {
    p.name = std::move(name);
    p.title = std::move(title);
    p.source = "this project, degradation.md 3.3";
    p.usm = false;
    p.patch = 512;
    p.paired_crop = 0;
    p.no_degradation_prob = 0;
    p.quantise = Quantise::lr;
    p.resize_back = ResizeBack::none;
    p.resize1_exact = true;
    p.resize2_min_px = 20;
    p.antialias = Antialias::drawn;
    p.antialias_prob = 0.5;
    p.jpeg_padding = JpegPadding::replicate;
    p.poisson_vals = PoissonVals::shared;
    return p;
}

Range mean(const Range& a, const Range& b) { return {(a.low + b.low) / 2, (a.high + b.high) / 2}; }

StageDraws mean(const StageDraws& a, const StageDraws& b) {
    StageDraws m = a;
    m.blur_prob = (a.blur_prob + b.blur_prob) / 2;
    m.kernel.sigma = mean(a.kernel.sigma, b.kernel.sigma);
    m.kernel.beta_generalized = mean(a.kernel.beta_generalized, b.kernel.beta_generalized);
    m.kernel.beta_plateau = mean(a.kernel.beta_plateau, b.kernel.beta_plateau);
    m.resize = mean(a.resize, b.resize);
    m.noise = mean(a.noise, b.noise);
    m.poisson_scale = mean(a.poisson_scale, b.poisson_scale);
    m.jpeg = mean(a.jpeg, b.jpeg);
    return m;
}

std::vector<Preset> make_presets() {
    std::vector<Preset> all{realesrgan()};
    const auto add = [&](Preset p, const char* name, const char* title, const char* source) {
        p.name = name;
        p.title = title;
        p.source = source;
        all.push_back(std::move(p));
        return &all.back();
    };

    Preset p = realesrgan();
    p.usm = false;
    p.patch = 512;
    p.paired_crop = 0;
    p.quantise = Quantise::after_resize_back;
    p.resize_back = ResizeBack::drawn;
    add(p, "osediff", "OSEDiff: severe, no USM, back to GT size in a drawn mode",
        "Wu et al. 2024, dataloaders/params_realesrgan.yml (Apache-2.0)");

    p = realesrgan();
    p.patch = 512;
    p.paired_crop = 0;
    p.gt_saved = GtSaved::usm;
    p.quantise = Quantise::none;  // its PNG rounds; sr_bicubic is made before (T13)
    p.resize_back = ResizeBack::bicubic;
    add(p, "seesr", "SeeSR's offline pairs (also TSD-SR): severe, sharpened GT is saved",
        "Wu et al. 2024, utils_data/make_paired_data.py (Apache-2.0)");

    p = mild_family();
    p.quantise = Quantise::after_resize_back;
    p.resize_back = ResizeBack::drawn;
    add(p, "seesr-mild", "SeeSR's shipped file: mild noise and JPEG, Real-ESRGAN's blur",
        "Wu et al. 2024, dataloaders/params_realesrgan.yml (Apache-2.0)");
    add(p, "pisasr", "PiSA-SR: as seesr-mild", "Sun et al. 2025, src/datasets/params.yml");

    p = mild_family();
    narrow_kernels(p);
    add(p, "adcsr", "AdcSR: mild, LR rounded, no resize back for the student",
        "Chen et al. 2025, config.yml");

    all.push_back(stablesr());
    p = stablesr();
    p.usm = false;
    p.no_degradation_prob = 0;
    p.stage2.jpeg = {60, 95};
    p.patch = 768;
    add(p, "stablesr-768", "StableSR at 768: as stablesr without USM",
        "Wang et al. 2023, configs/stableSRNew/v2-finetune_text_T_768v.yaml");

    p = Preset{};
    p.pipeline = Pipeline::bsrgan;
    p.jpeg_backend = JpegBackend::turbo;
    p.hflip_prob = p.vflip_prob = p.transpose_prob = 0.5;
    p.patch = 0;
    add(p, "bsrgan", "BSRGAN: seven operations in shuffled order",
        "Zhang et al. 2021, utils/utils_blindsr.py degradation_bsrgan (Apache-2.0)");
    p.pipeline = Pipeline::bsrgan_plus;
    add(p, "bsrgan-plus", "BSRGAN plus: thirteen operations, half of the time shuffled",
        "Zhang et al. 2021, utils/utils_blindsr.py degradation_bsrgan_plus (Apache-2.0)");
    p.pipeline = Pipeline::femasr;
    p.quantise = Quantise::truncate;
    p.patch = 512;
    add(p, "femasr", "FeMaSR: BSRGAN's order, LR cut to 8 bits",
        "Chen et al. 2022, basicsr/data/bsrgan_util.py");

    p = Preset{};
    p.pipeline = Pipeline::one_order;
    p.stage1.kernel.type_weights = {0.5, 0.5, 0, 0, 0, 0};
    p.stage1.kernel.sinc_prob = 0;
    p.stage1.kernel.sigma = {0.1, 15};
    p.stage1.kernel.fixed_size = 41;
    p.stage1.resize = {0.8, 32};  // a divisor here
    p.stage1.gaussian_noise_prob = 1;
    p.stage1.noise = {0, 20};
    p.stage1.gray_noise_prob = 0;
    p.stage1.jpeg = {30, 100};
    p.jpeg_backend = JpegBackend::turbo;
    p.resize_back = ResizeBack::bilinear;
    add(p, "face-codeformer", "one order, large blur and downscale: faces (StableSR, OSEDiff)",
        "Wang et al. 2023, configs/stableSRNew/v2-finetune_face_T_512.yaml");

    const Preset severe = realesrgan(), mild = stablesr();
    Preset moderate = severe;
    moderate.stage1 = mean(severe.stage1, mild.stage1);
    moderate.stage2 = mean(severe.stage2, mild.stage2);
    all.push_back(ultra(mild, "ultra-mild", "ours for x8 to x14: StableSR's ranges"));
    all.push_back(ultra(moderate, "ultra-moderate", "ours: the mean of mild and severe"));
    all.push_back(ultra(severe, "ultra-severe", "ours: Real-ESRGAN's ranges"));
    return all;
}

}  // namespace

Json Preset::json() const {
    Writer writer;
    writer.out["name"] = name;
    visit_options(*this, writer);
    return writer.out;
}

const std::vector<Preset>& presets() {
    static const std::vector<Preset> all = make_presets();
    return all;
}

ImportedPreset preset_from_json(const Json& json, const Preset& base, const std::string& what) {
    ImportedPreset out{base, {}};
    Reader reader(json, what);
    reader.know("name");
    reader.know("base");
    visit_options(out.preset, reader);
    reader.done();
    if (json.contains("name") && json["name"].is_string()) {
        out.preset.name = json["name"].get<std::string>();
    }
    require(
        out.preset.stage1.kernel.fixed_size == 0 || out.preset.stage1.kernel.fixed_size % 2 == 1,
        "{}: 'fixed_kernel_size' is odd, not {}", what, out.preset.stage1.kernel.fixed_size);
    require(
        out.preset.stage2.kernel.fixed_size == 0 || out.preset.stage2.kernel.fixed_size % 2 == 1,
        "{}: 'fixed_kernel_size2' is odd, not {}", what, out.preset.stage2.kernel.fixed_size);
    out.notices = std::move(reader.notices);
    return out;
}

ImportedPreset load_preset(const std::string& name_or_file) {
    std::string known;
    for (const Preset& preset : presets()) {
        if (preset.name == name_or_file) return {preset, {}};
        known += (known.empty() ? "" : ", ") + preset.name;
    }
    const std::filesystem::path path = name_or_file;
    const std::string tail = path.extension().string();
    if (tail == ".yml" || tail == ".yaml") return preset_from_yaml(path);
    if (tail != ".json") {
        fail(Fault::usage, "unknown preset '{}'; known: {}; or name a .json or .yml file",
             name_or_file, known);
    }
    const Json json = parse_json(read_file(path), path.string());
    const std::string base = json.is_object() && json.contains("base") && json["base"].is_string()
                                 ? json["base"].get<std::string>()
                                 : "realesrgan";
    const auto found = std::find_if(presets().begin(), presets().end(),
                                    [&](const Preset& p) { return p.name == base; });
    require(found != presets().end(), "{}: 'base' is one of {}, not '{}'", path.string(), known,
            base);
    ImportedPreset out = preset_from_json(json, *found, path.string());
    if (!json.contains("name")) out.preset.name = path.stem().string();
    return out;
}

}  // namespace ultrasr
