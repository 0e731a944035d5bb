// Random fields: words from streams, and normal and Poisson numbers from one word each, by integer
// arithmetic, a table and three fused multiply-adds: the same on a CPU and on a GPU.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

#include "data/base/philox.h"
#include "degradation/steps/lanes.h"

namespace ultrasr {

/// Names one random field or scalar. The Philox key is the seed; the counter is
/// [ index | slot 16, level 8, channel 8 | id low 32 | id high 16, variant 16 ].
/// Source: degradation.md 4.1.
struct StreamKey {
    std::uint64_t seed = 0;
    std::uint64_t id = 0;  ///< 48 bits
    std::uint32_t variant = 0;
    std::uint32_t slot = 0;
    std::uint32_t level = 0;
};

/// Four random words a counter: of pixels 4 block ... 4 block + 3 of a channel.
/// channel  0 ... 2, or 3 for a field that the channels share
template <int n>
ULTRASR_HOST_DEVICE PhiloxWords<n> stream_words(const StreamKey& key, std::uint32_t channel,
                                                std::uint32_t block) {
    PhiloxWords<n> words;
    for (int i = 0; i < n; ++i) {
        words.word[0][i] = block + static_cast<std::uint32_t>(i);
        words.word[1][i] = key.slot | key.level << 16 | channel << 24;
        words.word[2][i] = static_cast<std::uint32_t>(key.id);
        words.word[3][i] = static_cast<std::uint32_t>(key.id >> 32) | key.variant << 16;
    }
    philox_(words, static_cast<std::uint32_t>(key.seed),
            static_cast<std::uint32_t>(key.seed >> 32));
    return words;
}

/// Cubics of the normal quantile, 31 octaves x 8 cells x 4 coefficients from t^0 up.
extern const float normal_table[31 * 8 * 4];

/// A standard normal number: within 6e-7 of the quantile of the word, |z| below 6.2.
/// Source: degradation.md 4.2 (inversion).
ULTRASR_HOST_DEVICE inline float normal_of_word(std::uint32_t word, const float* table) {
    std::int32_t m = static_cast<std::int32_t>(word & 0x7FFFFFFFU);
    m = m < 1 ? 1 : m;
    // The place of the leading bit, from a conversion that cannot round up into the next octave
    const float magnitude = static_cast<float>(m & ~(m >> 1));
    std::int32_t bits = 0;
    std::memcpy(&bits, &magnitude, sizeof bits);
    const std::int32_t octave = (bits >> 23) - 127;
    const std::uint32_t aligned = static_cast<std::uint32_t>(m) << (31 - octave);
    const std::uint32_t cell = (aligned >> 28) & 7U;
    const float t = static_cast<float>(static_cast<std::int32_t>(aligned & 0x0FFFFFFFU)) * 0x1p-28F;
    const float* c = table + (static_cast<std::uint32_t>(octave) * 8 + cell) * 4;
    const float z = fused(fused(fused(c[3], t, c[2]), t, c[1]), t, c[0]);
    return (word & 0x80000000U) != 0 ? -z : z;
}

#if !defined(__CUDACC__)
/// The same of eight words.
inline Lanes normal_of_words(const std::uint32_t* words, const float* table) {
#if ULTRASR_AVX2
    const __m256i word = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
    const __m256i m = _mm256_max_epi32(_mm256_and_si256(word, _mm256_set1_epi32(0x7FFFFFFF)),
                                       _mm256_set1_epi32(1));
    const __m256 magnitude = _mm256_cvtepi32_ps(_mm256_andnot_si256(_mm256_srli_epi32(m, 1), m));
    const __m256i octave = _mm256_sub_epi32(_mm256_srli_epi32(_mm256_castps_si256(magnitude), 23),
                                            _mm256_set1_epi32(127));
    const __m256i aligned = _mm256_sllv_epi32(m, _mm256_sub_epi32(_mm256_set1_epi32(31), octave));
    const __m256i cell = _mm256_and_si256(_mm256_srli_epi32(aligned, 28), _mm256_set1_epi32(7));
    const Lanes t =
        Lanes(_mm256_cvtepi32_ps(_mm256_and_si256(aligned, _mm256_set1_epi32(0x0FFFFFFF)))) *
        Lanes(0x1p-28F);
    // Four coefficients lie together: eight loads and a transposition beat four gathers
    alignas(32) std::int32_t at[lanes];
    _mm256_store_si256(reinterpret_cast<__m256i*>(at),
                       _mm256_slli_epi32(_mm256_add_epi32(_mm256_slli_epi32(octave, 3), cell), 2));
    const auto pair = [&](int i) {
        return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(table + at[i])),
                                    _mm_loadu_ps(table + at[i + 4]), 1);
    };
    const __m256 p0 = pair(0), p1 = pair(1), p2 = pair(2), p3 = pair(3);
    const __m256 low_01 = _mm256_unpacklo_ps(p0, p1), high_01 = _mm256_unpackhi_ps(p0, p1);
    const __m256 low_23 = _mm256_unpacklo_ps(p2, p3), high_23 = _mm256_unpackhi_ps(p2, p3);
    const Lanes c0(_mm256_shuffle_ps(low_01, low_23, 0x44));
    const Lanes c1(_mm256_shuffle_ps(low_01, low_23, 0xEE));
    const Lanes c2(_mm256_shuffle_ps(high_01, high_23, 0x44));
    const Lanes c3(_mm256_shuffle_ps(high_01, high_23, 0xEE));
    const Lanes z = fused(fused(fused(c3, t, c2), t, c1), t, c0);
    const __m256i sign = _mm256_andnot_si256(_mm256_set1_epi32(0x7FFFFFFF), word);
    return Lanes(_mm256_xor_ps(z.v, _mm256_castsi256_ps(sign)));
#else
    Lanes z;
    for (int i = 0; i < lanes; ++i) z.v[i] = normal_of_word(words[i], table);
    return z;
#endif
}
#endif

/// Thresholds of 2^32 - 1 behind those of each entry, so that a search may look beyond its end.
constexpr int poisson_spare = 3;

/// How Poisson counts of one mean are found: count = first + how many thresholds are <= word.
struct PoissonEntry {
    std::uint32_t offset = 0;  ///< of its first threshold
    std::uint16_t first = 0;   ///< smallest count with a probability above 2^-32
    std::uint16_t thresholds = 0;
    std::uint16_t guide[32] = {};  ///< thresholds that are <= g 2^27: where the search begins
};

/// Entries for v = 2^0 ... 2^8 and level k = 0 ... 255, mean v k / 255: entry log2(v) * 256 + k.
struct PoissonTable {
    const PoissonEntry* entries = nullptr;
    const std::uint32_t* thresholds = nullptr;
    std::uint32_t threshold_count = 0;
};
constexpr int poisson_entries = 9 * 256;

/// Made at the first call in double precision from +, *, / and exact::exp, so that it is the same
/// on every machine (436 KiB).
const PoissonTable& poisson_table();

/// The entry of any mean from 0 to 20000; its thresholds are appended.
PoissonEntry make_poisson_entry(double mean, std::vector<std::uint32_t>& thresholds);

/// A Poisson count of mean v k / 255. Source: degradation.md 4.2 (inversion).
ULTRASR_HOST_DEVICE inline int poisson_of_word(std::uint32_t word, const PoissonEntry& entry,
                                               const std::uint32_t* thresholds) {
    int i = entry.guide[word >> 27];
    const std::uint32_t* at = thresholds + entry.offset + i;
    // Three without a branch, which is nearly always enough; what follows the last is larger
    int passed = (at[0] <= word) + (at[1] <= word) + (at[2] <= word);
    if (passed == poisson_spare) {
        while (i + passed < entry.thresholds && at[passed] <= word) ++passed;
    }
    i += passed;
    return entry.first + (i < entry.thresholds ? i : entry.thresholds);
}

}  // namespace ultrasr
