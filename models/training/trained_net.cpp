#include "models/training/trained_net.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <fmt/format.h>

#include <cmath>

#include "data/base/error.h"
#include "data/weights/diffusers_files.h"
#include "models/normal_noise.h"
#include "models/training/draws.h"

namespace ultrasr {
namespace {

constexpr const char* lora_a = ".lora_A.weight";
constexpr const char* lora_b = ".lora_B.weight";

UNetConfig config_of(const UNet*, const ModelFiles& files) {
    return UNetConfig::from_json(files.config, files.what);
}
VaeConfig config_of(const Vae*, const ModelFiles& files) {
    return VaeConfig::from_json(files.config, files.what);
}

template <class Net>
auto config_of(const ModelFiles& files) {
    return config_of(static_cast<const Net*>(nullptr), files);
}

/// A leaf of its own, laid out as the layers want it.
at::Tensor leaf(const at::Tensor& values, const Placement& placement) {
    const at::Tensor placed = values.detach().to(placement.device, at::kFloat, false, true);
    return (placed.dim() == 4 ? placed.contiguous(at::MemoryFormat::ChannelsLast) : placed)
        .requires_grad_(true);
}

}  // namespace

NamedTensors merge_adapters(NamedTensors tensors, const NetAdapters& adapters,
                            const std::string& what) {
    for (const auto& [name, tensor] : adapters.replaced) tensors[name] = tensor;
    const LoraMerger merge(adapters.adapters, what);
    for (auto& [name, tensor] : tensors) {
        if (adapters.adapters.contains(std::string(module_of(name)))) {
            tensor = merge(name, tensor.to(at::kFloat));
        }
    }
    merge.finish();
    return tensors;
}

template <class Net>
Net frozen_net(const ModelFiles& files, const Placement& placement) {
    const ReturnFreedMemory for_weights;
    const auto config = config_of<Net>(files);
    StateDict weights(with_standard_names(files.tensors, Net::tensor_shapes(config)), files.what);
    AdapterTable unused;
    Net net(weights, config, placement, &unused);
    weights.finish();
    return net;
}

template UNet frozen_net<UNet>(const ModelFiles&, const Placement&);
template Vae frozen_net<Vae>(const ModelFiles&, const Placement&);

template <class Net>
TrainedNet<Net>::TrainedNet(ModelFiles files, const Learning& learning, const Placement& placement)
    : files_(std::move(files)),
      scale_(learning.rank > 0 ? learning.alpha / static_cast<double>(learning.rank) : 0.0),
      net_(build(learning, placement)) {}

template <class Net>
Net TrainedNet<Net>::build(const Learning& learning, const Placement& placement) {
    const ReturnFreedMemory for_weights;
    const auto config = config_of<Net>(files_);
    const Shapes shapes = Net::tensor_shapes(config);
    files_.tensors = with_standard_names(std::move(files_.tensors), shapes);
    StateDict weights(files_.tensors, files_.what);
    weights.edit([&](const std::string& name, const at::Tensor& values) {
        if (!learning.whole || !learning.whole(name)) return values;
        return parameters_.emplace(name, leaf(values, placement)).first->second;
    });
    AdapterTable table;
    Net net(weights, config, placement, &table);
    weights.finish();

    LoraSet adapters;
    for (const std::string& module : learning.modules) {
        const auto weight = shapes.find(module + ".weight");
        require(weight != shapes.end(), "{} has no module {} to adapt", files_.what, module);
        std::vector<std::int64_t> a = weight->second, b(a.size(), 1);
        b[0] = a[0];
        b[1] = a[0] = learning.rank;
        Rng rng = stream_of(learning.seed, Draw::adapter, hash_of(module));
        const at::Tensor values = normal_noise(a, rng) / static_cast<double>(learning.rank);
        LoraPair pair{.a = leaf(values, placement),
                      .b = leaf(at::zeros(b, at::kFloat), placement),
                      .scale = scale_};
        parameters_.emplace(module + lora_a, pair.a);
        parameters_.emplace(module + lora_b, pair.b);
        adapters[module].push_back(std::move(pair));
    }
    attach_lora(table, adapters, placement, files_.what);
    return net;
}

template <class Net>
NamedTensors TrainedNet<Net>::merged(const NamedTensors& values) const {
    NetAdapters learnt;
    for (const auto& [name, value] : values) {
        const at::Tensor on_cpu = value.detach().to(at::kCPU);
        if (name.ends_with(lora_a)) {
            const std::string module = name.substr(0, name.size() - std::string(lora_a).size());
            learnt.adapters[module] = {{.a = on_cpu,
                                        .b = values.at(module + lora_b).detach().to(at::kCPU),
                                        .scale = scale_}};
        } else if (!name.ends_with(lora_b)) {
            learnt.replaced.emplace(name, on_cpu);
        }
    }
    NamedTensors result = merge_adapters(files_.tensors, learnt, files_.what);
    for (auto& [name, tensor] : result) tensor = tensor.to(at::kFloat).contiguous();
    return result;
}

template class TrainedNet<UNet>;
template class TrainedNet<Vae>;

}  // namespace ultrasr
