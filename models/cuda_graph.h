// Passes of networks as recorded graphs, one for each size: at small sizes a GPU waits for its
// launches otherwise.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "data/tensor/device_graph.h"

namespace ultrasr {

class GraphCache {
  public:
    using Tensors = std::vector<at::Tensor>;
    /// Does the same for the same sizes, without waiting for the device.
    using Pass = std::function<Tensors(const Tensors& inputs)>;

    /// most  graphs that are kept; beyond it the one longest unused goes
    explicit GraphCache(std::unique_ptr<DeviceGraphs> device, std::size_t most = 8);

    /// pass(inputs), bit for bit. A pass that comes for the first time with a name and sizes (a
    /// bucket) runs as it is, the second time it is recorded, from then on repeated. Where
    /// recording fails passes run as they are from then on, after a warning.
    ///
    /// name     stands for what the pass does, its weights included
    /// inputs   on any device; a recorded pass gets copies of them on the first one's device
    /// returns  tensors of the caller's
    Tensors run(const std::string& name, const Tensors& inputs, const Pass& pass);

    /// Forgets all graphs: the passes' weights changed.
    void clear();

  private:
    struct Recorded {
        std::string bucket;
        Tensors inputs;  ///< the graph's own
        std::unique_ptr<DeviceGraph> graph;
    };
    bool seen_before(const std::string& bucket);
    Recorded record(const std::string& bucket, const Tensors& inputs, const Pass& pass);

    std::mutex mutex_;
    std::unique_ptr<DeviceGraphs> device_;
    std::size_t most_;
    std::list<Recorded> recorded_;  ///< latest used first
    std::deque<std::string> seen_;  ///< not recorded, latest first
    bool broken_ = false;
};

/// For passes on that device: null on a CPU, where ULTRASR_CUDA_GRAPHS is 0 in the environment (to
/// look into the passes), and where open_device_graphs() finds nothing.
std::unique_ptr<GraphCache> open_graph_cache(const c10::Device& device);

}  // namespace ultrasr
