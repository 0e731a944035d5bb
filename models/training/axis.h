// Axes of small plots: linear or logarithmic, with round ticks.
#pragma once
#include <string>
#include <vector>

namespace ultrasr {

/// From values to a place between 0 (left, bottom) and 1.
struct Axis {
    struct Tick {
        double at;  ///< [0,1]
        std::string text;
    };
    bool log = false;
    double low = 0.0, high = 1.0;  ///< of the values, or of their logarithms to the base of ten
    std::vector<Tick> ticks;
    std::vector<double> small_ticks;  ///< without a number

    /// On a logarithmic axis all that lies below it, zero too, stands at its foot.
    double at(double value) const;
};

/// From `low` to `high`, low < high, with a tick at every multiple of 1, 2 or 5 times a power of
/// ten.
///
/// count          how many ticks, about
/// whole_numbers  ticks at whole numbers only
Axis linear_axis(double low, double high, int count, bool whole_numbers = false);

/// From a little below `low` to a little above `high`, 0 < low < high, with numbers at powers of
/// ten, at most six, and small ticks between them.
Axis log_axis(double low, double high);

/// A number as people write it, of at most ten digits: 0.02, 2e-5, 20 000.
std::string tick_text(double value);

}  // namespace ultrasr
