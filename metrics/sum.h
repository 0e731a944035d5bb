// Sums in a fixed order that a processor can do several lanes at a time: the same bits whatever
// its vector width, because the compiler may not reorder additions by itself.
#pragma once
#include <array>

namespace ultrasr {

/// Adds up terms in 16 interleaved partial sums, which are joined at the end.
class LaneSum {
  public:
    static constexpr int lanes = 16;

    /// Adds term(0) ... term(count - 1).
    template <class Term>
    void add(int count, Term term) {
        std::array<double, lanes> sums = sums_;  // a local copy stays in registers
        int i = 0;
        for (; i + lanes <= count; i += lanes) {
            for (int lane = 0; lane < lanes; ++lane) {
                sums[static_cast<unsigned>(lane)] += term(i + lane);
            }
        }
        for (int lane = 0; i < count; ++i, ++lane) sums[static_cast<unsigned>(lane)] += term(i);
        sums_ = sums;
    }

    double total() const {
        double total = 0.0;
        for (const double sum : sums_) total += sum;
        return total;
    }

  private:
    std::array<double, lanes> sums_{};
};

}  // namespace ultrasr
