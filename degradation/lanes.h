// Eight or thirty-two neighbouring pixels at once, and the few operations that the arithmetic of a
// step is written in: the same functions take a float on a GPU and Lanes on a CPU, and round alike.
#pragma once
#include <cmath>
#include <cstring>

#include "data/base/host_device.h"

#if defined(__AVX2__) && defined(__FMA__) && !defined(__CUDACC__)
#include <immintrin.h>
#define ULTRASR_AVX2 1
#else
#define ULTRASR_AVX2 0
#endif

namespace ultrasr {

// One pixel
ULTRASR_HOST_DEVICE inline float fused(float a, float b, float c) { return fmaf(a, b, c); }
ULTRASR_HOST_DEVICE inline float round_even(float a) { return rintf(a); }
/// Towards 0, of a value that is not negative.
ULTRASR_HOST_DEVICE inline float cut(float a) { return floorf(a); }
ULTRASR_HOST_DEVICE inline float clamp(float a, float lo, float hi) {
    return a < lo ? lo : (a > hi ? hi : a);
}
/// 1 where |a| is above the threshold, else 0.
ULTRASR_HOST_DEVICE inline float exceeds(float a, float threshold) {
    return fabsf(a) > threshold ? 1.0F : 0.0F;
}
ULTRASR_HOST_DEVICE inline void load(float& to, const float* from) { to = *from; }
ULTRASR_HOST_DEVICE inline void store(float* to, float from) { *to = from; }
template <class V>
ULTRASR_HOST_DEVICE V loaded(const float* from) {
    V value;
    load(value, from);
    return value;
}

#if !defined(__CUDACC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"  // plain x86-64 passes them in memory: all is inlined

/// Eight neighbours.
struct Lanes {
    typedef float Vector __attribute__((vector_size(32)));
    Vector v;

    Lanes() = default;
    Lanes(Vector vector) : v(vector) {}
    Lanes(float all) : v(Vector{} + all) {}
    friend Lanes operator+(Lanes a, Lanes b) { return a.v + b.v; }
    friend Lanes operator-(Lanes a, Lanes b) { return a.v - b.v; }
    friend Lanes operator*(Lanes a, Lanes b) { return a.v * b.v; }
    friend Lanes operator/(Lanes a, Lanes b) { return a.v / b.v; }
};
constexpr int lanes = 8;

inline void load(Lanes& to, const float* from) { std::memcpy(&to.v, from, sizeof to.v); }
inline void store(float* to, Lanes from) { std::memcpy(to, &from.v, sizeof from.v); }

#if ULTRASR_AVX2
inline Lanes fused(Lanes a, Lanes b, Lanes c) { return Lanes(_mm256_fmadd_ps(a.v, b.v, c.v)); }
inline Lanes round_even(Lanes a) {
    return Lanes(_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline Lanes cut(Lanes a) { return Lanes(_mm256_floor_ps(a.v)); }
#else
inline Lanes cut(Lanes a) {
    for (int i = 0; i < lanes; ++i) a.v[i] = std::floor(a.v[i]);
    return a;
}
inline Lanes fused(Lanes a, Lanes b, Lanes c) {
    Lanes r;
    for (int i = 0; i < lanes; ++i) r.v[i] = std::fma(a.v[i], b.v[i], c.v[i]);
    return r;
}
inline Lanes round_even(Lanes a) {
    for (int i = 0; i < lanes; ++i) a.v[i] = std::rint(a.v[i]);
    return a;
}
#endif
inline Lanes clamp(Lanes a, float lo, float hi) {
    const Lanes low(lo), high(hi);
    a.v = a.v < low.v ? low.v : a.v;
    a.v = a.v > high.v ? high.v : a.v;
    return a;
}
inline Lanes exceeds(Lanes a, float threshold) {
    const Lanes t(threshold), one(1.0F), zero(0.0F);
    const Lanes magnitude(a.v < zero.v ? -a.v : a.v);
    return Lanes(magnitude.v > t.v ? one.v : zero.v);
}

/// Thirty-two neighbours: enough independent sums to keep both multipliers of a core busy.
struct WideLanes {
    Lanes a, b, c, d;

    WideLanes() = default;
    WideLanes(float all) : a(all), b(all), c(all), d(all) {}
    WideLanes(Lanes p, Lanes q, Lanes r, Lanes s) : a(p), b(q), c(r), d(s) {}
    friend WideLanes operator+(const WideLanes& x, const WideLanes& y) {
        return {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d};
    }
    friend WideLanes operator-(const WideLanes& x, const WideLanes& y) {
        return {x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d};
    }
    friend WideLanes operator*(const WideLanes& x, const WideLanes& y) {
        return {x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d};
    }
    friend WideLanes operator/(const WideLanes& x, const WideLanes& y) {
        return {x.a / y.a, x.b / y.b, x.c / y.c, x.d / y.d};
    }
};
constexpr int wide_lanes = 32;

inline void load(WideLanes& to, const float* from) {
    load(to.a, from);
    load(to.b, from + 8);
    load(to.c, from + 16);
    load(to.d, from + 24);
}
inline void store(float* to, const WideLanes& from) {
    store(to, from.a);
    store(to + 8, from.b);
    store(to + 16, from.c);
    store(to + 24, from.d);
}
inline WideLanes fused(float k, const WideLanes& x, const WideLanes& y) {
    const Lanes all(k);
    return {fused(all, x.a, y.a), fused(all, x.b, y.b), fused(all, x.c, y.c), fused(all, x.d, y.d)};
}
inline WideLanes fused(const WideLanes& w, const WideLanes& x, const WideLanes& y) {
    return {fused(w.a, x.a, y.a), fused(w.b, x.b, y.b), fused(w.c, x.c, y.c), fused(w.d, x.d, y.d)};
}
inline WideLanes clamp(const WideLanes& x, float lo, float hi) {
    return {clamp(x.a, lo, hi), clamp(x.b, lo, hi), clamp(x.c, lo, hi), clamp(x.d, lo, hi)};
}
inline WideLanes exceeds(const WideLanes& x, float t) {
    return {exceeds(x.a, t), exceeds(x.b, t), exceeds(x.c, t), exceeds(x.d, t)};
}
inline WideLanes cut(const WideLanes& x) { return {cut(x.a), cut(x.b), cut(x.c), cut(x.d)}; }
inline WideLanes round_even(const WideLanes& x) {
    return {round_even(x.a), round_even(x.b), round_even(x.c), round_even(x.d)};
}

/// Calls `element(x, V{})` for x = 0, 32, ..., then 8 at a time, then one at a time.
template <class Element>
void for_each_lane(int width, Element&& element) {
    int x = 0;
    for (; x + wide_lanes <= width; x += wide_lanes) element(x, WideLanes{});
    for (; x + lanes <= width; x += lanes) element(x, Lanes{});
    for (; x < width; ++x) element(x, 0.0F);
}
#pragma GCC diagnostic pop
#endif

}  // namespace ultrasr
