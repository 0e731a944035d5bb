// The middle of some numbers.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

namespace ultrasr {

/// The median; of an even number of values the mean of the middle two; NaN when there are none.
inline double median_of(std::vector<double> values) {
    if (values.empty()) return std::nan("");
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    if (values.size() % 2 == 1) return *middle;
    return 0.5 * (*std::max_element(values.begin(), middle) + *middle);
}

}  // namespace ultrasr
