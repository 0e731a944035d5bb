// The random numbers of a run: each a function of the seed, what it is for, and the sample or step
// it is for, so that a resumed run and several processes draw what one uninterrupted run draws.
#pragma once
#include <cstdint>
#include <string_view>

#include "data/base/random.h"

namespace ultrasr {

/// What a number is for. The values are part of what makes runs repeatable.
enum class Draw : std::uint64_t {
    scale = 1,            ///< a step's s_s
    adapter = 2,          ///< a LoRA's first values
    posterior = 3,        ///< a sample's noise in the encoder's posterior
    timestep = 4,         ///< t of a sample
    noise = 5,            ///< a sample's noise at t
    injection = 6,        ///< Eq. 9
    pairs = 7,            ///< Eq. 6's j
    prompt = 8,           ///< whether a sample's prompt is dropped
    second_timestep = 9,  ///< of VSD's second UNet
    second_noise = 10,
    uncertainty = 11,  ///< posterior_var: pass k adds k
};

inline Rng stream_of(std::uint64_t seed, Draw draw, std::uint64_t index) {
    return {seed ^ (static_cast<std::uint64_t>(draw) * 0x9E3779B97F4A7C15), index};
}

/// FNV-1a of a name.
constexpr std::uint64_t hash_of(std::string_view name) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return hash;
}

}  // namespace ultrasr
