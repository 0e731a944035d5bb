#include "models/normal_noise.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <numbers>

namespace ultrasr {

at::Tensor normal_noise(at::IntArrayRef shape, Rng& rng) {
    at::Tensor noise = at::empty(shape, at::kFloat);
    float* out = noise.mutable_data_ptr<float>();
    const std::int64_t n = noise.numel();
    for (std::int64_t i = 0; i < n; i += 2) {
        const double radius = std::sqrt(-2.0 * std::log(1.0 - rng.uniform()));
        const double angle = 2.0 * std::numbers::pi * rng.uniform();
        out[i] = static_cast<float>(radius * std::cos(angle));
        if (i + 1 < n) out[i + 1] = static_cast<float>(radius * std::sin(angle));
    }
    return noise;
}

}  // namespace ultrasr
