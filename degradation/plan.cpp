#include "degradation/plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "degradation/draws.h"
#include "degradation/shuffled_plan.h"
#include "degradation/steps/steps.h"

namespace ultrasr {
namespace {

constexpr std::array<std::pair<std::string_view, Couple>, 5> couples{
    {{"stage1", Couple::stage1},
     {"comonotone", Couple::comonotone},
     {"params", Couple::params},
     {"independent", Couple::independent},
     {"cascade", Couple::cascade}}};
constexpr std::array modes{ResizeMode::area, ResizeMode::bilinear, ResizeMode::bicubic};

int draw_kernel_size(Draws& draws, std::uint32_t slot_number, const std::string& name) {
    constexpr int sizes = 8, least = 7, step = 2;  // 7, 9 ... 21
    return least + step * static_cast<int>(draws.choice(slot_number, name, sizes, least, step));
}

/// degradation.md 1.2.
KernelSpec draw_kernel(Draws& draws, std::uint32_t base, const std::string& prefix,
                       const KernelDraws& d) {
    KernelSpec spec;
    spec.size = d.fixed_size > 0 ? d.fixed_size : draw_kernel_size(draws, base, prefix + "size");
    if (draws.chance(base + 1, prefix + "is_sinc", d.sinc_prob)) {
        spec.type = KernelType::sinc;
        const double low = std::numbers::pi / (spec.size < 13 ? 3 : 5);
        spec.omega = draws.uniform(base + 2, prefix + "omega", {low, std::numbers::pi}, true);
        return spec;
    }
    spec.type = static_cast<KernelType>(draws.weighted(base + 3, prefix + "type", d.type_weights));
    const bool aniso = spec.type == KernelType::aniso ||
                       spec.type == KernelType::generalized_aniso ||
                       spec.type == KernelType::plateau_aniso;
    spec.sigma_x = spec.sigma_y = draws.uniform(base + 4, prefix + "sigma_x", d.sigma);
    if (aniso) {
        spec.sigma_y = draws.uniform(base + 5, prefix + "sigma_y", d.sigma);
        spec.rotation =
            draws.uniform(base + 6, prefix + "rotation", {-std::numbers::pi, std::numbers::pi});
    }
    if (spec.type == KernelType::iso || spec.type == KernelType::aniso) return spec;
    const bool plateau =
        spec.type == KernelType::plateau_iso || spec.type == KernelType::plateau_aniso;
    const Range beta = plateau ? d.beta_plateau : d.beta_generalized;
    const bool below = draws.chance(base + 7, prefix + "beta_below_1", 0.5);
    spec.beta =
        draws.uniform(base + 8, prefix + "beta", below ? Range{beta.low, 1} : Range{1, beta.high});
    return spec;
}

bool draw_antialias(Draws& draws, std::uint32_t slot_number, const char* name, const Preset& p) {
    if (p.antialias != Antialias::drawn) return p.antialias == Antialias::on;
    return draws.chance(slot_number, name, p.antialias_prob);
}

double draw_factor(Draws& draws, std::uint32_t base, const std::string& prefix,
                   const StageDraws& stage, double low) {
    // Up, keep, down is the order from mild to severe
    const auto& w = stage.resize_weights;
    const bool sorted = draws.orientation() == Orientation::worse_up;
    const std::array weights = sorted ? std::array{w[0], w[2], w[1]} : w;
    const std::size_t i = draws.weighted(base, prefix + "direction", weights);
    const std::size_t down = sorted ? 2 : 1;
    if (i == 0) return draws.uniform(base + 1, prefix + "factor", {1, stage.resize.high}, true);
    if (i == down) return draws.uniform(base + 1, prefix + "factor", {low, 1}, true);
    return 1;
}

NamedStep noise_step(Draws& draws, std::uint32_t base, const std::string& prefix,
                     const StageDraws& stage, PoissonVals vals, FieldName field) {
    const bool gaussian = draws.chance(base + 3, prefix + "is_gaussian", stage.gaussian_noise_prob);
    const double strength = draws.uniform(base + 4, prefix + (gaussian ? "sigma" : "scale"),
                                          gaussian ? stage.noise : stage.poisson_scale);
    const bool gray = draws.chance(base + 5, prefix + "gray", stage.gray_noise_prob);
    if (gaussian) {
        auto step = std::make_shared<GaussianNoiseStep>();
        step->sigma = strength;
        step->gray = gray;
        step->field = field;
        return {prefix + "noise", "gaussian_noise", step};
    }
    auto step = std::make_shared<PoissonNoiseStep>();
    step->scale = strength;
    step->gray = gray;
    step->source = vals;
    step->vals = 256;
    step->field = field;
    return {prefix + "noise", "poisson_noise", step};
}

NamedStep jpeg_step(std::string name, double quality, const Preset& p) {
    auto step = std::make_shared<JpegStep>();
    step->quality = quality;
    step->backend = p.jpeg_backend;
    step->padding = p.jpeg_padding;
    return {std::move(name), "jpeg", step};
}

NamedStep size_step(std::string name, PixelSize size, ResizeMode mode, bool antialias) {
    auto step = std::make_shared<ResizeStep>();
    step->mode = mode;
    step->size = size;
    step->antialias = antialias;
    return {std::move(name), "resize_size", step};
}

PixelSize resized(PixelSize size, double ratio) {
    return {std::max(1, static_cast<int>(std::floor(size.width * ratio))),
            std::max(1, static_cast<int>(std::floor(size.height * ratio)))};
}

/// degradation.md 1.1, step 3.
void add_stage1(Draws& draws, const Preset& p, int scale, PixelSize input, FieldName field,
                Tier tier, std::vector<NamedStep>& to) {
    const StageDraws& stage = p.stage1;
    const KernelSpec spec = draw_kernel(draws, slot::kernel1, "stage1.kernel.", stage.kernel);
    to.push_back({"stage1.blur", "blur", std::make_shared<BlurStep>(spec, tier)});

    // 0.6 / s: stage 1 may shrink to 0.6 of the LR's size, as .15 does at x4
    const double low =
        p.resize1_scaled ? std::min(stage.resize.low, 0.6 / scale) : stage.resize.low;
    const double ratio = draw_factor(draws, slot::stage1, "stage1.", stage, low);
    const ResizeMode mode = modes[draws.choice(slot::stage1 + 2, "stage1.mode", modes.size())];
    const bool antialias = draw_antialias(draws, slot::antialias1, "stage1.antialias", p);
    if (p.resize1_exact) {
        to.push_back(size_step("stage1.resize", resized(input, ratio), mode, antialias));
    } else {
        auto step = std::make_shared<ResizeStep>();
        step->mode = mode;
        step->ratio = ratio;
        step->antialias = antialias;
        to.push_back({"stage1.resize", "resize_scale_factor", step});
    }
    // What levels share are the vals of their second noise, whether stage 1 is shared or not
    const PoissonVals vals =
        p.poisson_vals == PoissonVals::shared ? PoissonVals::content : p.poisson_vals;
    to.push_back(noise_step(draws, slot::stage1, "stage1.", stage, vals, field));
    to.push_back(jpeg_step("stage1.jpeg",
                           draws.uniform(slot::stage1 + 6, "stage1.quality", stage.jpeg, true), p));
}

void add_blur2(Draws& draws, const Preset& p, int scale, Tier tier, std::vector<NamedStep>& to) {
    if (!draws.chance(slot::blur2, "stage2.is_blurred", p.stage2.blur_prob)) return;
    KernelDraws kernel = p.stage2.kernel;
    if (p.blur_scale == BlurScale::bsrgan) {
        kernel.sigma.high =
            std::max(kernel.sigma.low, kernel.sigma.high * std::sqrt((4.0 + scale) / 8));
    }
    const KernelSpec spec = draw_kernel(draws, slot::kernel2, "stage2.kernel.", kernel);
    to.push_back({"stage2.blur", "blur", std::make_shared<BlurStep>(spec, tier)});
}

/// The size between the stages: int(H / s r), the factor raised until no side is too small.
PixelSize stage2_size(PixelSize gt, int scale, double ratio, int least) {
    const double short_side = static_cast<double>(std::min(gt.width, gt.height)) / scale;
    ratio = std::max(ratio, std::min(1.0, least / short_side));  // an LR below it stays so
    const auto side = [&](int n) {
        const int length = static_cast<int>(static_cast<double>(n) / scale * ratio);
        return std::max({1, length, std::min(least, n / scale)});
    };
    return {side(gt.width), side(gt.height)};
}

void add_quantise(const Preset& p, std::vector<NamedStep>& to) {
    const auto add = [&](const char* kind) {
        to.push_back(named_step("final.quantise", kind, Json::object(), Tier::exact));
    };
    switch (p.quantise) {
        case Quantise::lr:
            add("clamp_round");
            break;
        case Quantise::truncate:
            add("clamp_truncate");
            break;
        case Quantise::after_resize_back:
        case Quantise::none:
            add("clamp");
            break;
    }
}

/// degradation.md 1.1, steps 4 (without its blur) to 6.
void add_stage2(Draws& draws, const Preset& p, PixelSize gt, PoissonVals vals, LevelPlan& level,
                Tier tier) {
    const StageDraws& stage = p.stage2;
    std::vector<NamedStep>& to = level.steps;
    const double ratio = draw_factor(draws, slot::stage2, "stage2.", stage, stage.resize.low);
    const ResizeMode mode = modes[draws.choice(slot::stage2 + 2, "stage2.mode", modes.size())];
    to.push_back(size_step("stage2.resize", stage2_size(gt, level.scale, ratio, p.resize2_min_px),
                           mode, draw_antialias(draws, slot::antialias2, "stage2.antialias", p)));
    to.push_back(
        noise_step(draws, slot::stage2, "stage2.", stage, vals, {slot::noise_field2, level.level}));

    // The final block: resize and blur before or after the second JPEG
    const double quality = draws.uniform(slot::stage2 + 6, "final.quality", stage.jpeg, true);
    const bool jpeg_last = draws.choice(slot::order, "final.order", 2) == 0;
    const ResizeMode last_mode = modes[draws.choice(slot::mode_to_lr, "final.mode", modes.size())];
    const bool antialias = draw_antialias(draws, slot::antialias3, "final.antialias", p);
    KernelSpec last;
    if (draws.chance(slot::final_is_sinc, "final.is_sinc", p.final_sinc_prob)) {
        last.type = KernelType::sinc;
        last.size = draw_kernel_size(draws, slot::final_size, "final.size");
        last.omega = draws.uniform(slot::final_omega, "final.omega",
                                   {std::numbers::pi / 3, std::numbers::pi}, true);
    }
    if (!jpeg_last) to.push_back(jpeg_step("final.jpeg", quality, p));
    to.push_back(size_step("final.resize", level.lr, last_mode, antialias));
    to.push_back({"final.blur", "blur", std::make_shared<BlurStep>(last, tier)});
    if (jpeg_last) {
        to.push_back(named_step("final.clamp", "clamp", Json::object(), tier));
        to.push_back(jpeg_step("final.jpeg", quality, p));
    }
}

void add_back(Draws& draws, const Preset& p, PixelSize gt, LevelPlan& level) {
    ResizeMode mode = ResizeMode::bicubic;
    switch (p.resize_back) {
        case ResizeBack::none:
            return;
        case ResizeBack::drawn:
            mode = modes[draws.choice(slot::mode_to_gt, "back.mode", modes.size())];
            break;
        case ResizeBack::area:
            mode = ResizeMode::area;
            break;
        case ResizeBack::bilinear:
            mode = ResizeMode::bilinear;
            break;
        case ResizeBack::bicubic:
            break;
    }
    level.back.push_back(size_step("back.resize", gt, mode, false));
    if (p.quantise == Quantise::after_resize_back) {
        level.back.push_back(
            named_step("back.quantise", "clamp_round", Json::object(), Tier::exact));
    } else {
        level.back.push_back(named_step("back.clamp", "clamp", Json::object(), Tier::exact));
    }
}

/// Stage 1 and blur 2 do not know the scale, unless an option makes them.
bool can_share(const PlanRequest& request) {
    if (request.couple != Couple::stage1 && request.couple != Couple::comonotone) return false;
    const Json first = request.levels[0].preset.json();
    return std::all_of(request.levels.begin(), request.levels.end(), [&](const LevelRequest& l) {
        return l.preset.pipeline == Pipeline::second_order &&
               (request.levels.size() == 1 ||
                (!l.preset.resize1_scaled && l.preset.blur_scale == BlurScale::none)) &&
               l.preset.json() == first;
    });
}

/// The size of the picture that a level's second noise finds.
PixelSize noise2_size(const LevelPlan& level) {
    PixelSize size;
    for (const NamedStep& step : level.steps) {
        if (step.name == "stage2.noise") break;
        const auto* resize = dynamic_cast<const ResizeStep*>(step.step.get());
        if (!resize) continue;  // stage 2 resizes to a size, whatever came before
        size = {resize->columns(size.width).m, resize->rows(size.height).m};
    }
    return size;
}

/// Gives the levels one second Gaussian field: the one that the largest picture draws anyway.
void nest_noise2(const PlanRequest& request, Plan& plan) {
    struct Nested {
        NamedStep* step;
        const GaussianNoiseStep* noise;
        PixelSize size;
    };
    std::vector<Nested> all;
    for (std::size_t i = 0; i < plan.levels.size(); ++i) {
        if (request.levels[i].preset.noise2_field != Noise2Field::nested) continue;
        for (NamedStep& step : plan.levels[i].steps) {
            const auto* noise = dynamic_cast<const GaussianNoiseStep*>(step.step.get());
            if (step.name != "stage2.noise" || !noise) continue;
            all.push_back({&step, noise, noise2_size(plan.levels[i])});
        }
    }
    if (all.empty()) return;
    const auto pixels = [](const Nested& n) { return std::int64_t{n.size.width} * n.size.height; };
    const auto largest =
        std::max_element(all.begin(), all.end(),
                         [&](const Nested& a, const Nested& b) { return pixels(a) < pixels(b); });
    const FieldName field = largest->noise->field;  // its step is replaced below
    // A least side may make a picture with fewer pixels longer on one axis
    PixelSize from;
    for (const Nested& n : all) {
        from = {std::max(from.width, n.size.width), std::max(from.height, n.size.height)};
    }
    for (const Nested& n : all) {
        auto noise = std::make_shared<GaussianNoiseStep>(*n.noise);
        noise->field = field;
        if (n.size != from) noise->nested_from = from;
        n.step->step = noise;
    }
}

/// A picture that is left as it is, but for its size (slot 70; StableSR uses GT itself, which is
/// the same up to its resize).
void add_undegraded(LevelPlan& level, const Preset& p) {
    level.steps.push_back(size_step("final.resize", level.lr, ResizeMode::bicubic, true));
    add_quantise(p, level.steps);
}

std::vector<LevelPlan> empty_levels(const PlanRequest& request) {
    if (request.levels.empty()) fail(Fault::usage, "name at least one scale");
    std::vector<LevelPlan> levels;
    for (const LevelRequest& wanted : request.levels) {
        if (wanted.scale < 1 || wanted.scale > 63) {
            fail(Fault::usage, "a scale lies in 1 to 63, not at {}", wanted.scale);
        }
        const auto twins = std::count_if(levels.begin(), levels.end(), [&](const LevelPlan& l) {
            return l.scale == wanted.scale;
        });
        if (twins > 3) fail(Fault::usage, "scale {} is named more than four times", wanted.scale);
        LevelPlan level;
        level.scale = wanted.scale;
        level.preset = wanted.preset.name;
        level.level = static_cast<std::uint32_t>(wanted.scale + 64 * twins);
        level.lr = lr_size(request.gt, wanted.scale, wanted.preset.lr_size_rule);
        levels.push_back(std::move(level));
    }
    return levels;
}

}  // namespace

Couple couple(std::string_view name) {
    std::string known;
    for (const auto& [word, value] : couples) {
        if (word == name) return value;
        known += known.empty() ? "" : ", ";
        known += word;
    }
    fail(Fault::usage, "unknown coupling '{}'; known: {}", name, known);
}

std::string_view couple_name(Couple value) {
    return couples[static_cast<std::size_t>(value)].first;
}

PixelSize lr_size(PixelSize gt, int scale, LrSizeRule rule) {
    const auto side = [&](int n) {
        switch (rule) {
            case LrSizeRule::round:
                return std::max(1, (2 * n + scale) / (2 * scale));
            case LrSizeRule::ceil:
                return (n + scale - 1) / scale;
            default:
                return std::max(1, n / scale);
        }
    };
    return {side(gt.width), side(gt.height)};
}

NamedStep named_step(std::string name, std::string_view kind, const Json& params, Tier tier) {
    const DegradationInfo& info = degradation(kind);
    return {std::move(name), info.name, info.make(params, {}, tier)};
}

Plan make_plan(const PlanRequest& request) {
    Plan plan{request.stream, request.gt, request.couple, request.tier, {}, {}, {}};
    plan.draws = Json::object();
    plan.levels = empty_levels(request);
    const Orientation orientation =
        request.couple == Couple::comonotone ? Orientation::worse_up : Orientation::plain;
    const bool own_draws =
        request.couple == Couple::independent || request.couple == Couple::cascade;
    const bool own_fields = own_draws || request.couple == Couple::params;
    if (request.levels[0].preset.usm) {
        plan.shared.push_back({"usm", "usm", std::make_shared<UsmStep>()});
    }

    // What all levels share
    const bool shares = can_share(request);
    const Preset& first = request.levels[0].preset;
    bool undegraded = false;
    if (shares) {
        Draws draws(request.stream, 0, orientation);
        undegraded =
            first.no_degradation_prob > 0 &&
            draws.chance(slot::no_degradation, "undegraded", first.no_degradation_prob, true);
        if (!undegraded) {
            add_stage1(draws, first, request.levels[0].scale, request.gt, {slot::noise_field1, 0},
                       request.tier, plan.shared);
            add_blur2(draws, first, request.levels[0].scale, request.tier, plan.shared);
        }
        insert_extra_steps(draws, first.extra_steps, request.tier, plan.shared);
        plan.draws = draws.log();
    }

    // Each level
    for (std::size_t i = 0; i < plan.levels.size(); ++i) {
        LevelPlan& level = plan.levels[i];
        const Preset& p = request.levels[i].preset;
        Draws draws(request.stream, own_draws ? level.level : 0, orientation);
        PixelSize input = request.gt;
        if (request.couple == Couple::cascade && i > 0) {
            level.input = static_cast<int>(i) - 1;
            input = plan.levels[i - 1].lr;
        }
        if (p.pipeline != Pipeline::second_order) {
            add_shuffled(draws, p, input, level, request.tier);
        } else if (!shares && p.no_degradation_prob > 0 &&
                   draws.chance(slot::no_degradation, "undegraded", p.no_degradation_prob, true)) {
            add_undegraded(level, p);
        } else if (undegraded) {
            add_undegraded(level, p);
        } else {
            if (!shares) {
                const FieldName field{slot::noise_field1, own_fields ? level.level : 0};
                add_stage1(draws, p, level.scale, input, field, request.tier, level.steps);
                add_blur2(draws, p, level.scale, request.tier, level.steps);
            }
            // Unrelated levels share nothing, not even their photon numbers
            const PoissonVals vals = own_draws && p.poisson_vals == PoissonVals::shared
                                         ? PoissonVals::content
                                         : p.poisson_vals;
            add_stage2(draws, p, request.gt, vals, level, request.tier);
            add_quantise(p, level.steps);
        }
        insert_extra_steps(draws, p.extra_steps, request.tier, level.steps);
        add_back(draws, p, request.gt, level);
        level.draws = draws.log();
    }
    if (!own_fields) nest_noise2(request, plan);
    return plan;
}

}  // namespace ultrasr
