#include "degradation/shuffled_plan.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "degradation/steps/exact_math.h"
#include "degradation/steps/shuffled_steps.h"

namespace ultrasr {
namespace {

constexpr std::array cv_modes{ResizeMode::bilinear, ResizeMode::bicubic, ResizeMode::area_cv};
constexpr std::uint32_t fields_from = 300;  // noise fields of operation i: slot 300 + i
constexpr int order_operation = 20;         // whose slots hold the shuffles
constexpr int last_resize = 21, last_jpeg = 22, pre_step = 23;

/// Adds the operations of BSRGAN and BSRGAN plus one by one and keeps track of the size. Operation
/// i draws from its own 32 slots, so that the order shifts nothing.
class Shuffle {
  public:
    Shuffle(Draws& draws, const Preset& p, PixelSize size, LevelPlan& level, Tier tier)
        : draws_(draws), preset_(p), size_(size), level_(level), tier_(tier), sf_(level.scale) {}

    int sf() const { return sf_; }
    PixelSize size() const { return size_; }

    /// At x4, one time in four: halve first, then degrade for x2.
    void halve_first() {
        if (sf_ != 4 || !chance(pre_step, 0, "halved", 0.25)) return;
        const PixelSize half{size_.width / 2, size_.height / 2};
        const bool cv = chance(pre_step, 1, "by_cv", 0.5);
        resize(pre_step, cv ? cv_mode(pre_step, 2) : ResizeMode::bicubic_matlab, half, !cv);
        clamp(pre_step);
        sf_ = 2;
    }

    void blur(int op) {
        KernelSpec spec;
        const double wide = 4.0 + sf_;
        spec.type = chance(op, 0, "aniso", 0.5) ? KernelType::aniso : KernelType::iso;
        spec.size = 2 * draws_.integer(at(op, 1), name(op, "size"), 2, 11) + 3;
        // Variances there; a kernel needs a width, so not quite 0
        const auto width = [](double variance) { return std::sqrt(std::max(variance, 1e-4)); };
        if (spec.type == KernelType::aniso) {
            spec.rotation = uniform(op, 2, "rotation", {0, std::numbers::pi});
            spec.sigma_x = width(uniform(op, 3, "variance_1", {0, wide}));
            spec.sigma_y = width(uniform(op, 4, "variance_2", {0, wide}));
        } else {
            const double sigma = uniform(op, 3, "sigma", {0, 2 + 0.2 * sf_});
            spec.sigma_x = spec.sigma_y = std::max(sigma, 0.01);
        }
        add(op, "blur", "blur", std::make_shared<BlurStep>(spec, tier_));
    }

    void downsample(int op) {
        if (chance(op, 0, "resized", 0.75)) {
            const double factor = uniform(op, 1, "divisor", {1, 2.0 * sf_});
            resize(op, cv_mode(op, 2), divided(size_, factor));
        } else {
            auto step = std::make_shared<ShiftedDownsampleStep>();
            step->sigma = uniform(op, 3, "sigma", {0.1, 0.6 * sf_});
            step->scale = sf_;
            add(op, "downsample", "shifted_downsample", step);
            size_ = {(size_.width + sf_ - 1) / sf_, (size_.height + sf_ - 1) / sf_};
        }
        clamp(op);
    }

    /// BSRGAN plus: up, down or not at all.
    void random_resize(int op) {
        constexpr std::array weights{0.2, 0.7, 0.1};
        const std::size_t direction = draws_.weighted(at(op, 0), name(op, "direction"), weights);
        double factor = 1;
        if (direction == 0) factor = uniform(op, 1, "factor", {1, 2});
        if (direction == 1) factor = uniform(op, 1, "factor", {0.5 / sf_, 1});
        resize(op, cv_mode(op, 2), divided(size_, 1 / factor));
        clamp(op);
    }

    void to_size(int op, PixelSize size) {
        resize(op, cv_mode(op, 2), size);
        clamp(op);
    }

    void gaussian(int op, bool speckle = false) {
        const double level = draws_.integer(at(op, 0), name(op, "level"), 2, 25) / 255.0;
        const double kind = draws_.uniform(at(op, 1), name(op, "kind"), {0, 1});
        auto step = std::make_shared<MixedNoiseStep>();
        step->multiplied = speckle;
        step->gray = kind < 0.4;
        for (std::size_t i = 0; i < 3; ++i) step->mixing[i][step->gray ? 0 : i] = level;
        if (kind >= 0.4 && kind <= 0.6) {
            std::array<double, 3> d{};
            std::array<double, 9> a{};
            std::uint32_t next = 2;
            for (double& v : d) v = draw_unit(draws_.stream(), at(op, next++), draws_.level());
            for (double& v : a) v = draw_unit(draws_.stream(), at(op, next++), draws_.level());
            step->mixing = correlated_mixing(d, a, 25 / 255.0);
        }
        step->field = field(op);
        add(op, speckle ? "speckle" : "noise", "mixed_noise", step);
    }

    void poisson(int op) {
        auto step = std::make_shared<PhotonNoiseStep>();
        // 10^U(2,4)
        step->vals = exact::pow(10, uniform(op, 1, "log_vals", {2, 4}));
        step->gray = !chance(op, 2, "colour", 0.5);
        step->field = field(op);
        add(op, "poisson", "photon_noise", step);
    }

    void jpeg(int op) {
        auto step = std::make_shared<JpegStep>();
        step->quality = draws_.integer(at(op, 1), name(op, "quality"), 30, 95);
        step->backend = preset_.jpeg_backend;
        step->padding = preset_.jpeg_padding;
        add(op, "jpeg", "jpeg", step);
    }

    void usm() { level_.steps.push_back({"sharpen", "usm", std::make_shared<UsmStep>()}); }

    bool chance(int op, std::uint32_t slot_number, const char* what, double probability) {
        return draws_.chance(at(op, slot_number), name(op, what), probability);
    }

    /// A random order of what is there (Fisher and Yates).
    void shuffle_(std::vector<int>::iterator begin, std::vector<int>::iterator end,
                  std::uint32_t first_slot) {
        for (auto n = end - begin; n > 1; --n) {
            const std::uint32_t s = at(order_operation, first_slot++);
            const double u = draw_unit(draws_.stream(), s, draws_.level());
            std::iter_swap(begin + (n - 1),
                           begin + static_cast<std::ptrdiff_t>(u * static_cast<double>(n)));
        }
    }

  private:
    std::uint32_t at(int op, std::uint32_t slot_number) const {
        return slot::shuffle + 32 * static_cast<std::uint32_t>(op) + slot_number;
    }
    std::string name(int op, const char* what) const { return fmt::format("op{}.{}", op, what); }
    FieldName field(int op) const {
        return {fields_from + static_cast<std::uint32_t>(op), level_.level};
    }
    double uniform(int op, std::uint32_t slot_number, const char* what, Range range) {
        return draws_.uniform(at(op, slot_number), name(op, what), range);
    }
    ResizeMode cv_mode(int op, std::uint32_t slot_number) {
        return cv_modes[draws_.choice(at(op, slot_number), name(op, "mode"), cv_modes.size())];
    }
    static PixelSize divided(PixelSize size, double by) {
        const auto side = [&](int n) { return std::max(1, static_cast<int>(1 / by * n)); };
        return {side(size.width), side(size.height)};
    }
    void resize(int op, ResizeMode mode, PixelSize size, bool antialias = false) {
        auto step = std::make_shared<ResizeStep>();
        step->mode = mode;
        step->size = size;
        step->antialias = antialias;
        add(op, "resize", "resize_size", step);
        size_ = size;
    }
    void clamp(int op) { add(op, "clamp", "clamp", std::make_shared<ClampStep>()); }
    void add(int op, const char* what, std::string_view kind, StepPtr step) {
        level_.steps.push_back({fmt::format("op{}.{}", op, what), kind, std::move(step)});
    }

    Draws& draws_;
    const Preset& preset_;
    PixelSize size_;
    LevelPlan& level_;
    Tier tier_;
    int sf_;
};

/// degradation_bsrgan; FeMaSR's is the same up to its last rounding.
void add_bsrgan(Shuffle& s, PixelSize lr) {
    s.halve_first();
    std::vector<int> order(7);
    std::iota(order.begin(), order.end(), 0);
    s.shuffle_(order.begin(), order.end(), 0);
    // The final resize comes after the downsampling
    const auto two = std::find(order.begin(), order.end(), 2);
    const auto three = std::find(order.begin(), order.end(), 3);
    if (two > three) std::iter_swap(two, three);
    for (const int op : order) {
        switch (op) {
            case 0:
            case 1:
                s.blur(op);
                break;
            case 2:
                s.downsample(op);
                break;
            case 3:
                s.to_size(op, lr);
                break;
            case 4:
                s.gaussian(op);
                break;
            case 5:
                if (s.chance(op, 0, "jpeg", 0.9)) s.jpeg(op);
                break;
            default:
                break;  // the camera model: none is shipped
        }
    }
    s.jpeg(last_jpeg);
}

/// degradation_bsrgan_plus.
void add_bsrgan_plus(Shuffle& s, PixelSize lr) {
    s.usm();
    std::vector<int> order(13);
    std::iota(order.begin(), order.end(), 0);
    if (s.chance(order_operation, 31, "shuffled", 0.5)) {
        s.shuffle_(order.begin(), order.end(), 0);
    } else {
        s.shuffle_(order.begin() + 2, order.begin() + 6, 13);
        s.shuffle_(order.begin() + 9, order.begin() + 13, 17);
    }
    for (const int op : order) {
        switch (op) {
            case 0:
            case 7:
                s.blur(op);
                break;
            case 1:
            case 8:
                s.random_resize(op);
                break;
            case 2:
            case 9:
                s.gaussian(op);
                break;
            case 3:
            case 10:
                if (s.chance(op, 0, "poisson", 0.1)) s.poisson(op);
                break;
            case 4:
            case 11:
                if (s.chance(op, 20, "speckle", 0.1)) s.gaussian(op, true);
                break;
            case 6:
                s.jpeg(op);
                break;
            default:
                break;  // 5 and 12, the camera model: none is shipped
        }
    }
    s.to_size(last_resize, lr);
    s.jpeg(last_jpeg);
}

/// One blur, one downscale by up to 32, noise, JPEG: degradation.md 2, "other sets".
void add_one_order(Draws& draws, const Preset& p, PixelSize input, LevelPlan& level, Tier tier) {
    const StageDraws& stage = p.stage1;
    KernelSpec spec;
    spec.size = stage.kernel.fixed_size > 0 ? stage.kernel.fixed_size : 41;
    spec.type = static_cast<KernelType>(
        draws.weighted(slot::kernel1 + 3, "kernel.type", stage.kernel.type_weights));
    spec.sigma_x = spec.sigma_y =
        draws.uniform(slot::kernel1 + 4, "kernel.sigma_x", stage.kernel.sigma);
    if (spec.type == KernelType::aniso) {
        spec.sigma_y = draws.uniform(slot::kernel1 + 5, "kernel.sigma_y", stage.kernel.sigma);
        spec.rotation = draws.uniform(slot::kernel1 + 6, "kernel.rotation",
                                      {-std::numbers::pi, std::numbers::pi});
    }
    level.steps.push_back({"stage1.blur", "blur", std::make_shared<BlurStep>(spec, tier)});
    const auto resize = [&](const char* name, PixelSize size) {
        auto step = std::make_shared<ResizeStep>();
        step->mode = ResizeMode::bilinear;
        step->size = size;
        level.steps.push_back({name, "resize_size", step});
    };
    const double divisor = draws.uniform(slot::stage1 + 1, "divisor", stage.resize);
    const auto side = [&](int n) { return std::max(1, static_cast<int>(n / divisor)); };
    resize("stage1.resize", {side(input.width), side(input.height)});
    auto noise = std::make_shared<GaussianNoiseStep>();
    noise->sigma = draws.uniform(slot::stage1 + 4, "sigma", stage.noise);
    noise->gray = draws.chance(slot::stage1 + 5, "gray", stage.gray_noise_prob);
    noise->field = {slot::noise_field1, level.level};
    level.steps.push_back({"stage1.noise", "gaussian_noise", noise});
    auto jpeg = std::make_shared<JpegStep>();
    jpeg->quality = draws.uniform(slot::stage1 + 6, "quality", stage.jpeg);
    jpeg->backend = p.jpeg_backend;
    jpeg->padding = p.jpeg_padding;
    level.steps.push_back({"stage1.jpeg", "jpeg", jpeg});
    resize("final.resize", level.lr);
    if (draws.chance(slot::grayscale, "grayscale", 0.01)) {
        level.steps.push_back(named_step("final.gray", "grayscale", Json::object(), tier));
    }
}

}  // namespace

void add_shuffled(Draws& draws, const Preset& preset, PixelSize input, LevelPlan& level,
                  Tier tier) {
    if (preset.pipeline == Pipeline::one_order) {
        add_one_order(draws, preset, input, level, tier);
    } else {
        Shuffle shuffle(draws, preset, input, level, tier);
        if (preset.pipeline == Pipeline::bsrgan_plus) {
            add_bsrgan_plus(shuffle, level.lr);
        } else {
            add_bsrgan(shuffle, level.lr);
        }
    }
    const bool truncated = preset.quantise == Quantise::truncate;
    level.steps.push_back(named_step("final.quantise", truncated ? "clamp_truncate" : "clamp_round",
                                     Json::object(), tier));
}

}  // namespace ultrasr
