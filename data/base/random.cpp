#include "data/base/random.h"

#include "data/base/philox.h"

namespace ultrasr {
namespace {

std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
std::uint32_t high(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c,
                                        std::array<std::uint32_t, 2> k) {
    PhiloxWords<1> words{{{c[0]}, {c[1]}, {c[2]}, {c[3]}}};
    philox_(words, k[0], k[1]);
    return {words.word[0][0], words.word[1][0], words.word[2][0], words.word[3][0]};
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
