// Networks of which some tensors learn: all of them, some by name, or low-rank adapters beside
// frozen ones.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "models/diffusers_folder.h"
#include "models/lora.h"
#include "models/unet.h"
#include "models/vae.h"

namespace ultrasr {

/// What of a network learns.
struct Learning {
    /// Tensors that learn themselves, by name; empty: none.
    std::function<bool(const std::string& tensor)> whole;
    std::vector<std::string> modules;  ///< that get an adapter
    std::int64_t rank = 0;
    double alpha = 0.0;  ///< adapters count alpha / rank
    std::uint64_t seed = 0;
};

/// A network, its learning tensors, and what it becomes when they are put into its weights.
///
/// Net  UNet or Vae
template <class Net>
class TrainedNet {
  public:
    /// files      the network that training begins with
    /// placement  device and type of what is frozen; what learns is float32 there
    /// throws     Error(input) as the networks do
    TrainedNet(ModelFiles files, const Learning& learning, const Placement& placement);

    const Net& net() const { return net_; }
    Net& net() { return net_; }

    /// Leaves: "<tensor>" for whole ones, "<module>.lora_A.weight" and ".lora_B.weight" for
    /// adapters. A starts as N(0, 1 / rank^2) by name and seed alone, B as zeros (peft's
    /// "gaussian").
    const NamedTensors& parameters() const { return parameters_; }

    /// All of the network's tensors with the learning ones merged in, float32, on the CPU.
    ///
    /// values  in place of parameters(), such as their averages; names as there
    NamedTensors merged(const NamedTensors& values) const;

    const Json& config() const { return files_.config; }

  private:
    Net build(const Learning& learning, const Placement& placement);

    ModelFiles files_;  // views of files
    double scale_ = 0.0;
    NamedTensors parameters_;
    Net net_;
};

extern template class TrainedNet<UNet>;
extern template class TrainedNet<Vae>;

/// A network as it is, for passes without gradients to its weights.
template <class Net>
Net frozen_net(const ModelFiles& files, const Placement& placement);

/// Weights with adapters merged in, float32 where there was something to merge.
NamedTensors merge_adapters(NamedTensors tensors, const NetAdapters& adapters,
                            const std::string& what);

}  // namespace ultrasr
