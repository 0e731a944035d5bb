// Philox4x32-10, several counters side by side: the same words on a CPU and on a GPU.
#pragma once
#include <cstdint>

#include "data/base/host_device.h"

#if defined(__AVX2__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

namespace ultrasr {

constexpr std::uint32_t philox_multiplier_0 = 0xD2511F53, philox_multiplier_1 = 0xCD9E8D57;
constexpr std::uint32_t philox_weyl_0 = 0x9E3779B9;  // golden ratio
constexpr std::uint32_t philox_weyl_1 = 0xBB67AE85;  // sqrt(3) - 1

/// `n` counters on the way in, `n` times four random words on the way out; word w of counter i is
/// word[w][i].
template <int n>
struct PhiloxWords {
    std::uint32_t word[4][n];
};

/// Ten rounds for n counters under one key.
/// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, table 2.
template <int n>
ULTRASR_HOST_DEVICE inline void philox_(PhiloxWords<n>& c, std::uint32_t key_0,
                                        std::uint32_t key_1) {
    for (int round = 0; round < 10; ++round) {
        for (int i = 0; i < n; ++i) {
            const std::uint64_t p0 = std::uint64_t{philox_multiplier_0} * c.word[0][i];
            const std::uint64_t p1 = std::uint64_t{philox_multiplier_1} * c.word[2][i];
            c.word[0][i] = static_cast<std::uint32_t>(p1 >> 32) ^ c.word[1][i] ^ key_0;
            c.word[1][i] = static_cast<std::uint32_t>(p1);
            c.word[2][i] = static_cast<std::uint32_t>(p0 >> 32) ^ c.word[3][i] ^ key_1;
            c.word[3][i] = static_cast<std::uint32_t>(p0);
        }
        key_0 += philox_weyl_0;
        key_1 += philox_weyl_1;
    }
}

#if defined(__AVX2__) && !defined(__CUDACC__)
/// The same words for eight counters in vector registers, three times as fast as what the compiler
/// makes of the loop.
inline void philox_(PhiloxWords<8>& c, std::uint32_t key_0, std::uint32_t key_1) {
    const auto at = [&](int w) { return reinterpret_cast<__m256i*>(c.word[w]); };
    __m256i w0 = _mm256_loadu_si256(at(0)), w1 = _mm256_loadu_si256(at(1));
    __m256i w2 = _mm256_loadu_si256(at(2)), w3 = _mm256_loadu_si256(at(3));
    // 32 x 32 bits to 64, even and odd lanes apart
    const auto multiply = [](__m256i x, std::uint32_t by, __m256i& high, __m256i& low) {
        const __m256i m = _mm256_set1_epi32(static_cast<int>(by));
        const __m256i even = _mm256_mul_epu32(x, m);
        const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), m);
        high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
        low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    };
    for (int round = 0; round < 10; ++round) {
        __m256i high_0, low_0, high_1, low_1;
        multiply(w0, philox_multiplier_0, high_0, low_0);
        multiply(w2, philox_multiplier_1, high_1, low_1);
        w0 = _mm256_xor_si256(_mm256_xor_si256(high_1, w1),
                              _mm256_set1_epi32(static_cast<int>(key_0)));
        w1 = low_1;
        w2 = _mm256_xor_si256(_mm256_xor_si256(high_0, w3),
                              _mm256_set1_epi32(static_cast<int>(key_1)));
        w3 = low_0;
        key_0 += philox_weyl_0;
        key_1 += philox_weyl_1;
    }
    _mm256_storeu_si256(at(0), w0);
    _mm256_storeu_si256(at(1), w1);
    _mm256_storeu_si256(at(2), w2);
    _mm256_storeu_si256(at(3), w3);
}
#endif

}  // namespace ultrasr
