#include "data/base/random.h"

namespace ultrasr {
namespace {

constexpr std::uint32_t multiplier_0 = 0xD2511F53;  // Salmon et al. 2011, table 2 (Philox 4x32)
constexpr std::uint32_t multiplier_1 = 0xCD9E8D57;
constexpr std::uint32_t weyl_0 = 0x9E3779B9;  // golden ratio
constexpr std::uint32_t weyl_1 = 0xBB67AE85;  // sqrt(3) - 1
constexpr int rounds = 10;

std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
std::uint32_t high(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c,
                                        std::array<std::uint32_t, 2> k) {
    for (int round = 0; round < rounds; ++round) {
        const std::uint64_t p0 = std::uint64_t{multiplier_0} * c[0];
        const std::uint64_t p1 = std::uint64_t{multiplier_1} * c[2];
        c = {high(p1) ^ c[1] ^ k[0], low(p1), high(p0) ^ c[3] ^ k[1], low(p0)};
        k = {k[0] + weyl_0, k[1] + weyl_1};
    }
    return c;
}

std::uint32_t Rng::next() {
    if (used_ == words_.size()) {
        words_ = philox4x32({low(block_), high(block_), low(item_), high(item_)},
                            {low(seed_), high(seed_)});
        ++block_;
        used_ = 0;
    }
    return words_[used_++];
}

std::uint32_t Rng::below(std::uint32_t bound) {
    // Reject the incomplete last interval, so that every remainder is equally likely
    const std::uint32_t rejected = (0u - bound) % bound;
    for (;;) {
        const std::uint32_t word = next();
        if (word >= rejected) return word % bound;
    }
}

double Rng::uniform() {
    const std::uint64_t bits = (std::uint64_t{next()} << 32 | next()) >> 11;
    return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace ultrasr
