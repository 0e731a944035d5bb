// What metrics made of networks share: where they compute, which weights they read.
#pragma once
#include <string_view>

#include "data/tensor/device.h"
#include "data/tensor/state_dict.h"
#include "metrics/metric.h"

namespace ultrasr {

/// Gives networks their weights without files: random networks, tests.
class WeightSource {
  public:
    virtual ~WeightSource() = default;
    virtual StateDict open(std::string_view file) const = 0;
};

/// Device and type for the options; a metric's networks compute in float32 unless asked for bf16.
///
/// throws Error(device) without such a device; LibTorch's thread count is set
Placement place(const MetricOptions& options);

/// Reads a known weight file for a metric and notes it in `records`.
///
/// throws Error(input) when it is missing, not the known file, or broken; the message names both
///        the metric and the file
StateDict load_for_metric(const MetricInfo& metric, std::string_view file,
                          const MetricOptions& options, std::vector<WeightRecord>& records);

/// RGB [0,1] 1 x 3 x H x W, float32, on the device.
at::Tensor picture_on(const Image& image, const Placement& placement);

class NetMetric : public Metric {
  public:
    NetMetric(const MetricInfo& info, const MetricOptions& options);

    MetricProvenance provenance() const override;
    bool one_at_a_time() const override { return true; }

  protected:
    /// load_for_metric with this metric's records.
    StateDict load(std::string_view file);

    const MetricInfo& info_;
    MetricOptions options_;
    Placement placement_;
    std::vector<WeightRecord> weights_;
};

}  // namespace ultrasr
