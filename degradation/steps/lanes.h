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
#if defined(__AVX512F__) && ULTRASR_AVX2
#define ULTRASR_AVX512 1
#else
#define ULTRASR_AVX512 0
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

// Files of one program may be compiled for different processors: each kind has its own names, so
// that the linker does not take one for the other.
#if ULTRASR_AVX512
inline namespace lanes_avx512 {
#elif ULTRASR_AVX2
inline namespace lanes_avx2 {
#else
inline namespace lanes_plain {
#endif

template <int n>
struct VectorOf;  // GCC does not take the attribute with a template's parameter
template <>
struct VectorOf<8> {
    typedef float type __attribute__((vector_size(32)));
};
template <>
struct VectorOf<16> {
    typedef float type __attribute__((vector_size(64)));
};

/// n neighbours in one register.
template <int n>
struct LaneVector {
    using Vector = typename VectorOf<n>::type;
    Vector v;

    LaneVector() = default;
    LaneVector(Vector vector) : v(vector) {}
    LaneVector(float all) : v(Vector{} + all) {}
    friend LaneVector operator+(LaneVector a, LaneVector b) { return a.v + b.v; }
    friend LaneVector operator-(LaneVector a, LaneVector b) { return a.v - b.v; }
    friend LaneVector operator*(LaneVector a, LaneVector b) { return a.v * b.v; }
    friend LaneVector operator/(LaneVector a, LaneVector b) { return a.v / b.v; }
};

/// Eight neighbours: a row of a JPEG block.
using Lanes = LaneVector<8>;
constexpr int lanes = 8;

template <int n>
void load(LaneVector<n>& to, const float* from) {
    std::memcpy(&to.v, from, sizeof to.v);
}
template <int n>
void store(float* to, LaneVector<n> from) {
    std::memcpy(to, &from.v, sizeof from.v);
}

// In terms of single values, unless the processor has better
template <int n>
LaneVector<n> fused(LaneVector<n> a, LaneVector<n> b, LaneVector<n> c) {
    LaneVector<n> r;
    for (int i = 0; i < n; ++i) r.v[i] = std::fma(a.v[i], b.v[i], c.v[i]);
    return r;
}
template <int n>
LaneVector<n> round_even(LaneVector<n> a) {
    for (int i = 0; i < n; ++i) a.v[i] = std::rint(a.v[i]);
    return a;
}
template <int n>
LaneVector<n> cut(LaneVector<n> a) {
    for (int i = 0; i < n; ++i) a.v[i] = std::floor(a.v[i]);
    return a;
}
#if ULTRASR_AVX2
template <>
inline LaneVector<8>::LaneVector(float all) : v(_mm256_set1_ps(all)) {}
template <>
inline Lanes fused(Lanes a, Lanes b, Lanes c) {
    return Lanes(_mm256_fmadd_ps(a.v, b.v, c.v));
}
template <>
inline Lanes round_even(Lanes a) {
    return Lanes(_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
template <>
inline Lanes cut(Lanes a) {
    return Lanes(_mm256_floor_ps(a.v));
}
#endif
#if ULTRASR_AVX512
using Part = LaneVector<16>;
template <>
inline Part::LaneVector(float all) : v(_mm512_set1_ps(all)) {}
template <>
inline Part fused(Part a, Part b, Part c) {
    return Part(_mm512_fmadd_ps(a.v, b.v, c.v));
}
template <>
inline Part round_even(Part a) {
    return Part(
        _mm512_maskz_roundscale_ps(0xFFFF, a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
template <>
inline Part cut(Part a) {
    return Part(_mm512_maskz_roundscale_ps(0xFFFF, a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
}
constexpr int part_lanes = 16;
#else
using Part = Lanes;
constexpr int part_lanes = 8;
#endif

template <int n>
LaneVector<n> clamp(LaneVector<n> a, float lo, float hi) {
    const LaneVector<n> low(lo), high(hi);
    a.v = a.v < low.v ? low.v : a.v;
    a.v = a.v > high.v ? high.v : a.v;
    return a;
}
template <int n>
LaneVector<n> exceeds(LaneVector<n> a, float threshold) {
    const LaneVector<n> t(threshold), one(1.0F), zero(0.0F);
    const LaneVector<n> magnitude(a.v < zero.v ? -a.v : a.v);
    return LaneVector<n>(magnitude.v > t.v ? one.v : zero.v);
}

/// Four registers of neighbours: enough independent sums to keep the multipliers of a core busy.
struct WideLanes {
    Part a, b, c, d;

    WideLanes() = default;
    WideLanes(float all) : a(all), b(all), c(all), d(all) {}
    WideLanes(Part p, Part q, Part r, Part s) : a(p), b(q), c(r), d(s) {}
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
constexpr int wide_lanes = 4 * part_lanes;

inline void load(WideLanes& to, const float* from) {
    load(to.a, from);
    load(to.b, from + part_lanes);
    load(to.c, from + 2 * part_lanes);
    load(to.d, from + 3 * part_lanes);
}
inline void store(float* to, const WideLanes& from) {
    store(to, from.a);
    store(to + part_lanes, from.b);
    store(to + 2 * part_lanes, from.c);
    store(to + 3 * part_lanes, from.d);
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

/// Keeps a value in registers, where the compiler would load it again for every use.
inline void keep(float&) {}
template <int n>
void keep([[maybe_unused]] LaneVector<n>& x) {
#if ULTRASR_AVX512
    asm("" : "+v"(x.v));
#elif ULTRASR_AVX2
    asm("" : "+x"(x.v));
#endif
}
inline void keep(WideLanes& x) {
    keep(x.a);
    keep(x.b);
    keep(x.c);
    keep(x.d);
}

/// Calls `element(x, V{})` for as many neighbours at once as there are left, down to single ones.
template <class Element>
void for_each_lane(int width, Element&& element) {
    int x = 0;
    for (; x + wide_lanes <= width; x += wide_lanes) element(x, WideLanes{});
    for (; x + part_lanes <= width; x += part_lanes) element(x, Part{});
    for (; x + lanes <= width; x += lanes) element(x, Lanes{});
    for (; x < width; ++x) element(x, 0.0F);
}

}  // inline namespace
#pragma GCC diagnostic pop
#endif

}  // namespace ultrasr
