#include "metrics/net_metric.h"

#include "data/base/error.h"
#include "data/tensor.h"

namespace ultrasr {

Placement place(const MetricOptions& options) {
    Placement placement = place(options.compute);
    placement.inference_only = true;
    return placement;
}

StateDict load_for_metric(const MetricInfo& metric, std::string_view file,
                          const MetricOptions& options, std::vector<WeightRecord>& records) {
    if (options.source) {
        records.push_back({std::string(file), {}, false});
        return options.source->open(file);
    }
    return while_doing(fmt::format("metric {}", metric.name), [&] {
        KnownWeights known = load_known_weights(file, options.weights);
        records.push_back(known.record);
        return StateDict(std::move(known.tensors), fmt::format("{} ({})", metric.name, file));
    });
}

at::Tensor picture_on(const Image& image, const Placement& placement) {
    return batch_from_image(image).nchw.to(placement.device);
}

NetMetric::NetMetric(const MetricInfo& info, const MetricOptions& options)
    : info_(info), options_(options), placement_(place(options)) {}

StateDict NetMetric::load(std::string_view file) {
    return load_for_metric(info_, file, options_, weights_);
}

MetricProvenance NetMetric::provenance() const {
    return {weights_, {{"device", device_name(placement_)}, {"precision", dtype_name(placement_)}}};
}

}  // namespace ultrasr
