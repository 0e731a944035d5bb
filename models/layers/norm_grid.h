// Group normalisation of channels-last maps as a GPU computes it: three steps, each a grid of
// blocks of threads. Read by both compilers: the GPU launches the blocks, its twin on the CPU runs
// the same blocks in loops, so that CPU tests check every index of the kernels. All arithmetic is
// IEEE float32 in a fixed order: both give the same bits.
//
//   measure   every thread: mean and squared deviations of a few channels over a run of pixels
//   conclude  every block: one group of one picture, its runs merged; gain and shift of its
//   channels apply     every thread: gain x + shift, or SiLU of it, where it measured
//
// No LibTorch, no fmt: this compiles in seconds for every architecture.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "data/base/host_device.h"
#include "data/weights/half.h"
#include "models/layers/silu.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace ultrasr {

// ---- numbers ----

struct Half {
    std::uint16_t bits;
};
struct BFloat {
    std::uint16_t bits;
};

ULTRASR_HOST_DEVICE inline float load(float x) { return x; }
ULTRASR_HOST_DEVICE inline float load(BFloat x) {
    const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
    float value = 0.0F;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
ULTRASR_HOST_DEVICE inline float load(Half x) {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(x.bits));
#else
    return float16_value(x.bits);
#endif
}

ULTRASR_HOST_DEVICE inline void store(float y, float& to) { to = y; }
ULTRASR_HOST_DEVICE inline void store(float y, BFloat& to) {
    // To nearest, ties to even; a NaN stays one
    std::uint32_t bits = 0;
    __builtin_memcpy(&bits, &y, sizeof bits);
    const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
    to.bits = static_cast<std::uint16_t>(y != y ? 0x7FC0U : rounded);
}
ULTRASR_HOST_DEVICE inline void store(float y, Half& to) {
#if defined(__CUDA_ARCH__)
    to.bits = __half_as_ushort(__float2half_rn(y));
#else
    to.bits = float16_bits(static_cast<double>(y));
#endif
}

/// Neighbouring channels that a thread reads and writes at once.
template <class T, unsigned V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Pack {
    T values[V];
};

// ---- the job ----

enum class NormNumbers { float32, float16, bfloat16 };

constexpr std::uint32_t norm_threads = 256;  ///< of a block

/// Everything a step needs to know. Maps are [pictures][pixels][channels].
struct NormJob {
    const void* in = nullptr;
    void* out = nullptr;
    NormNumbers in_numbers = NormNumbers::float32;
    NormNumbers out_numbers = NormNumbers::float32;  ///< as in_numbers, or float32
    const float* weight = nullptr;                   ///< [channels]
    const float* bias = nullptr;                     ///< [channels]
    float* moments = nullptr;                        ///< moment_values(): means, then deviations
    float* affine = nullptr;                         ///< affine_values(): gains, then shifts
    std::uint32_t pictures = 0, pixels = 0, channels = 0, groups = 1;
    float eps = 0.0F;
    bool silu = false;

    // The cut, by plan_norm()
    std::uint32_t vector = 1;   ///< channels a thread takes
    std::uint32_t columns = 1;  ///< threads side by side in the channels
    std::uint32_t lanes = 1;    ///< threads below each other in the pixels
    std::uint32_t tiles = 1;    ///< blocks side by side in the channels
    std::uint32_t run = 1;      ///< pixels a thread takes
    std::uint32_t blocks = 1;   ///< in the pixels

    ULTRASR_HOST_DEVICE std::uint32_t runs() const { return blocks * lanes; }
    ULTRASR_HOST_DEVICE std::size_t moment_values() const {
        return std::size_t{2} * pictures * runs() * channels;
    }
    ULTRASR_HOST_DEVICE std::size_t affine_values() const {
        return std::size_t{2} * pictures * channels;
    }
};

/// Cuts the maps into blocks. The cut, and so the order of sums, depends on the sizes alone.
///
/// aligned  both maps begin at a multiple of 16 bytes
inline void plan_norm(NormJob& job, bool aligned) {
    // Whole 16 bytes of input a thread, where pixels consist of such
    const std::uint32_t widest = job.in_numbers == NormNumbers::float32 ? 4 : 8;
    job.vector = aligned && job.channels % widest == 0 ? widest : 1;
    const std::uint32_t slots = job.channels / job.vector;
    job.columns = std::min(slots, norm_threads);
    job.lanes = norm_threads / job.columns;
    job.tiles = (slots + job.columns - 1) / job.columns;
    // Long runs leave few moments to merge, short ones keep a large GPU busy
    constexpr std::uint64_t busy = 1 << 17;  // threads
    const std::uint64_t work = std::uint64_t{job.pictures} * job.pixels * slots;
    job.run = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(work / busy, 4, 128));
    const std::uint32_t rows = job.lanes * job.run;
    job.blocks = job.pixels / rows + (job.pixels % rows != 0);
}

// ---- where a thread works ----

struct NormBlock {
    std::uint32_t pixels = 0, channels = 0, picture = 0;  ///< the grid's three directions
};

/// Every lanes-th pixel from `first` on, so that a block reads neighbouring pixels at once.
struct NormPlace {
    bool works = false;
    std::uint32_t channel = 0;  ///< the first of `vector`
    std::uint32_t run = 0;      ///< its number, [0, runs())
    std::uint32_t first = 0, count = 0;
};

ULTRASR_HOST_DEVICE inline std::uint32_t first_of_run(const NormJob& job, std::uint32_t run) {
    return run / job.lanes * (job.lanes * job.run) + run % job.lanes;
}

ULTRASR_HOST_DEVICE inline std::uint32_t count_of_run(const NormJob& job, std::uint32_t run) {
    const std::uint32_t first = first_of_run(job, run);
    if (first >= job.pixels) return 0;
    const std::uint32_t there = (job.pixels - first + job.lanes - 1) / job.lanes;
    return there < job.run ? there : job.run;
}

ULTRASR_HOST_DEVICE inline NormPlace place_of(const NormJob& job, const NormBlock& block,
                                              std::uint32_t thread) {
    const std::uint32_t lane = thread / job.columns;
    NormPlace place;
    place.channel = (block.channels * job.columns + thread % job.columns) * job.vector;
    place.run = block.pixels * job.lanes + lane;
    place.works = lane < job.lanes && place.channel < job.channels;
    if (place.works) {
        place.first = first_of_run(job, place.run);
        place.count = count_of_run(job, place.run);
        place.works = place.count > 0;
    }
    return place;
}

/// Of the pack that begins at a channel of a pixel, in numbers from the map's beginning.
ULTRASR_HOST_DEVICE inline std::size_t offset_of(const NormJob& job, std::uint32_t picture,
                                                 std::uint32_t pixel, std::uint32_t channel) {
    return (static_cast<std::size_t>(picture) * job.pixels + pixel) * job.channels + channel;
}

template <unsigned V, class T>
ULTRASR_HOST_DEVICE Pack<T, V>& pack_at(T* values, std::size_t offset) {
    return *reinterpret_cast<Pack<T, V>*>(values + offset);
}
template <unsigned V, class T>
ULTRASR_HOST_DEVICE const Pack<T, V>& pack_at(const T* values, std::size_t offset) {
    return *reinterpret_cast<const Pack<T, V>*>(values + offset);
}

// ---- measure ----

template <class In, unsigned V>
ULTRASR_HOST_DEVICE void measure_run(const NormJob& job, const NormBlock& block,
                                     std::uint32_t thread) {
    const NormPlace place = place_of(job, block, thread);
    if (!place.works) return;
    const In* in = static_cast<const In*>(job.in);
    std::size_t at = offset_of(job, block.picture, place.first, place.channel);
    const std::size_t step = static_cast<std::size_t>(job.lanes) * job.channels;

    // Sums of what differs from the first pixel: a large mean cancels nothing
    float origin[V], sum[V], squares[V];
    const Pack<In, V> first = pack_at<V>(in, at);
    for (unsigned v = 0; v < V; ++v) {
        origin[v] = load(first.values[v]);
        sum[v] = 0.0F;
        squares[v] = 0.0F;
    }
#if defined(__CUDA_ARCH__)
#pragma unroll 4
#endif
    for (std::uint32_t i = 1; i < place.count; ++i) {
        at += step;
        const Pack<In, V> x = pack_at<V>(in, at);
        for (unsigned v = 0; v < V; ++v) {
            const float d = load(x.values[v]) - origin[v];
            sum[v] += d;
            squares[v] = std::fma(d, d, squares[v]);
        }
    }

    Pack<float, V> mean, m2;
    const float share = 1.0F / static_cast<float>(place.count);
    for (unsigned v = 0; v < V; ++v) {
        const float off = sum[v] * share;
        mean.values[v] = origin[v] + off;
        const float rest = std::fma(-off, sum[v], squares[v]);
        m2.values[v] = rest > 0.0F ? rest : (rest == rest ? 0.0F : rest);
    }
    const std::size_t to =
        (static_cast<std::size_t>(block.picture) * job.runs() + place.run) * job.channels +
        place.channel;
    pack_at<V>(job.moments, to) = mean;
    pack_at<V>(job.moments + job.moment_values() / 2, to) = m2;
}

// ---- conclude ----

struct NormMoments {
    float count, mean, m2;
};

/// Chan, Golub and LeVeque 1979: the moments of two pieces together.
ULTRASR_HOST_DEVICE inline NormMoments merged(const NormMoments& a, const NormMoments& b) {
    if (b.count == 0.0F) return a;
    if (a.count == 0.0F) return b;
    const float total = a.count + b.count, share = b.count / total;
    const float delta = b.mean - a.mean;
    return {total, std::fma(delta, share, a.mean),
            a.m2 + std::fma(delta * delta, a.count * share, b.m2)};
}

/// One group of one picture.
///
/// each    each(work) calls work(thread) for every thread of the block and then waits for them
/// shared  norm_threads of them, the block's own
template <class Each>
ULTRASR_HOST_DEVICE void conclude_group(const NormJob& job, std::uint32_t group,
                                        std::uint32_t picture, NormMoments* shared,
                                        const Each& each) {
    const std::uint32_t width = job.channels / job.groups, runs = job.runs();
    const float* means = job.moments + static_cast<std::size_t>(picture) * runs * job.channels +
                         static_cast<std::size_t>(group) * width;
    const float* deviations = means + job.moment_values() / 2;

    each([&](std::uint32_t thread) {
        NormMoments sum{0.0F, 0.0F, 0.0F};
        for (std::uint32_t k = thread; k < runs * width; k += norm_threads) {
            const std::uint32_t run = k / width, count = count_of_run(job, run);
            if (count == 0) break;  // runs without pixels are the last ones
            const std::size_t at = static_cast<std::size_t>(run) * job.channels + k % width;
            sum = merged(sum, {static_cast<float>(count), means[at], deviations[at]});
        }
        shared[thread] = sum;
    });
    for (std::uint32_t half = norm_threads / 2; half > 0; half /= 2) {
        each([&](std::uint32_t thread) {
            if (thread < half) shared[thread] = merged(shared[thread], shared[thread + half]);
        });
    }
    each([&](std::uint32_t thread) {
        const float mean = shared[0].mean;
        const float scale = 1.0F / std::sqrt(shared[0].m2 / shared[0].count + job.eps);
        for (std::uint32_t i = thread; i < width; i += norm_threads) {
            const std::uint32_t c = group * width + i;
            const std::size_t to = static_cast<std::size_t>(picture) * job.channels + c;
            const float gain = job.weight[c] * scale;
            job.affine[to] = gain;
            job.affine[job.affine_values() / 2 + to] = std::fma(-mean, gain, job.bias[c]);
        }
    });
}

// ---- apply ----

template <class In, class Out, unsigned V>
ULTRASR_HOST_DEVICE void apply_run(const NormJob& job, const NormBlock& block,
                                   std::uint32_t thread) {
    const NormPlace place = place_of(job, block, thread);
    if (!place.works) return;
    const In* in = static_cast<const In*>(job.in);
    Out* out = static_cast<Out*>(job.out);
    const std::size_t affine =
        static_cast<std::size_t>(block.picture) * job.channels + place.channel;
    const Pack<float, V> gain = pack_at<V>(static_cast<const float*>(job.affine), affine);
    const Pack<float, V> shift =
        pack_at<V>(static_cast<const float*>(job.affine) + job.affine_values() / 2, affine);
    std::size_t at = offset_of(job, block.picture, place.first, place.channel);
    const std::size_t step = static_cast<std::size_t>(job.lanes) * job.channels;
#if defined(__CUDA_ARCH__)
#pragma unroll 2
#endif
    for (std::uint32_t i = 0; i < place.count; ++i, at += step) {
        const Pack<In, V> x = pack_at<V>(in, at);
        Pack<Out, V> y;
        for (unsigned v = 0; v < V; ++v) {
            const float number = load(x.values[v]);
            store(job.silu ? scaled_silu(number, gain.values[v], shift.values[v])
                           : std::fma(gain.values[v], number, shift.values[v]),
                  y.values[v]);
        }
        pack_at<V>(out, at) = y;
    }
}

// ---- for both twins ----

/// work(In{}, Out{}, std::integral_constant<unsigned, V>{}) with the job's types.
template <class Work>
void with_norm_types(const NormJob& job, const Work& work) {
    const auto with_vector = [&]<class In, class Out>(In in, Out out) {
        constexpr unsigned widest = 16 / sizeof(In);
        if (job.vector == widest) {
            work(in, out, std::integral_constant<unsigned, widest>{});
        } else {
            work(in, out, std::integral_constant<unsigned, 1>{});
        }
    };
    const auto with_out = [&]<class In>(In in) {
        if (job.out_numbers == NormNumbers::float32) {
            with_vector(in, float{});
        } else {
            with_vector(in, in);
        }
    };
    switch (job.in_numbers) {
        case NormNumbers::float32:
            return with_vector(float{}, float{});
        case NormNumbers::float16:
            return with_out(Half{});
        case NormNumbers::bfloat16:
            return with_out(BFloat{});
    }
}

/// Runs a planned job on a CUDA GPU.
///
/// stream   a cudaStream_t of it; the call returns before the work is done
/// returns  empty, or what CUDA refused
const char* run_norm_on_gpu(const NormJob& job, int gpu, void* stream);

}  // namespace ultrasr
