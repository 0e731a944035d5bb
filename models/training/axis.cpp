#include "models/training/axis.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace ultrasr {
namespace {

/// 1, 2 or 5 times a power of ten, so that about `count` steps of it fit into `range`.
struct RoundStep {
    int times = 1, exponent = 0;
    RoundStep(double range, int count) {
        const double rough = range / count;
        exponent = static_cast<int>(std::floor(std::log10(rough)));
        const double rest = rough / std::pow(10.0, exponent);
        times = rest <= 1.5 ? 1 : rest <= 3.5 ? 2 : rest <= 7.5 ? 5 : 10;
    }
    double value(double k) const { return k * times * std::pow(10.0, exponent); }
};

}  // namespace

double Axis::at(double value) const {
    if (log) value = value > 0 ? std::max(std::log10(value), low) : low;
    return (value - low) / (high - low);
}

std::string tick_text(double value) {
    if (value == 0) return "0";
    const double size = std::abs(value);
    if (size < 0.9995e-3 || size >= 1e9) {
        const std::string text = fmt::format("{:.9e}", value);
        const std::size_t e = text.find('e');
        std::string mantissa = text.substr(0, e);
        mantissa.erase(mantissa.find_last_not_of('0') + 1);
        if (mantissa.back() == '.') mantissa.pop_back();
        return mantissa + fmt::format("e{}", std::stoi(text.substr(e + 1)));
    }
    std::string text = fmt::format("{:.10g}", value);
    const std::size_t whole = std::min(text.find('.'), text.size());
    const std::size_t first = value < 0 ? 1 : 0;
    if (whole - first > 4) {  // thousands apart
        for (std::size_t i = whole; i > first + 3; i -= 3) text.insert(i - 3, " ");
    }
    return text;
}

Axis linear_axis(double low, double high, int count, bool whole_numbers) {
    Axis axis{false, low, high, {}, {}};
    RoundStep step(high - low, count);
    if (whole_numbers && step.exponent < 0) step.times = 1, step.exponent = 0;
    const double unit = step.value(1);
    const double slack = 1e-9;  // of a step: rounding may not lose the outermost tick
    const double first = std::ceil(low / unit - slack);
    for (int i = 0; i <= 2 * count; ++i) {
        const double value = step.value(first + i);
        if (value > high + slack * unit) break;
        axis.ticks.push_back({axis.at(value), tick_text(value)});
    }
    return axis;
}

Axis log_axis(double low, double high) {
    const double margin_of_log = 0.03 * std::log10(high / low);
    Axis axis{true, std::log10(low) - margin_of_log, std::log10(high) + margin_of_log, {}, {}};
    const int first = static_cast<int>(std::ceil(axis.low)),
              last = static_cast<int>(std::floor(axis.high));
    const int apart = 1 + (last - first) / 5;  // at most six labels
    for (int e = first - 1; e <= last; ++e) {
        const double power = std::pow(10.0, e);
        if (e >= first && (e - first) % apart == 0) {
            axis.ticks.push_back({axis.at(power), tick_text(power)});
        } else if (e >= first) {
            axis.small_ticks.push_back(axis.at(power));
        }
        for (int k = 2; apart == 1 && k < 10; ++k) {
            const double at = axis.at(k * power);
            if (at >= 0 && at <= 1) axis.small_ticks.push_back(at);
        }
    }
    return axis;
}

}  // namespace ultrasr
