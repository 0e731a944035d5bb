#include "tests/metrics/generated_weights.h"

#include <ATen/ops/empty.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

namespace ultrasr::test {
namespace {

struct Rule {
    double offset = 0;
    double scale = 0;
    bool absolute = false;
};

bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

/// The first that matches counts, as in generated_weights.py.
Rule rule(std::string_view name, at::IntArrayRef shape) {
    double fan_in = 1;
    for (std::size_t d = 1; d < shape.size(); ++d) fan_in *= static_cast<double>(shape[d]);
    if (name.starts_with("input.")) return {0.0, 1.0};
    if (name.ends_with("running_var")) return {0.5, 0.5, true};
    if (name.ends_with("running_mean")) return {0.0, 0.1};
    if (name == "logit_scale") return {4.6052, 0.0};
    if (name.starts_with("visual.layer") && name.ends_with("bn3.weight")) return {0.25, 0.1};
    if (shape.size() == 1 && name.ends_with("weight")) return {1.0, 0.1};
    if (shape.size() == 1) return {0.0, 0.05};
    if (name.starts_with("lin") || name == "alpha" || name == "beta") return {0.0, 0.1, true};
    if (name == "token_embedding.weight") return {0.0, 1.5};
    for (const char* word : {"posembed", "pos_emb", "position", "scale_emb", "cls", "class_emb",
                             "token_embedding", "learned", "ctx"}) {
        if (contains(name, word)) return {0.0, 0.5};
    }
    if (name == "head.weight" && shape[0] == 1) return {0.0, 3.0};
    constexpr std::array<std::pair<std::string_view, double>, 7> gains{
        {{"attnpool.q_proj.weight", 0.6},
         {"attnpool.k_proj.weight", 0.6},
         {"c_q.weight", 0.02},
         {"c_k.weight", 0.02},
         {"c_v.weight", 0.25},
         {"fc_score.3.weight", 0.002},
         {"fc_weight.3.weight", 0.005}}};
    for (const auto& [ending, gain] : gains) {
        if (name.ends_with(ending)) return {0.0, std::sqrt(gain / fan_in)};
    }
    if (name == "text_projection") return {0.0, std::sqrt(1.0 / 512)};
    return {0.0, std::sqrt(2.0 / fan_in)};
}

std::uint64_t fnv1a(std::string_view name) {
    std::uint64_t key = 0xcbf29ce484222325;
    for (const char c : name) key = (key ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return key;
}

/// Nearly standard normal: the sum of the four 16-bit fields of splitmix64's i-th number.
double normal(std::uint64_t key, std::uint64_t i) {
    std::uint64_t z = key + (i + 1) * 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    z ^= z >> 31;
    const auto sum = static_cast<std::int64_t>((z & 0xffff) + ((z >> 16) & 0xffff) +
                                               ((z >> 32) & 0xffff) + (z >> 48));
    return static_cast<double>(sum - 131070) / 37837.22;
}

/// What RN50.pt stores as float16, weights and biases alike.
bool is_half_in_clip(std::string_view name) {
    return contains(name, "conv") || contains(name, "downsample.0") || contains(name, "_proj") ||
           contains(name, "c_fc");
}

}  // namespace

at::Tensor generated_tensor(const std::string& name, at::IntArrayRef shape) {
    const Rule r = rule(name, shape);
    const std::uint64_t key = fnv1a(name);
    at::Tensor result = at::empty(shape, at::kFloat);
    float* out = result.mutable_data_ptr<float>();
    const std::int64_t n = result.numel();
    for (std::int64_t i = 0; i < n; ++i) {
        const double z = normal(key, static_cast<std::uint64_t>(i));
        out[i] = static_cast<float>(r.offset + r.scale * (r.absolute ? std::abs(z) : z));
    }
    return result;
}

StateDict generated_weights() { return StateDict(generated_tensor); }

StateDict generated_clip_weights() {
    return StateDict([](const std::string& name, at::IntArrayRef shape) {
        const at::Tensor values = generated_tensor(name, shape);
        return is_half_in_clip(name) ? values.to(at::kHalf).to(at::kFloat) : values;
    });
}

std::shared_ptr<const WeightSource> generated_source() {
    struct Generated final : WeightSource {
        StateDict open(std::string_view file) const override {
            return file == "RN50.pt" ? generated_clip_weights() : generated_weights();
        }
    };
    static const auto source = std::make_shared<const Generated>();
    return source;
}

}  // namespace ultrasr::test
