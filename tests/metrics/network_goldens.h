// The reference's scores with generated weights: tests/golden/metrics_networks.csv.
#pragma once
#include <string>
#include <vector>

#include "data/base/geometry.h"
#include "metrics/metric.h"

namespace ultrasr::test {

struct NetworkGolden {
    std::string metric;   ///< pyiqa's name: lpips, not lpips-alex
    std::string weights;  ///< "generated", or "real head": generated but for the small learned part
    std::string kind;
    PixelSize size;
    std::string crops;
    double value = 0;
};

/// The rows of a metric. Never empty.
std::vector<NetworkGolden> network_goldens(const std::string& metric);

/// Options for a row: weights by formula; with "real head" the LPIPS heads and the weights of
/// DISTS from the project's files.
MetricOptions network_options(const std::string& weights = "generated", int threads = 1);

}  // namespace ultrasr::test
