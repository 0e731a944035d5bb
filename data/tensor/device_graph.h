// Work on a GPU that is recorded once and then repeated without the cost of its launches (CUDA
// graphs).
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

namespace ultrasr {

class DeviceGraph {
  public:
    virtual ~DeviceGraph() = default;

    /// Starts the work again, on the stream that is current, with the memory it was recorded with.
    virtual void replay() = 0;

    /// What the work returned: in the graph's own memory, as the last replay() left it.
    virtual const std::vector<at::Tensor>& outputs() const = 0;
};

/// Records graphs whose passing memory is one pool: they may not run at the same time, and results
/// have to be taken before another graph runs.
class DeviceGraphs {
  public:
    virtual ~DeviceGraphs() = default;

    using Work = std::function<std::vector<at::Tensor>()>;

    /// Calls `work` once to have everything ready, and once to record it: results are there after
    /// replay() alone.
    ///
    /// throws  c10::Error, or what `work` throws; the device can be used as before then
    virtual std::unique_ptr<DeviceGraph> record(const Work& work) = 0;
};

/// For a CUDA device that open_device() has opened. LibTorch's graphs lie in its CUDA part, which
/// programs do not link: libultrasr_cuda.so, beside the programs' folder in lib/, does, and is
/// loaded here. Null, after one warning, where it is missing.
std::unique_ptr<DeviceGraphs> open_device_graphs(const c10::Device& device);

/// What libultrasr_cuda.so offers, under that name.
using MakeDeviceGraphs = DeviceGraphs*(const c10::Device& device);
inline constexpr char make_device_graphs_name[] = "ultrasr_make_cuda_graphs";

}  // namespace ultrasr
