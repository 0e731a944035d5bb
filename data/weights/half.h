// float16 and bfloat16 to and from wider numbers, exactly and to nearest even.
#pragma once
#include <bit>
#include <cstdint>

namespace ultrasr {

/// The nearest number of a 16-bit format, ties to even, as its bits. Subnormals are kept, too large
/// numbers become infinite, a NaN stays one (quiet, with the leading bits of its payload).
///
/// Mantissa  stored bits of the fraction: 10 for float16, 7 for bfloat16; the rest but the sign is
///           the exponent
template <int Mantissa>
std::uint16_t narrow_to_16_bits(double value) {
    constexpr int exponent_bits = 15 - Mantissa;
    constexpr int bias = (1 << (exponent_bits - 1)) - 1;
    constexpr int largest = (1 << exponent_bits) - 1;  // of the exponent: infinity and NaN
    const auto bits = std::bit_cast<std::uint64_t>(value);
    const auto sign = static_cast<std::uint16_t>(bits >> 63 << 15);
    const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
    const std::uint64_t fraction = bits & ((std::uint64_t{1} << 52) - 1);
    const auto infinity = static_cast<std::uint16_t>(sign | largest << Mantissa);
    if (exponent == 0x7ff) {
        if (fraction == 0) return infinity;
        return static_cast<std::uint16_t>(infinity | 1 << (Mantissa - 1) |
                                          static_cast<int>(fraction >> (52 - Mantissa)));
    }
    if (exponent == 0) return sign;  // below 2^-1022, which is nearest to 0 in both formats

    // The significand keeps Mantissa bits, fewer below the smallest normal number
    const int narrow = exponent - 1023 + bias;
    const int dropped = 52 - Mantissa + (narrow < 1 ? 1 - narrow : 0);
    if (dropped > 54) return sign;
    const std::uint64_t significand = fraction | std::uint64_t{1} << 52;
    std::uint64_t kept = significand >> dropped;
    const std::uint64_t rest = significand & ((std::uint64_t{1} << dropped) - 1);
    const std::uint64_t half = std::uint64_t{1} << (dropped - 1);
    if (rest > half || (rest == half && (kept & 1))) ++kept;

    // A carry out of the significand moves on into the exponent, up to infinity
    const std::uint64_t below = narrow < 1 ? 0 : static_cast<std::uint64_t>(narrow - 1) << Mantissa;
    const std::uint64_t magnitude = below + kept;
    if (magnitude >= static_cast<std::uint64_t>(largest) << Mantissa) return infinity;
    return static_cast<std::uint16_t>(sign | magnitude);
}

/// The number behind the bits of a 16-bit format; exact.
template <int Mantissa>
float widen_from_16_bits(std::uint16_t bits) {
    constexpr int exponent_bits = 15 - Mantissa;
    constexpr int bias = (1 << (exponent_bits - 1)) - 1;
    constexpr int largest = (1 << exponent_bits) - 1;
    const std::uint32_t sign = static_cast<std::uint32_t>(bits >> 15) << 31;
    const int exponent = bits >> Mantissa & largest;
    const auto fraction = static_cast<std::uint32_t>(bits & ((1 << Mantissa) - 1));
    const std::uint32_t wide_fraction = fraction << (23 - Mantissa);
    if (exponent == largest) return std::bit_cast<float>(sign | 0x7f800000u | wide_fraction);
    if (exponent > 0) {
        const auto wide = static_cast<std::uint32_t>(exponent - bias + 127);
        return std::bit_cast<float>(sign | wide << 23 | wide_fraction);
    }
    if constexpr (exponent_bits == 8) {
        return std::bit_cast<float>(sign | wide_fraction);  // float32's own exponents
    } else {
        // Subnormal: a whole number of steps of 2^(1 - bias - Mantissa), a power that float32 has
        const float step =
            std::bit_cast<float>(static_cast<std::uint32_t>(128 - bias - Mantissa) << 23);
        const float magnitude = static_cast<float>(fraction) * step;
        return sign ? -magnitude : magnitude;
    }
}

inline std::uint16_t float16_bits(double value) { return narrow_to_16_bits<10>(value); }
inline std::uint16_t bfloat16_bits(double value) { return narrow_to_16_bits<7>(value); }
inline float float16_value(std::uint16_t bits) { return widen_from_16_bits<10>(bits); }
inline float bfloat16_value(std::uint16_t bits) { return widen_from_16_bits<7>(bits); }

}  // namespace ultrasr
