// The three steps of a group normalisation on a CUDA GPU. No LibTorch, no fmt.
#include <cuda_runtime.h>

#include "models/layers/norm_grid.h"

namespace ultrasr {
namespace {

__device__ NormBlock this_block() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }

template <class In, unsigned V>
__global__ void __launch_bounds__(norm_threads) measure(const NormJob job) {
    measure_run<In, V>(job, this_block(), threadIdx.x);
}

__global__ void __launch_bounds__(norm_threads) conclude(const NormJob job) {
    __shared__ NormMoments shared[norm_threads];
    conclude_group(job, blockIdx.x, blockIdx.y, shared, [](const auto& work) {
        work(threadIdx.x);
        __syncthreads();
    });
}

template <class In, class Out, unsigned V>
__global__ void __launch_bounds__(norm_threads) apply(const NormJob job) {
    apply_run<In, Out, V>(job, this_block(), threadIdx.x);
}

/// Makes a GPU the current one of this thread, and the former again at the end.
class Current {
  public:
    explicit Current(int gpu) : gpu_(gpu) {
        status = cudaGetDevice(&before_);
        if (status == cudaSuccess && before_ != gpu_) status = cudaSetDevice(gpu_);
    }
    ~Current() {
        if (before_ != gpu_) cudaSetDevice(before_);
    }
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

    cudaError_t status = cudaSuccess;

  private:
    int gpu_;
    int before_ = 0;
};

}  // namespace

const char* run_norm_on_gpu(const NormJob& job, int gpu, void* stream) {
    const Current current(gpu);
    if (current.status != cudaSuccess) return cudaGetErrorString(current.status);
    const auto queue = static_cast<cudaStream_t>(stream);
    const dim3 grid(job.blocks, job.tiles, job.pictures);
    with_norm_types(
        job, [&]<class In, class Out, unsigned V>(In, Out, std::integral_constant<unsigned, V>) {
            measure<In, V><<<grid, norm_threads, 0, queue>>>(job);
            conclude<<<dim3(job.groups, job.pictures), norm_threads, 0, queue>>>(job);
            apply<In, Out, V><<<grid, norm_threads, 0, queue>>>(job);
        });
    const cudaError_t status = cudaGetLastError();
    return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace ultrasr
