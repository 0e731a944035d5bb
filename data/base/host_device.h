// Marks a function that both compilers read: the CPU loops over it, a CUDA kernel launches it.
#pragma once

#if defined(__CUDACC__)
#define ULTRASR_HOST_DEVICE __host__ __device__
#else
#define ULTRASR_HOST_DEVICE
#endif
