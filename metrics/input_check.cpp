#include "metrics/input_check.h"

#include <algorithm>

#include "data/base/error.h"
#include "data/image.h"

namespace ultrasr {

void check_input(const MetricInfo& metric, const Image& sr, const Image& hr) {
    require(metric.reference == Reference::none || sr.size() == hr.size(),
            "{} compares pictures of equal size, got {}x{} (restored) and {}x{} (HR)", metric.name,
            sr.width(), sr.height(), hr.width(), hr.height());
    require(
        std::min(sr.width(), sr.height()) >= metric.min_side,
        "{} needs sides of at least {} pixels, got {}x{}; leave it out or give a larger picture",
        metric.name, metric.min_side, sr.width(), sr.height());
}

}  // namespace ultrasr
