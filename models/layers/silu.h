// The arithmetic of one element behind a normalisation, read by both compilers: the CPU's loops
// and the CUDA kernel compute the same.
#pragma once
#include <cmath>
#include <cstdint>

#include "data/base/host_device.h"

namespace ultrasr {

/// e^x in float32, relative error below 2e-7 on [-87, 88]; outside it the value at the nearer end.
///
/// 2^n 2^r with n whole and |r| <= 1/2 ln 2 after Cody and Waite; Taylor's polynomial of degree 7
/// in r. Branch-free, so that loops over it become vector code.
ULTRASR_HOST_DEVICE inline float exp_float(float x) {
    x = x < -87.0F ? -87.0F : x;
    x = x > 88.0F ? 88.0F : x;
    constexpr float to_whole = 12582912.0F;  // 1.5 * 2^23: adding it rounds to a whole number
    const float shifted = std::fma(x, 1.44269504F, to_whole);
    const float n = shifted - to_whole;
    float r = std::fma(n, -0.693359375F, x);
    r = std::fma(n, 2.12194440e-4F, r);
    float p = 1.98412698e-4F;
    p = std::fma(p, r, 1.38888889e-3F);
    p = std::fma(p, r, 8.33333333e-3F);
    p = std::fma(p, r, 4.16666667e-2F);
    p = std::fma(p, r, 1.66666667e-1F);
    p = std::fma(p, r, 0.5F);
    p = std::fma(p, r, 1.0F);
    p = std::fma(p, r, 1.0F);
    // The whole part goes into the exponent's bits
    const auto exponent = static_cast<std::int32_t>(n) + 127;
    const std::int32_t bits = exponent * (1 << 23);
    float power = 0.0F;
    __builtin_memcpy(&power, &bits, sizeof power);
    return p * power;
}

/// x / (1 + e^-x)
ULTRASR_HOST_DEVICE inline float silu(float x) { return x / (1.0F + exp_float(-x)); }

/// silu(gain x + shift): a normalisation as gain and shift of its channel, then SiLU.
ULTRASR_HOST_DEVICE inline float scaled_silu(float x, float gain, float shift) {
    return silu(std::fma(gain, x, shift));
}

}  // namespace ultrasr
