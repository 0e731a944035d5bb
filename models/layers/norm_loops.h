// What the loops over channels-last maps share: float32 and bf16 alike.
#pragma once
#include <c10/core/ScalarType.h>
#include <c10/util/BFloat16.h>

#include <bit>
#include <cstdint>

namespace ultrasr {

inline float load(float x) { return x; }
inline float load(at::BFloat16 x) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(x.x) << 16);
}

inline void store(float y, float& to) { to = y; }
inline void store(float y, at::BFloat16& to) {
    // To nearest, ties to even; a NaN stays one
    const auto bits = std::bit_cast<std::uint32_t>(y);
    const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
    to.x = static_cast<std::uint16_t>(y != y ? 0x7FC0U : rounded);
}

/// Calls work(T{}) with the type as C++ has it.
template <class Work>
void with_type(c10::ScalarType type, const Work& work) {
    if (type == c10::kFloat) {
        work(float{});
    } else {
        work(at::BFloat16{});
    }
}

}  // namespace ultrasr
