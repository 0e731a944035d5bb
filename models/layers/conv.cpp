#include "models/layers/conv.h"

namespace ultrasr {

Conv3x3::Conv3x3(const NamedTensors& weights, const std::string& key, const Placement& placement)
    : conv_(weights.at(key + ".weight"), weights.at(key + ".bias"), {.padding = {1, 1}},
            placement) {}

}  // namespace ultrasr
