#include "degradation/steps/variates.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "degradation/steps/exact_math.h"

namespace ultrasr {
namespace {

struct Tables {
    std::vector<PoissonEntry> entries;
    std::vector<std::uint32_t> thresholds;
    PoissonTable view;

    Tables() {
        for (int log_v = 0; log_v <= 8; ++log_v) {
            for (int k = 0; k < 256; ++k)
                entries.push_back(make_poisson_entry(std::ldexp(k, log_v) / 255.0, thresholds));
        }
        view = {entries.data(), thresholds.data(), static_cast<std::uint32_t>(thresholds.size())};
    }
};

/// Adds the thresholds of probabilities for n = first, first + 1 ... that sum up to 1.
void add_thresholds(PoissonEntry& entry, std::vector<std::uint32_t>& thresholds, int first,
                    const std::vector<double>& probabilities) {
    double below = 0;
    int n = first;
    entry.first = static_cast<std::uint16_t>(first);
    for (const double probability : probabilities) {
        below += probability;
        const double threshold = std::floor(below * 0x1p32 + 0.5);
        if (threshold >= 0x1p32) break;
        ++n;
        if (threshold < 1) {
            entry.first = static_cast<std::uint16_t>(n);
        } else {
            thresholds.push_back(static_cast<std::uint32_t>(threshold));
        }
    }
    entry.thresholds = static_cast<std::uint16_t>(thresholds.size() - entry.offset);
}

/// Probabilities from n = 0 up, while they matter.
std::vector<double> from_zero(double mean) {
    std::vector<double> p{exact::exp(-mean)};
    double sum = p[0];
    for (int n = 1; sum < 1 - 1e-11 && n < 1000; ++n) {
        p.push_back(p.back() * mean / n);
        sum += p.back();
    }
    return p;
}

/// The same for means whose exp(-mean) is too small to begin with: both ways from the mode, as a
/// share of their sum. `first` receives where they begin.
std::vector<double> around_mode(double mean, int& first) {
    const int mode = static_cast<int>(mean), reach = static_cast<int>(8 * std::sqrt(mean)) + 8;
    first = std::max(mode - reach, 0);
    std::vector<double> p(static_cast<std::size_t>(mode + reach - first + 1));
    const auto at = [&](int n) -> double& { return p[static_cast<std::size_t>(n - first)]; };
    at(mode) = 1;
    double sum = 1;
    for (int n = mode - 1; n >= first; --n) sum += at(n) = at(n + 1) * (n + 1) / mean;
    for (int n = mode + 1; n <= mode + reach; ++n) sum += at(n) = at(n - 1) * mean / n;
    for (double& probability : p) probability /= sum;
    return p;
}

}  // namespace

PoissonEntry make_poisson_entry(double mean, std::vector<std::uint32_t>& thresholds) {
    PoissonEntry entry;
    entry.offset = static_cast<std::uint32_t>(thresholds.size());
    int first = 0;
    const std::vector<double> p = mean <= 256 ? from_zero(mean) : around_mode(mean, first);
    add_thresholds(entry, thresholds, first, p);
    for (std::uint32_t g = 0; g < 32; ++g) {
        std::uint16_t passed = 0;
        while (passed < entry.thresholds && thresholds[entry.offset + passed] <= g << 27) ++passed;
        entry.guide[g] = passed;
    }
    thresholds.insert(thresholds.end(), poisson_spare, 0xFFFFFFFFU);
    return entry;
}

const PoissonTable& poisson_table() {
    static const Tables tables;
    return tables.view;
}

}  // namespace ultrasr
