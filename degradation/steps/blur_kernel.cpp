#include "degradation/steps/blur_kernel.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "degradation/json_fields.h"
#include "degradation/steps/exact_math.h"

namespace ultrasr {
namespace {

constexpr std::array<std::pair<std::string_view, KernelType>, 8> type_names{
    {{"iso", KernelType::iso},
     {"aniso", KernelType::aniso},
     {"generalized_iso", KernelType::generalized_iso},
     {"generalized_aniso", KernelType::generalized_aniso},
     {"plateau_iso", KernelType::plateau_iso},
     {"plateau_aniso", KernelType::plateau_aniso},
     {"sinc", KernelType::sinc},
     {"pulse", KernelType::pulse}}};

bool is_aniso(KernelType type) {
    return type == KernelType::aniso || type == KernelType::generalized_aniso ||
           type == KernelType::plateau_aniso;
}
bool is_generalized(KernelType type) {
    return type == KernelType::generalized_iso || type == KernelType::generalized_aniso;
}
bool is_plateau(KernelType type) {
    return type == KernelType::plateau_iso || type == KernelType::plateau_aniso;
}

void check(const KernelSpec& s) {
    require(s.size >= 1 && s.size <= 81 && s.size % 2 == 1,
            "a blur kernel's size is odd and from 1 to 81, not {}", s.size);
    const auto positive = [](double v) { return std::isfinite(v) && v > 0; };
    if (s.type == KernelType::sinc) {
        require(positive(s.omega) && s.omega <= std::numbers::pi + 1e-9,
                "the sinc kernel's omega lies in (0, pi], not at {}", s.omega);
    } else if (s.type != KernelType::pulse) {
        require(positive(s.sigma_x) && positive(s.sigma_y),
                "a blur kernel's sigma is above 0, not {} and {}", s.sigma_x, s.sigma_y);
        require(std::isfinite(s.rotation), "a blur kernel's rotation is a finite angle");
        require(positive(s.beta), "a blur kernel's beta is above 0, not {}", s.beta);
    }
}

/// The bell shapes before they are divided by their sum, degradation.md 1.3. Letters as there.
std::vector<double> bell(const KernelSpec& spec) {
    const int K = spec.size, R = K / 2;
    const double sigma_y = is_aniso(spec.type) ? spec.sigma_y : spec.sigma_x;
    const double theta = is_aniso(spec.type) ? spec.rotation : 0;
    const double c = exact::cos(theta), s = exact::sin(theta);
    const double px = 1 / (spec.sigma_x * spec.sigma_x), py = 1 / (sigma_y * sigma_y);
    const double xx = c * c * px + s * s * py, yy = s * s * px + c * c * py;
    const double xy = c * s * (px - py);
    std::vector<double> h(static_cast<std::size_t>(K) * static_cast<std::size_t>(K));
    std::size_t i = 0;
    for (int y = -R; y <= R; ++y) {
        for (int x = -R; x <= R; ++x, ++i) {
            const double m = xx * x * x + 2 * xy * x * y + yy * y * y;
            if (is_generalized(spec.type)) {
                h[i] = exact::exp(-0.5 * exact::pow(m, spec.beta));
            } else if (is_plateau(spec.type)) {
                h[i] = 1 / (1 + exact::pow(m, spec.beta));
            } else {
                h[i] = exact::exp(-0.5 * m);
            }
        }
    }
    return h;
}

std::vector<double> sinc(const KernelSpec& spec) {
    const int K = spec.size, R = K / 2;
    const auto at = [&](int y, int x) {
        if (x == 0 && y == 0) return spec.omega * spec.omega / (4 * std::numbers::pi);
        const double r = std::sqrt(static_cast<double>(x * x + y * y));
        return spec.omega * exact::bessel_j1(spec.omega * r) / (2 * std::numbers::pi * r);
    };
    // One eighth of the circle; the rest are its mirror images
    std::vector<double> h(static_cast<std::size_t>(K) * static_cast<std::size_t>(K));
    for (int y = 0; y <= R; ++y) {
        for (int x = 0; x <= y; ++x) {
            const double value = at(y, x);
            for (const auto& [v, u] : {std::pair{y, x}, std::pair{x, y}}) {
                for (const int sv : {-v, v}) {
                    for (const int su : {-u, u}) {
                        h[static_cast<std::size_t>((R + sv) * K + R + su)] = value;
                    }
                }
            }
        }
    }
    return h;
}

/// The largest magnitude so that all taps below it together stay within the budget.
float worthless(const std::vector<float>& taps, double budget) {
    std::vector<float> sorted(taps.size());
    std::transform(taps.begin(), taps.end(), sorted.begin(), [](float t) { return std::abs(t); });
    std::sort(sorted.begin(), sorted.end());
    double sum = 0;
    for (const float t : sorted) {
        sum += t;
        if (sum > budget) return t;
    }
    return 0;  // all of them: a kernel of zeros stays as it is
}

void find_rows(BlurKernel& kernel, Tier tier) {
    const int K = kernel.size;
    const float least = worthless(kernel.taps, tier == Tier::exact ? 0x1p-25 : 1e-6);
    kernel.rows.assign(static_cast<std::size_t>(K), {});
    for (int y = 0; y < K; ++y) {
        const float* row = kernel.taps.data() + y * K;
        TapRow& range = kernel.rows[static_cast<std::size_t>(y)];
        range.first = 0;
        range.last = K - 1;
        while (range.first <= range.last && std::abs(row[range.first]) < least) ++range.first;
        while (range.last >= range.first && std::abs(row[range.last]) < least) --range.last;
    }
    kernel.folds = true;
    for (int y = 0; y < K / 2 && kernel.folds; ++y) {
        const float* row = kernel.taps.data() + y * K;
        kernel.folds = std::equal(row, row + K, kernel.taps.data() + (K - 1 - y) * K);
    }
}

/// The taps of the isotropic Gaussian along one axis, sum 1; the outermost left out in pairs.
std::vector<float> separable_taps(const KernelSpec& spec, Tier tier) {
    const int R = spec.size / 2;
    std::vector<double> g(static_cast<std::size_t>(spec.size));
    double sum = 0;
    for (int x = -R; x <= R; ++x) {
        const double value = exact::exp(-0.5 * x * x / (spec.sigma_x * spec.sigma_x));
        g[static_cast<std::size_t>(x + R)] = value;
        sum += value;
    }
    const double budget = tier == Tier::exact ? 0x1p-26 : 0.5e-6;  // each axis has its half
    std::size_t skip = 0;
    for (double left = 0; skip < static_cast<std::size_t>(R); ++skip) {
        left += 2 * g[skip] / sum;
        if (left > budget) break;
    }
    std::vector<float> taps;
    for (std::size_t i = skip; i < g.size() - skip; ++i) {
        taps.push_back(static_cast<float>(g[i] / sum));
    }
    return taps;
}

}  // namespace

KernelType kernel_type(std::string_view name) {
    std::string known;
    for (const auto& [word, type] : type_names) {
        if (word == name) return type;
        known += known.empty() ? "" : ", ";
        known += word;
    }
    fail(Fault::usage, "unknown kernel type '{}'; known: {}", name, known);
}

std::string_view kernel_type_name(KernelType type) {
    return std::find_if(type_names.begin(), type_names.end(),
                        [&](const auto& entry) { return entry.second == type; })
        ->first;
}

Json KernelSpec::json() const {
    Json out{{"type", kernel_type_name(type)}};
    if (type == KernelType::pulse) return out;
    out["size"] = size;
    if (type == KernelType::sinc) {
        out["omega"] = omega;
        return out;
    }
    out["sigma_x"] = sigma_x;
    if (is_aniso(type)) {
        out["sigma_y"] = sigma_y;
        out["rotation"] = rotation;
    }
    if (is_generalized(type) || is_plateau(type)) out["beta"] = beta;
    return out;
}

KernelSpec KernelSpec::from_json(const Json& params) {
    JsonFields fields(params, "kernel");
    KernelSpec spec;
    spec.type = kernel_type(fields.text("type"));
    spec.size = fields.integer("size", 1);
    spec.sigma_x = fields.number("sigma_x", 1);
    spec.sigma_y = fields.number("sigma_y", spec.sigma_x);
    spec.rotation = fields.number("rotation", 0);
    spec.beta = fields.number("beta", 1);
    spec.omega = fields.number("omega", 3);
    fields.done();
    check(spec);
    return spec;
}

std::uint64_t BlurKernel::hash() const {
    std::uint64_t h = 0xcbf29ce484222325;
    const auto mix = [&](std::uint32_t word) {
        for (int i = 0; i < 4; ++i, word >>= 8) h = (h ^ (word & 0xFF)) * 0x100000001b3;
    };
    mix(static_cast<std::uint32_t>(size));
    for (const float tap : taps) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, &tap, sizeof bits);
        mix(bits);
    }
    return h;
}

BlurKernel make_kernel(int size, std::vector<float> taps, Tier tier) {
    require(size >= 1 && size % 2 == 1 &&
                taps.size() == static_cast<std::size_t>(size) * static_cast<std::size_t>(size),
            "a blur kernel is square with an odd side, not {} taps in rows of {}", taps.size(),
            size);
    BlurKernel kernel;
    kernel.size = size;
    kernel.taps = std::move(taps);
    find_rows(kernel, tier);
    return kernel;
}

BlurKernel make_kernel(const KernelSpec& spec, Tier tier) {
    check(spec);
    if (spec.type == KernelType::pulse) return {};
    const std::vector<double> h = spec.type == KernelType::sinc ? sinc(spec) : bell(spec);
    double sum = 0;
    for (const double value : h) sum += value;
    std::vector<float> taps(h.size());
    std::transform(h.begin(), h.end(), taps.begin(),
                   [&](double value) { return static_cast<float>(value / sum); });
    BlurKernel kernel = make_kernel(spec.size, std::move(taps), tier);
    if (spec.type == KernelType::iso) kernel.separable = separable_taps(spec, tier);
    return kernel;
}

}  // namespace ultrasr
