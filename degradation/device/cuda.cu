// The queue of a CUDA GPU. No LibTorch, no fmt: this compiles in seconds for every architecture.
#include <cuda_runtime.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "degradation/device/queue.h"

namespace ultrasr {
namespace {

constexpr unsigned threads = 256;
constexpr std::uint32_t most_pictures = 65535;  // blocks of a grid in its second direction

template <class Element>
__global__ void __launch_bounds__(threads)
    run_elements(const Element* records, DeviceMemory memory) {
    const std::uint32_t e = blockIdx.x * threads + threadIdx.x;
    const Element element = records[blockIdx.y];
    if (e < element.elements()) element(memory, e);
}

void check(cudaError_t status, const char* doing) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // an error that can be survived is not reported twice
    throw DeviceFailure(std::string(doing) + ": " + cudaGetErrorString(status));
}

/// Makes a GPU the current one of this thread, and the former again at the end. Choosing a GPU
/// takes memory on it, so none is chosen without need.
class Current {
  public:
    explicit Current(int index) : index_(index) {
        check(cudaGetDevice(&before_), "asking for the current GPU");
        if (before_ != index_) check(cudaSetDevice(index_), "choosing the GPU");
    }
    ~Current() {
        if (before_ != index_) cudaSetDevice(before_);
    }
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

  private:
    int index_;
    int before_ = 0;
};

class CudaQueue : public DeviceQueue {
  public:
    CudaQueue(int index, void* stream) : index_(index), stream_(static_cast<cudaStream_t>(stream)) {
        int driver = 0, count = 0;
        check(cudaDriverGetVersion(&driver), "looking for a driver");
        if (driver == 0) throw DeviceFailure("this machine has no NVIDIA driver");
        check(cudaGetDeviceCount(&count), "looking for a GPU");
        if (index < 0 || index >= count) {
            throw DeviceFailure("there are " + std::to_string(count) + " GPUs, none has number " +
                                std::to_string(index));
        }
        const Current current(index_);
        cudaFuncAttributes attributes;
        check(cudaFuncGetAttributes(&attributes, run_elements<StoreElement>),
              "looking for code for this GPU");
        check(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming), "making an event");
    }
    ~CudaQueue() override {
        cudaEventDestroy(done_);
        for (const cudaEvent_t event : marks_) cudaEventDestroy(event);
    }
    CudaQueue(const CudaQueue&) = delete;
    CudaQueue& operator=(const CudaQueue&) = delete;

    void* allocate(std::size_t bytes) override {
        const Current current(index_);
        void* memory = nullptr;
        check(cudaMalloc(&memory, bytes), "asking for GPU memory");
        return memory;
    }
    void release(void* memory) noexcept override { cudaFree(memory); }

    void* allocate_staging(std::size_t bytes) override {
        const Current current(index_);
        void* memory = nullptr;
        check(cudaMallocHost(&memory, bytes), "asking for page-locked memory");
        return memory;
    }
    void release_staging(void* memory) noexcept override { cudaFreeHost(memory); }

    void copy_in(void* device, const void* staging, std::size_t bytes) override {
        const Current current(index_);
        check(cudaMemcpyAsync(device, staging, bytes, cudaMemcpyHostToDevice, stream_),
              "copying to the GPU");
    }
    void copy_out(void* staging, const void* device, std::size_t bytes) override {
        const Current current(index_);
        check(cudaMemcpyAsync(staging, device, bytes, cudaMemcpyDeviceToHost, stream_),
              "copying from the GPU");
    }
    void zero(void* device, std::size_t bytes) override {
        const Current current(index_);
        check(cudaMemsetAsync(device, 0, bytes, stream_), "clearing GPU memory");
    }

    void launch(const DeviceLaunch& launch, const std::byte* records,
                const DeviceMemory& memory) override {
        const Current current(index_);
        DeviceElements::with_kind(launch.kind, [&](auto* type) {
            using Element = std::remove_cv_t<std::remove_pointer_t<decltype(type)>>;
            const auto* first = reinterpret_cast<const Element*>(records + launch.records);
            const unsigned blocks = (launch.elements + threads - 1) / threads;
            for (std::uint32_t i = 0; i < launch.pictures; i += most_pictures) {
                const unsigned pictures = std::min(launch.pictures - i, most_pictures);
                run_elements<Element>
                    <<<dim3(blocks, pictures), threads, 0, stream_>>>(first + i, memory);
            }
        });
        check(cudaGetLastError(), "launching a kernel");
    }

    void seal() override {
        const Current current(index_);
        check(cudaEventRecord(done_, stream_), "recording an event");
    }
    void finish() override {
        const Current current(index_);
        check(cudaEventSynchronize(done_), "waiting for the GPU");
    }

    void mark(std::size_t n) override {
        const Current current(index_);
        while (marks_.size() <= n) {
            cudaEvent_t event = nullptr;
            check(cudaEventCreate(&event), "making an event");
            marks_.push_back(event);
        }
        check(cudaEventRecord(marks_[n], stream_), "recording an event");
    }
    double milliseconds(std::size_t from, std::size_t to) const override {
        float ms = 0;
        check(cudaEventElapsedTime(&ms, marks_.at(from), marks_.at(to)), "reading an event");
        return ms;
    }

  private:
    int index_;
    cudaStream_t stream_;
    cudaEvent_t done_ = nullptr;
    std::vector<cudaEvent_t> marks_;
};

}  // namespace

std::unique_ptr<DeviceQueue> cuda_queue(int index, void* stream) {
    return std::make_unique<CudaQueue>(index, stream);
}

}  // namespace ultrasr
