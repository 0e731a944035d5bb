// What every metric checks before it looks at a pixel.
#pragma once
#include "data/base/fwd.h"
#include "metrics/metric.h"

namespace ultrasr {

/// throws Error(input) when a side of `sr` is below metric.min_side or, for a metric with a full
///        reference, when the sizes differ
void check_input(const MetricInfo& metric, const Image& sr, const Image& hr);

}  // namespace ultrasr
