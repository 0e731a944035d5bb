#include "models/layers/norm_silu_cuda.h"

#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <vector>

#include "data/base/error.h"
#include "data/tensor/layers.h"
#include "models/layers/norm_grid.h"

namespace ultrasr {
namespace {

NormNumbers numbers_of(c10::ScalarType type) {
    return type == c10::kHalf       ? NormNumbers::float16
           : type == c10::kBFloat16 ? NormNumbers::bfloat16
                                    : NormNumbers::float32;
}

/// The GPU's blocks one after the other.
void run_norm_on_host(const NormJob& job) {
    const auto each_thread = [](const auto& work) {
        for (std::uint32_t thread = 0; thread < norm_threads; ++thread) work(thread);
    };
    const auto each_block = [&](const auto& work) {
        for (std::uint32_t picture = 0; picture < job.pictures; ++picture) {
            for (std::uint32_t tile = 0; tile < job.tiles; ++tile) {
                for (std::uint32_t block = 0; block < job.blocks; ++block) {
                    each_thread([&](std::uint32_t thread) {
                        work(NormBlock{block, tile, picture}, thread);
                    });
                }
            }
        }
    };
    with_norm_types(
        job, [&]<class In, class Out, unsigned V>(In, Out, std::integral_constant<unsigned, V>) {
            each_block([&](const NormBlock& block, std::uint32_t thread) {
                measure_run<In, V>(job, block, thread);
            });
            std::vector<NormMoments> shared(norm_threads);
            for (std::uint32_t picture = 0; picture < job.pictures; ++picture) {
                for (std::uint32_t group = 0; group < job.groups; ++group) {
                    conclude_group(job, group, picture, shared.data(), each_thread);
                }
            }
            each_block([&](const NormBlock& block, std::uint32_t thread) {
                apply_run<In, Out, V>(job, block, thread);
            });
        });
}

void run(const NormJob& job, const c10::Device& device) {
    if (device.is_cpu()) return run_norm_on_host(job);
#if ULTRASR_CUDA
    const c10::Stream stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
    if (const char* why = run_norm_on_gpu(job, device.index(), stream.native_handle())) {
        fail(Fault::device, "normalising on {}: {}", device.str(), why);
    }
#else
    fail(Fault::internal, "this build has no kernel for {}", device.str());
#endif
}

}  // namespace

bool norm_kernel_takes(const at::Tensor& x) {
    constexpr std::int64_t most_pictures = 65535;  // blocks of a grid in its third direction
    constexpr std::int64_t most_pixels = std::int64_t{1} << 28;
    const c10::ScalarType type = x.scalar_type();
    return ULTRASR_CUDA && x.is_cuda() && needs_no_gradient(x) && x.numel() > 0 &&
           (type == c10::kFloat || type == c10::kHalf || type == c10::kBFloat16) &&
           x.is_contiguous(at::MemoryFormat::ChannelsLast) && x.size(0) <= most_pictures &&
           x.size(2) * x.size(3) <= most_pixels;
}

at::Tensor run_norm_kernel(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const NormKernelOptions& options) {
    const at::Tensor out =
        at::empty(x.sizes(), x.options().dtype(options.out), at::MemoryFormat::ChannelsLast);
    NormJob job{.in = x.const_data_ptr(),
                .out = out.mutable_data_ptr(),
                .in_numbers = numbers_of(x.scalar_type()),
                .out_numbers = numbers_of(options.out),
                .weight = weight.const_data_ptr<float>(),
                .bias = bias.const_data_ptr<float>(),
                .pictures = static_cast<std::uint32_t>(x.size(0)),
                .pixels = static_cast<std::uint32_t>(x.size(2) * x.size(3)),
                .channels = static_cast<std::uint32_t>(x.size(1)),
                .groups = static_cast<std::uint32_t>(options.groups),
                .eps = static_cast<float>(options.eps),
                .silu = options.silu};
    const auto aligned = [](const void* map) {
        return reinterpret_cast<std::uintptr_t>(map) % 16 == 0;
    };
    plan_norm(job, aligned(job.in) && aligned(job.out));
    // Of LibTorch's memory, which a recorded graph keeps
    const auto work = [&](std::size_t values) {
        return at::empty({static_cast<std::int64_t>(values)}, x.options().dtype(c10::kFloat));
    };
    const at::Tensor moments = work(job.moment_values()), affine = work(job.affine_values());
    job.moments = moments.mutable_data_ptr<float>();
    job.affine = affine.mutable_data_ptr<float>();
    run(job, x.device());
    return out;
}

}  // namespace ultrasr
