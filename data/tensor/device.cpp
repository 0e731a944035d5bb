#include "data/tensor/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <dlfcn.h>
#include <malloc.h>

#include <atomic>
#include <charconv>
#include <filesystem>
#include <mutex>

#include "data/base/error.h"
#include "data/base/log.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

/// Loads libtorch_cuda.so from the folder of libtorch_cpu.so, once. It registers itself.
void load_cuda_part() {
    static const std::string fault = []() -> std::string {
        Dl_info info{};
        if (::dladdr(reinterpret_cast<const void*>(&at::get_num_threads), &info) == 0) {
            return "the folder of LibTorch is not known";
        }
        const fs::path library = fs::path(info.dli_fname).parent_path() / "libtorch_cuda.so";
        if (::dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL)) return {};
        const char* why = ::dlerror();
        return why ? why : "it does not load";
    }();
    if (!fault.empty()) {
        fail(
            Fault::device,
            "this LibTorch has no CUDA part ({}); install the full torch wheel or use --device cpu",
            fault);
    }
}

/// Has freed memory kept for the next map. Networks allocate and free maps of megabytes all the
/// time; given back to the system each time they come back as fresh pages, which cost a tenth
/// (VGG16) to a third (SRVGGNet) of the run.
void keep_freed_memory() {
#ifdef __GLIBC__
    constexpr int large = 1 << 30;
    if (::mallopt(M_MMAP_THRESHOLD, large) == 0) ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
    ::mallopt(M_TRIM_THRESHOLD, large);
    ::mallopt(M_TOP_PAD, 64 << 20);
#endif
}

/// True when LibTorch has bf16 convolutions for this CPU.
bool cpu_convolves_bf16() {
    const auto op =
        c10::Dispatcher::singleton().findSchema({"mkldnn::_is_mkldnn_bf16_supported", ""});
    return op && op->typed<bool()>().call();
}

}  // namespace

ReturnFreedMemory::ReturnFreedMemory() {
#ifdef __GLIBC__
    constexpr int block = 256 << 10;
    ::mallopt(M_MMAP_THRESHOLD, block);
    ::mallopt(M_TRIM_THRESHOLD, block);
    ::mallopt(M_TOP_PAD, 0);
#endif
}

ReturnFreedMemory::~ReturnFreedMemory() { keep_freed_memory(); }

c10::Device open_device(std::string_view name) {
    if (name == "cpu") return c10::Device(c10::kCPU);
    int index = 0;
    bool known = name == "cuda";
    if (name.starts_with("cuda:")) {
        const auto [end, code] = std::from_chars(name.data() + 5, name.data() + name.size(), index);
        known = code == std::errc{} && end == name.data() + name.size() && index >= 0;
    }
    if (!known) fail(Fault::usage, "unknown device {}; known: cpu, cuda, cuda:N", name);
    load_cuda_part();
    // Float32 means float32: convolutions would round to ten bits where the GPU is faster so
    at::globalContext().setAllowTF32CuDNN(false);
    const std::size_t count = at::hasCUDA() ? at::getNumGPUs() : 0;
    if (static_cast<std::size_t>(index) >= count) {
        fail(Fault::device, "no GPU {}: LibTorch sees {}; check the driver or use --device cpu",
             index, count);
    }
    return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
}

Placement place(const ComputeOptions& options) {
    static std::once_flag once;
    std::call_once(once, keep_freed_memory);
    at::set_num_threads(std::max(1, options.threads));
    Placement placement{.device = open_device(options.device)};
    const bool cpu = placement.device.is_cpu();
    if (options.precision == Precision::fp16) {
        if (cpu) fail(Fault::device, "fp16 needs a GPU; use --precision bf16 or fp32 on the CPU");
        placement.dtype = c10::kHalf;
    } else if (options.precision == Precision::bf16) {
        placement.dtype = c10::kBFloat16;
        placement.emulated = cpu && !cpu_convolves_bf16();
        static std::atomic<bool> warned{false};
        if (cpu && !__builtin_cpu_supports("avx512bf16") && !warned.exchange(true)) {
            warn(
                "this CPU has no bf16 instructions: --precision bf16 costs accuracy and gains no "
                "speed here; use fp32");
        }
    }
    return placement;
}

std::string device_name(const Placement& placement) { return placement.device.str(); }

std::string dtype_name(const Placement& placement) {
    if (placement.dtype == c10::kHalf) return "fp16";
    if (placement.dtype == c10::kBFloat16) return placement.emulated ? "bf16 (emulated)" : "bf16";
    return "fp32";
}

}  // namespace ultrasr
