#include "tests/metrics/network_goldens.h"

#include "data/base/error.h"
#include "tests/metrics/generated_weights.h"
#include "tests/metrics/pictures.h"
#include "tests/test.h"

namespace ultrasr::test {

std::vector<NetworkGolden> network_goldens(const std::string& metric) {
    std::vector<NetworkGolden> rows;
    for (const Row& row :
         read_table(source_folder() / "tests" / "golden" / "metrics_networks.csv")) {
        if (row.at("metric") != metric) continue;
        rows.push_back({metric,
                        row.at("weights"),
                        row.at("kind"),
                        {std::stoi(row.at("width")), std::stoi(row.at("height"))},
                        row.at("crops"),
                        std::stod(row.at("value"))});
    }
    require(!rows.empty(), "no golden rows of {}", metric);
    return rows;
}

MetricOptions network_options(const std::string& weights, int threads) {
    /// Small files of the project as they are, networks by formula.
    struct RealHeads final : WeightSource {
        StateDict open(std::string_view file) const override {
            if (file.starts_with("LPIPS") || file.starts_with("DISTS")) {
                return StateDict(load_known_weights(file, {}).tensors, std::string(file));
            }
            return generated_source()->open(file);
        }
    };
    static const auto real_heads = std::make_shared<const RealHeads>();
    MetricOptions options;
    options.compute.threads = threads;
    options.source = generated_source();
    if (weights == "real head") options.source = real_heads;
    return options;
}

}  // namespace ultrasr::test
