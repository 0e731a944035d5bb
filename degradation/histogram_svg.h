// Histograms of many quantities on one SVG page.
#pragma once
#include <string>
#include <nlohmann/json.hpp>

#include "data/base/json.h"

namespace ultrasr {

/// quantities  as statistics() gives them: {name: {source: {mean, bins}, against: {...}, low, high,
///             ks}}
/// source, against   what the two colours are called; against may be empty
std::string histogram_svg(const Json& quantities, const std::string& source,
                          const std::string& against);

}  // namespace ultrasr
