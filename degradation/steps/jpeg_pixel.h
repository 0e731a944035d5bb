// The arithmetic of JPEG without entropy coding: colour, 8 x 8 cosine transform, quantisation.
// Source: ITU-T T.81 (Annex A and K); DiffJPEG's departures from it in degradation.md 1.9.
#pragma once
#include "degradation/steps/lanes.h"

namespace ultrasr {

/// RGB in [0,255] to luma and colour differences.
template <class V>
ULTRASR_HOST_DEVICE void ycbcr_of_rgb(V r, V g, V b, V& y, V& cb, V& cr) {
    y = fused(V(0.114F), b, fused(V(0.587F), g, V(0.299F) * r));
    cb = fused(V(0.5F), b, fused(V(-0.331264F), g, V(-0.168736F) * r)) + V(128.0F);
    cr = fused(V(-0.081312F), b, fused(V(-0.418688F), g, V(0.5F) * r)) + V(128.0F);
}

/// Back, clamped to [0,255] and divided by 255.
template <class V>
ULTRASR_HOST_DEVICE void rgb_of_ycbcr(V y, V cb, V cr, V& r, V& g, V& b) {
    const V blue = cb - V(128.0F), red = cr - V(128.0F);
    r = clamp(fused(V(1.402F), red, y), 0.0F, 255.0F) / V(255.0F);
    g = clamp(fused(V(-0.714136F), red, fused(V(-0.344136F), blue, y)), 0.0F, 255.0F) / V(255.0F);
    b = clamp(fused(V(1.772F), blue, y), 0.0F, 255.0F) / V(255.0F);
}

/// cos(k pi / 16) / 2 for k = 1 ... 7, and 1 / sqrt 8: the orthonormal transform's factors.
struct Cosines {
    static constexpr float c1 = 0.49039264020161522F, c2 = 0.46193976625564337F,
                           c3 = 0.41573480615127262F, c4 = 0.35355339059327376F,
                           c5 = 0.27778511650980114F, c6 = 0.19134171618254489F,
                           c7 = 0.097545161008064124F;
};

/// Orthonormal DCT-II of eight values, in place.
template <class V>
ULTRASR_HOST_DEVICE void dct8_(V x[8]) {
    using C = Cosines;
    const V s0 = x[0] + x[7], s1 = x[1] + x[6], s2 = x[2] + x[5], s3 = x[3] + x[4];
    const V d0 = x[0] - x[7], d1 = x[1] - x[6], d2 = x[2] - x[5], d3 = x[3] - x[4];
    const V outer = s0 + s3, inner = s1 + s2, p = s0 - s3, q = s1 - s2;
    const auto odd = [&](float a, float b, float c, float d) {
        return fused(V(d), d3, fused(V(c), d2, fused(V(b), d1, V(a) * d0)));
    };
    x[0] = V(C::c4) * (outer + inner);
    x[4] = V(C::c4) * (outer - inner);
    x[2] = fused(V(C::c6), q, V(C::c2) * p);
    x[6] = fused(V(-C::c2), q, V(C::c6) * p);
    x[1] = odd(C::c1, C::c3, C::c5, C::c7);
    x[3] = odd(C::c3, -C::c7, -C::c1, -C::c5);
    x[5] = odd(C::c5, -C::c1, C::c7, C::c3);
    x[7] = odd(C::c7, -C::c5, C::c3, -C::c1);
}

/// Its inverse, in place.
template <class V>
ULTRASR_HOST_DEVICE void idct8_(V x[8]) {
    using C = Cosines;
    const V outer = V(C::c4) * (x[0] + x[4]), inner = V(C::c4) * (x[0] - x[4]);
    const V p = fused(V(C::c6), x[6], V(C::c2) * x[2]);
    const V q = fused(V(-C::c2), x[6], V(C::c6) * x[2]);
    const V s0 = outer + p, s3 = outer - p, s1 = inner + q, s2 = inner - q;
    const auto odd = [&](float a, float b, float c, float d) {
        return fused(V(d), x[7], fused(V(c), x[5], fused(V(b), x[3], V(a) * x[1])));
    };
    const V d0 = odd(C::c1, C::c3, C::c5, C::c7), d1 = odd(C::c3, -C::c7, -C::c1, -C::c5);
    const V d2 = odd(C::c5, -C::c1, C::c7, C::c3), d3 = odd(C::c7, -C::c5, C::c3, -C::c1);
    x[0] = s0 + d0;
    x[7] = s0 - d0;
    x[1] = s1 + d1;
    x[6] = s1 - d1;
    x[2] = s2 + d2;
    x[5] = s2 - d2;
    x[3] = s3 + d3;
    x[4] = s3 - d3;
}

/// To the nearest multiple of the step.
template <class V>
ULTRASR_HOST_DEVICE V quantised(V coefficient, V step) {
    return round_even(coefficient / step) * step;
}

/// The factor on the tables with the reference's float32 roundings: below 50 three of them, since
/// PyTorch divides a number by a tensor as its reciprocal times the number. Run for real that wins
/// over correction 9, which has two; the difference is at most 2.4e-7, seen at ties alone.
ULTRASR_HOST_DEVICE inline float quality_factor(float quality) {
    const float percent = quality < 50.0F ? 1.0F / quality * 5000.0F : 200.0F - quality * 2.0F;
    return percent / 100.0F;
}

}  // namespace ultrasr
