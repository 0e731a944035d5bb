#include "degradation/draws.h"

#include <algorithm>
#include <numeric>
#include <nlohmann/json.hpp>

#include "data/file.h"
#include "degradation/steps/noise.h"

namespace ultrasr {

double draw_unit(const Stream& stream, std::uint32_t slot, std::uint32_t level) {
    const StreamKey key{stream.seed, stream.id, stream.variant, slot, level};
    const PhiloxWords<1> words = stream_words<1>(key, 0, 0);
    const std::uint64_t bits = std::uint64_t{words.word[0][0]} << 32 | words.word[1][0];
    return static_cast<double>(bits >> 11) * 0x1p-53;
}

std::uint64_t path_id(std::string_view relative_path) {
    return std::stoull(sha256(relative_path).substr(0, 12), nullptr, 16);
}

double Draws::uniform(std::uint32_t slot, std::string_view name, Range range,
                      bool worse_when_small) {
    const double u = unit(slot);
    const bool turned = worse_when_small && orientation_ == Orientation::worse_up;
    const double value = range.low + (range.high - range.low) * (turned ? 1 - u : u);
    log_[std::string(name)] = {u, value};
    return value;
}

bool Draws::chance(std::uint32_t slot, std::string_view name, double probability,
                   bool yes_is_milder) {
    const double u = unit(slot);
    const bool turned = orientation_ == Orientation::worse_up && !yes_is_milder;
    const bool yes = turned ? u >= 1 - probability : u < probability;
    log_[std::string(name)] = {u, yes};
    return yes;
}

std::size_t Draws::weighted(std::uint32_t slot, std::string_view name,
                            std::span<const double> weights) {
    const double u = unit(slot);
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::size_t i = 0;
    for (double sum = weights[0]; i + 1 < weights.size() && !(u * total < sum);)
        sum += weights[++i];
    while (weights[i] == 0 && i > 0) --i;  // rounding must not end on what cannot happen
    log_[std::string(name)] = {u, i};
    return i;
}

std::size_t Draws::choice(std::uint32_t slot, std::string_view name, std::size_t n, int first,
                          int step) {
    const double u = unit(slot);
    const auto i = static_cast<std::size_t>(static_cast<double>(n) * u);
    log_[std::string(name)] = {u, first + step * static_cast<int>(i)};
    return i;
}

int Draws::integer(std::uint32_t slot, std::string_view name, int low, int high) {
    const double u = unit(slot);
    const int value = low + static_cast<int>(u * (high - low + 1));
    log_[std::string(name)] = {u, value};
    return value;
}

}  // namespace ultrasr
