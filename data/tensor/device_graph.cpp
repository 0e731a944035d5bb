#include "data/tensor/device_graph.h"

#include <dlfcn.h>

#include <filesystem>

#include "data/base/log.h"

namespace ultrasr {
namespace {

/// The maker of libultrasr_cuda.so; null where that does not load.
MakeDeviceGraphs* find_maker() {
    std::error_code ignored;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
    const auto library = program.parent_path().parent_path() / "lib" / "libultrasr_cuda.so";
    if (void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL)) {
        if (void* maker = ::dlsym(handle, make_device_graphs_name)) {
            return reinterpret_cast<MakeDeviceGraphs*>(maker);
        }
    }
    const char* why = ::dlerror();
    warn(
        "CUDA graphs are not used, small pictures will take longer: {}; build the target "
        "ultrasr_cuda",
        why ? why : "libultrasr_cuda.so does not load");
    return nullptr;
}

}  // namespace

std::unique_ptr<DeviceGraphs> open_device_graphs(const c10::Device& device) {
    static MakeDeviceGraphs* const make = find_maker();
    return std::unique_ptr<DeviceGraphs>(make ? make(device) : nullptr);
}

}  // namespace ultrasr
