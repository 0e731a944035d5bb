// LibTorch's CUDA graphs, in a library of its own that links LibTorch's CUDA part
// (libultrasr_cuda.so): programs load it after that part, and start without either.
#include "data/tensor/device_graph.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

namespace ultrasr {
namespace {

/// Memory that graphs share, as long as there is one.
struct Pool {
    at::MempoolId_t id = at::cuda::graph_pool_handle();
};

class CudaGraph final : public DeviceGraph {
  public:
    explicit CudaGraph(std::shared_ptr<const Pool> pool) : pool_(std::move(pool)) {}

    /// On the stream that is current, which may not be the default one.
    void record(const DeviceGraphs::Work& work) {
        // Other threads may go on allocating
        graph_.capture_begin(pool_->id, cudaStreamCaptureModeThreadLocal);
        try {
            outputs_ = work();
        } catch (...) {
            try {
                graph_.capture_end();
            } catch (const c10::Error&) {
                // Says that the recording is incomplete: known
            }
            throw;
        }
        graph_.capture_end();
    }

    void replay() override { graph_.replay(); }
    const std::vector<at::Tensor>& outputs() const override { return outputs_; }

  private:
    std::shared_ptr<const Pool> pool_;  // outlives the graph
    at::cuda::CUDAGraph graph_;
    std::vector<at::Tensor> outputs_;
};

class CudaGraphs final : public DeviceGraphs {
  public:
    explicit CudaGraphs(const c10::Device& device)
        : gpu_(at::kCUDA), device_(device), side_(gpu_.getStreamFromGlobalPool(device)) {}

    std::unique_ptr<DeviceGraph> record(const Work& work) override {
        std::shared_ptr<const Pool> pool = pool_.lock();
        if (!pool) pool_ = pool = std::make_shared<const Pool>();
        auto graph = std::make_unique<CudaGraph>(pool);

        gpu_.getStream(device_).synchronize();  // what the work reads is there
        const c10::StreamGuard guard(side_);
        // Libraries choose kernels and take their workspaces outside of the pool
        work();
        side_.synchronize();
        // What this left to the side stream nobody else could use
        c10::getDeviceAllocator(at::kCUDA)->emptyCache();
        graph->record(work);
        return graph;
    }

  private:
    c10::impl::VirtualGuardImpl gpu_;
    c10::Device device_;
    c10::Stream side_;
    std::weak_ptr<const Pool> pool_;
};

}  // namespace
}  // namespace ultrasr

extern "C" __attribute__((visibility("default"))) ultrasr::DeviceGraphs* ultrasr_make_cuda_graphs(
    const c10::Device& device) {
    return new ultrasr::CudaGraphs(device);
}
