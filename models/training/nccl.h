// NCCL between processes with a GPU each. It needs LibTorch's CUDA part, which programs do not
// link: libultrasr_nccl.so does, and is loaded when several processes have GPUs. For
// models/training/ processes.cpp.
#pragma once
#include <c10/util/intrusive_ptr.h>

#include <chrono>

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace ultrasr {

/// What libultrasr_nccl.so offers, under that name: NCCL for the tensors of the current GPU.
///
/// throws  c10::Error
using MakeNccl = c10::intrusive_ptr<c10d::Backend>(const c10::intrusive_ptr<c10d::Store>& store,
                                                   int rank, int size,
                                                   std::chrono::milliseconds timeout);
inline constexpr char make_nccl_name[] = "ultrasr_make_nccl";

}  // namespace ultrasr
