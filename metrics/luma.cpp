#include "metrics/luma.h"

#include <cmath>

#include "data/image.h"

namespace ultrasr {
namespace {

// CUDA divides by a scalar through its reciprocal.
constexpr float reciprocal_255 = 1.0F / 255.0F;

template <Profile profile>
float divided_by_255(float x) {
    return profile == Profile::cuda ? x * reciprocal_255 : x / 255.0F;
}

/// A channel value as the reference's tensor holds it.
template <Profile profile>
float channel(float value) {
    if constexpr (profile == Profile::cpu) {
        return value;  // k / 255 is what the file reader made
    } else {
        const float scaled = 255.0F * value;
        const float level = std::nearbyint(scaled);
        const float converted = level * reciprocal_255;
        return scaled == level ? converted : value;  // a choice, not a branch: vectorised
    }
}

/// Three-term dot product. CUDA: one rounded product, two fused multiply-adds. CPU: every product
/// and sum rounded; found by comparing with pyiqa 0.1.16 (torch 2.11, AMD EPYC with AVX2), bit for
/// bit on half a million random pixels.
template <Profile profile>
float dot(float r, float wr, float g, float wg, float b, float wb) {
    if constexpr (profile == Profile::cuda) {
        return std::fma(b, wb, std::fma(g, wg, r * wr));
    } else {
        return (r * wr + g * wg) + b * wb;
    }
}

template <Luma kind, Profile profile>
float luma_of(float r, float g, float b) {
    if constexpr (kind == Luma::y601) {
        return divided_by_255<profile>(dot<profile>(r, 65.481F, g, 128.553F, b, 24.966F) + 16.0F);
    } else {
        return dot<profile>(r, 0.299F, g, 0.587F, b, 0.114F);
    }
}

template <Luma kind, Profile profile>
void fill(const float* rgb, int width, float* luma) {
    for (int x = 0; x < width; ++x) {
        luma[x] =
            luma_of<kind, profile>(channel<profile>(rgb[3 * x]), channel<profile>(rgb[3 * x + 1]),
                                   channel<profile>(rgb[3 * x + 2]));
    }
}

}  // namespace

void luma_row(const float* rgb, int width, Luma kind, Profile profile, float* luma) {
    if (kind == Luma::y601) {
        profile == Profile::cuda ? fill<Luma::y601, Profile::cuda>(rgb, width, luma)
                                 : fill<Luma::y601, Profile::cpu>(rgb, width, luma);
    } else {
        profile == Profile::cuda ? fill<Luma::yiq, Profile::cuda>(rgb, width, luma)
                                 : fill<Luma::yiq, Profile::cpu>(rgb, width, luma);
    }
}

void channel_row(const float* rgb, int count, Profile profile, float* channels) {
    if (profile == Profile::cuda) {
        for (int i = 0; i < count; ++i) channels[i] = channel<Profile::cuda>(rgb[i]);
    } else {
        for (int i = 0; i < count; ++i) channels[i] = channel<Profile::cpu>(rgb[i]);
    }
}

Plane<float> rounded_luma(const Image& image, Luma kind, Profile profile) {
    Plane<float> result(image.width(), image.height());
    for (int y = 0; y < image.height(); ++y) {
        float* row = result.row_(y);
        luma_row(image.row(y), image.width(), kind, profile, row);
        for (int x = 0; x < image.width(); ++x) row[x] = std::nearbyint(row[x] * 255.0F);
    }
    return result;
}

}  // namespace ultrasr
