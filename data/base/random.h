// Random numbers as a pure function of (seed, item, position): independent of threads and order.
#pragma once
#include <array>
#include <cstdint>

namespace ultrasr {

/// One block of Philox4x32-10.
///
/// counter, key  any bits
/// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

/// The stream of one item. Two streams with different (seed, item) are independent.
class Rng {
  public:
    Rng(std::uint64_t seed, std::uint64_t item) : seed_(seed), item_(item) {}

    std::uint32_t next();

    /// Uniform in [0, bound), without bias. bound >= 1.
    std::uint32_t below(std::uint32_t bound);

    /// Uniform in [0, 1), 53 bits.
    double uniform();

  private:
    std::uint64_t seed_;
    std::uint64_t item_;
    std::uint64_t block_ = 0;
    std::array<std::uint32_t, 4> words_{};
    unsigned used_ = 4;
};

}  // namespace ultrasr
