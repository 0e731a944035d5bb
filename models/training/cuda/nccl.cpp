// LibTorch's NCCL, in a library of its own that links LibTorch's CUDA part (libultrasr_nccl.so). It
// is built where nccl.h of the same wheels is found: c10d holds NCCL's structures by value.
#include "models/training/nccl.h"

#define USE_C10D_NCCL  // LibTorch's build says so to itself only
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <cstdlib>

#pragma GCC diagnostic ignored "-Wreturn-type-c-linkage"

extern "C" __attribute__((visibility("default"))) c10::intrusive_ptr<c10d::Backend>
ultrasr_make_nccl(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                  std::chrono::milliseconds timeout) {
    // wait() then throws when a process is lost, instead of a watchdog that ends this one
    ::setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0);
    const auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
}
