// Low-rank adapters: what a checkpoint adds to the weights of a base model.
#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "data/tensor/named_tensors.h"
#include "data/weights/lora_file.h"

namespace ultrasr {

/// The adapter of one module: W + scale B A (Hu et al. 2022, Eq. 3).
struct LoraPair {
    at::Tensor a;  ///< r x in, or r x in x k x k
    at::Tensor b;  ///< out x r, or out x r x 1 x 1
    double scale = 1.0;
};

/// Adapters by the name of their module; several may sit on one.
using LoraSet = std::map<std::string, std::vector<LoraPair>>;

/// What a file has for one network.
struct NetAdapters {
    LoraSet adapters;
    NamedTensors replaced;  ///< tensors that take the place of the base's, such as conv_in.weight
};

/// The tensors of a file's part, in their stored types, as views of the file.
NetAdapters tensors_of(const LoraNet& net, const Checkpoint& file);

/// scale B A as the module's weight has it: out x in, or out x in x k x k; float32, on the CPU.
///
/// throws Error(input) when A and B do not fit each other
at::Tensor lora_delta(const LoraPair& pair);

/// Merges adapters into weights while a network takes them, one by one:
///
///     LoraMerger merge(adapters, "OSEDiff (osediff.pkl)");
///     weights.edit(merge);
///     const UNet unet(weights, config, placement);
///     merge.finish();
///
/// Copies share their memory of what was merged.
class LoraMerger {
  public:
    /// what  the adapters' file, for the message
    LoraMerger(LoraSet adapters, std::string what);

    /// name     of a tensor; adapters sit on those called <module>.weight
    /// weight   float32, on the CPU; not written into
    /// returns  the merged weight, or `weight` itself where there is nothing to merge
    /// throws   Error(input) when an adapter does not fit the weight
    at::Tensor operator()(const std::string& name, const at::Tensor& weight) const;

    /// throws Error(input) that names the first ten modules the network did not have
    void finish() const;

  private:
    struct State {
        LoraSet adapters;
        std::string what;
        std::set<std::string> merged;
    };
    std::shared_ptr<State> state_;
};

}  // namespace ultrasr
